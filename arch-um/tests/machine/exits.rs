//! Ways out of the process.

use crate::{Status, Want, boot, tests};
use arch_um::exit;
use arch_um::thread;
use std::sync::Arc;

const ABORTED: Status = Status::Signal(6);

tests! {
    exit_runs_hooks_in_reverse_order_and_gives_the_low_byte =>
        Want { status: Status::Code(44), output: &["third\nsecond\nfirst\n"] };
    a_kernel_panic_prints_runs_hooks_and_aborts =>
        Want { status: ABORTED, output: &["Kernel panic - not syncing: Attempted to kill init!\n", "hook ran\n"] };
    panic_hooks_get_the_message_before_the_exit_hooks =>
        Want { status: ABORTED, output: &["told: why\nhook ran\n"] };
    a_panic_without_consoles_dumps_the_log =>
        Want { status: ABORTED, output: &["kmsg_dump:\n", "] early words\n", "not syncing: no console"] };
    a_rust_panic_is_a_kernel_panic =>
        Want { status: ABORTED, output: &["kernel BUG at ", "not syncing: index out of bounds", "hook ran\n"] };
    a_panic_on_a_host_thread_is_one_too =>
        Want { status: ABORTED, output: &["not syncing: in the pool"] };
    a_stack_overflow_names_its_thread =>
        Want { status: ABORTED, output: &["Kernel panic - not syncing: stack overflow in deep\n", "hook ran\n"] };
    a_segfault_of_the_kernel_is_told =>
        Want { status: ABORTED, output: &["Kernel panic - not syncing: segfault at 0x10, ip 0x", ", in wild"] };
    sigterm_cleans_up_and_exits_with_one =>
        Want { status: Status::Code(1), output: &["hook ran\n"] };
    sigint_cleans_up_and_exits_with_one =>
        Want { status: Status::Code(1), output: &["hook ran\n"] };
    sigquit_cleans_up_and_dies_by_it =>
        Want { status: Status::Signal(libc::SIGQUIT), output: &["hook ran\n"] };
    sighup_cleans_up_and_dies_by_it =>
        Want { status: Status::Signal(libc::SIGHUP), output: &["hook ran\n"] };
    a_panicking_hook_does_not_hang =>
        Want { status: Status::Code(3), output: &[] };
    a_hanging_hook_is_ended_by_the_watchdog =>
        Want { status: Status::Code(5), output: &[] };
    a_panic_under_a_lock_of_the_log_still_ends =>
        Want { status: ABORTED, output: &["in a console"] };
    restart_executes_the_program_again =>
        Want { status: Status::Code(0), output: &["hook ran\n", "again\n"] };
}

fn say(text: &'static str) -> Box<dyn FnOnce() + Send> {
    Box::new(move || println!("{text}"))
}

fn hooked(main: impl FnOnce() + Send + 'static) -> ! {
    exit::at_exit(say("hook ran"));
    boot(2, main)
}

fn exit_runs_hooks_in_reverse_order_and_gives_the_low_byte() {
    for text in ["first", "second", "third"] {
        exit::at_exit(say(text));
    }
    boot(2, || exit::exit(300))
}

fn a_kernel_panic_prints_runs_hooks_and_aborts() {
    hooked(|| exit::kernel_panic("Attempted to kill init!"))
}

fn panic_hooks_get_the_message_before_the_exit_hooks() {
    exit::at_panic(Box::new(|message| println!("told: {message}")));
    hooked(|| exit::kernel_panic("why"))
}

fn a_panic_without_consoles_dumps_the_log() {
    arch_um::pr_info!("early words");
    arch_um::cpu::run(1, Box::new(|| exit::kernel_panic("no console")))
}

fn a_rust_panic_is_a_kernel_panic() {
    hooked(|| {
        let empty: Vec<u32> = Vec::new();
        let at = std::hint::black_box(3);
        println!("{}", empty[at]);
    })
}

fn a_panic_on_a_host_thread_is_one_too() {
    hooked(|| {
        arch_um::pool::submit(Box::new(|| panic!("in the pool")));
        thread::park();
    })
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 32]);
    recurse(depth + 1) + std::hint::black_box(frame)[3]
}

fn a_stack_overflow_names_its_thread() {
    hooked(|| {
        let deep = || println!("{}", recurse(0));
        let _t = thread::spawn("deep", Box::new(deep));
        loop {
            thread::yield_now();
        }
    })
}

fn a_segfault_of_the_kernel_is_told() {
    hooked(|| {
        let wild = || {
            // SAFETY: none; the fault is the test.
            unsafe { std::ptr::read_volatile(std::hint::black_box(0x10) as *const u8) };
        };
        let _t = thread::spawn("wild", Box::new(wild));
        loop {
            thread::yield_now();
        }
    })
}

fn die(signal: i32) -> ! {
    hooked(move || {
        // SAFETY: a signal to ourselves.
        unsafe { libc::kill(libc::getpid(), signal) };
        loop {
            thread::park();
        }
    })
}

fn sigterm_cleans_up_and_exits_with_one() {
    die(libc::SIGTERM)
}

fn sigint_cleans_up_and_exits_with_one() {
    die(libc::SIGINT)
}

fn sigquit_cleans_up_and_dies_by_it() {
    die(libc::SIGQUIT)
}

fn sighup_cleans_up_and_dies_by_it() {
    die(libc::SIGHUP)
}

fn a_panicking_hook_does_not_hang() {
    exit::at_exit(Box::new(|| panic!("hook")));
    boot(1, || exit::exit(3))
}

fn a_hanging_hook_is_ended_by_the_watchdog() {
    exit::at_exit(Box::new(|| {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
    }));
    boot(1, || exit::exit(5))
}

struct Broken;

impl arch_um::printk::Console for Broken {
    fn write(&self, text: &str) {
        if text.contains("now") {
            panic!("in a console");
        }
    }
}

fn a_panic_under_a_lock_of_the_log_still_ends() {
    hooked(|| {
        arch_um::printk::register_console(Arc::new(Broken));
        arch_um::pr_info!("now");
    })
}

fn restart_executes_the_program_again() {
    if std::env::var_os("AGAIN").is_some() {
        println!("again");
        return;
    }
    hooked(|| {
        // SAFETY: no other thread reads the environment here.
        unsafe { std::env::set_var("AGAIN", "1") };
        let args = std::env::args().map(|arg| std::ffi::CString::new(arg).expect("no zero byte"));
        exit::restart(&args.collect::<Vec<_>>())
    })
}
