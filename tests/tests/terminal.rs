//! An interactive shell on a terminal: prompt, job control, editing, programs that draw, and a sane terminal afterwards.

use std::os::unix::process::ExitStatusExt;

use harness::{Backend, Linux, Terminal};

fn bash(backend: Backend) -> Terminal {
    let linux = Linux::hostfs(backend).args([
        "rw",
        "con=null",
        "con0=fd:0,fd:1",
        "TERM=xterm",
        "init=/bin/bash",
        "--",
        "--norc",
        "-i",
    ]);
    let mut terminal = Terminal::spawn(linux.command());
    terminal.expect("# ");
    terminal.send("mount -t proc proc /proc\n");
    terminal.send("PS1='guest> '\n");
    terminal.expect("guest> ");
    terminal.expect("guest> ");
    terminal
}

fn end(mut terminal: Terminal) {
    terminal.send("exit\n");
    let status = terminal.wait();
    assert_eq!(
        status.signal(),
        Some(6),
        "init died: a panic, as in UML; seen:\n{}",
        terminal.seen()
    );
    assert!(terminal.is_sane(), "the terminal is left raw");
}

#[test]
fn a_shell_has_a_prompt_echo_and_line_editing() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("echo hello | tr a-z A-Z\n");
        terminal.expect("HELLO");
        terminal.send("cat\n");
        terminal.send("one\x7f\x7f\x7ftwo\n");
        terminal.expect("\ntwo");
        terminal.send("\x04");
        terminal.expect("guest> ");
        end(terminal);
    }
}

#[test]
fn interrupt_stop_foreground_and_background_work() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("sleep 1000\n");
        terminal.expect("sleep 1000");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x03");
        terminal.expect("guest> ");
        terminal.send("echo status $?\n");
        terminal.expect("status 130");
        terminal.send("sleep 1001\n");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.send("bg\n");
        terminal.expect("sleep 1001 &");
        terminal.send("jobs\n");
        terminal.expect("Running");
        terminal.send("fg\n");
        terminal.expect("sleep 1001");
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x03");
        terminal.expect("guest> ");
        terminal.send("cat &\n");
        terminal.expect("Stopped");
        terminal.send("kill %1; wait\n");
        terminal.expect("Terminated");
        end(terminal);
    }
}

#[test]
fn the_window_size_follows_the_host() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("stty size\n");
        terminal.expect("24 80");
        terminal.send("trap 'echo resized' WINCH; stty size\n");
        terminal.expect("24 80");
        terminal.resize(50, 132);
        terminal.send("\n");
        terminal.expect("resized");
        terminal.send("stty size\n");
        terminal.expect("50 132");
        end(terminal);
    }
}

#[test]
fn less_vi_and_top_draw() {
    for backend in Backend::ALL {
        let mut terminal = bash(backend);
        terminal.send("seq 1000 | less\n");
        terminal.expect("23");
        terminal.send("G");
        terminal.expect("1000");
        terminal.send("q");
        terminal.expect("guest> ");
        terminal.send("top -n 1 -b | head -3; top\n");
        terminal.expect("load average");
        terminal.expect("PID USER");
        terminal.send("q");
        terminal.expect("guest> ");
        terminal.send("vi /tmp/.vi-test-$$\n");
        terminal.expect("~");
        terminal.send("iwritten in vi\x1b:wq\n");
        terminal.expect("guest> ");
        terminal.send("cat /tmp/.vi-test-$$; rm -f /tmp/.vi-test-$$\n");
        terminal.expect("written in vi");
        end(terminal);
    }
}
