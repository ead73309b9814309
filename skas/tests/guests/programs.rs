//! Guest programs: position-independent machine code, and what loads it.

use std::sync::Arc;

use skas::{AddressSpace, Backing, MapFlags, Prot, Regs, UserThread, Waiting};

/// Where programs and their data go.
pub const CODE: u64 = 0x40_0000;
pub const DATA: u64 = 0x1000_0000;
pub const PAGE: u64 = 4096;
pub const ALL: Prot = Prot::all();
pub const RW: Prot = Prot::READ.union(Prot::WRITE);

macro_rules! programs {
    ($($name:ident: $($line:literal)*;)*) => {
        $(
            core::arch::global_asm!(
                ".pushsection .rodata.guest,\"a\",@progbits",
                concat!(".globl guest_", stringify!($name), "_start"),
                concat!("guest_", stringify!($name), "_start:"),
                $($line,)*
                concat!(".globl guest_", stringify!($name), "_end"),
                concat!("guest_", stringify!($name), "_end:"),
                ".popsection"
            );
            pub fn $name() -> &'static [u8] {
                let (start, end): (*const u8, *const u8);
                // SAFETY: the labels bound constant data of this executable.
                unsafe {
                    core::arch::asm!(concat!("lea {}, [rip + guest_", stringify!($name), "_start]"), out(reg) start);
                    core::arch::asm!(concat!("lea {}, [rip + guest_", stringify!($name), "_end]"), out(reg) end);
                    std::slice::from_raw_parts(start, end.offset_from(start) as usize)
                }
            }
        )*
    };
}

programs! {
    // call number rbx forever
    call_loop: "4: mov rax, rbx" "syscall" "jmp 4b";
    // one byte to each of rcx pages from rdi on, then a call
    touch_pages: "4: mov byte ptr [rdi], 1" "add rdi, 4096" "dec rcx" "jnz 4b" "mov eax, 39" "5: syscall" "jmp 5b";
    store: "mov byte ptr [rdi], 1" "mov eax, 39" "syscall";
    load: "mov al, [rdi]" "mov eax, 39" "syscall";
    // rdi: address, rsi: value; adds it and reports the sum in rdx
    add_and_report: "add [rdi], rsi" "mov rdx, [rdi]" "mov eax, 39" "4: syscall" "jmp 4b";
    jump: "jmp rdi";
    spin: "4: jmp 4b";
    breakpoint: "int3" "mov eax, 39" "syscall";
    divide: "xor ecx, ecx" "mov eax, 1" "xor edx, edx" "div ecx";
    undefined: "ud2";
    privileged: "hlt";
    int80: "mov eax, 20" "int 0x80" "mov eax, 0x40000027" "syscall";
    vsyscall: "mov rax, 0xffffffffff600000" "call rax" "nop";
    // ymm0 from [rdi], call, ymm0 to [rsi], call
    vector: "vmovdqu ymm0, [rdi]" "vmovdqu ymm9, [rdi]" "mov eax, 39" "syscall" "vmovdqu [rsi], ymm0" "vmovdqu [rsi + 32], ymm9"
        "mov eax, 39" "syscall";
    // rdx: what fs:0 holds; then another base of its own making
    fs_base: "mov rdx, fs:[0]" "mov eax, 39" "syscall" "lea rcx, [rdi + 64]" "wrfsbase rcx" "mov eax, 39" "syscall";
    // counts at [rdi] for ever
    count: "4: lock inc qword ptr [rdi]" "jmp 4b";
    // fills rcx bytes from rdi on with al, over and over
    scribble: "mov r8, rdi" "mov r9, rcx" "4: mov rdi, r8" "mov rcx, r9" "rep stosb" "jmp 4b";
    scribble_once: "rep stosb" "mov eax, 39" "syscall" "4: jmp 4b";
    // writes al to [rdi] for ever
    keep_writing: "4: mov byte ptr [rdi], al" "jmp 4b";
    on_stack: "mov rsp, rdi" "mov eax, 39" "syscall" "mov byte ptr [rsi], 1";
}

/// A new space with `program` at `CODE` and registers cleared.
pub fn load_program(program: &[u8]) -> (Arc<AddressSpace>, UserThread) {
    let (space, mut thread) = UserThread::new().expect("a new space");
    thread.set_waiting(Waiting::Spin(None));
    anonymous(&space, CODE, PAGE);
    space.write(CODE, program).expect("just mapped");
    *thread.regs_mut() = Regs::start(CODE, 0);
    (space, thread)
}

/// Queues anonymous memory with all rights.
pub fn anonymous(space: &AddressSpace, addr: u64, len: u64) {
    space
        .map(addr, len, ALL, Backing::Anonymous, MapFlags::empty())
        .expect("a good range");
}

pub fn read_u64(space: &AddressSpace, addr: u64) -> u64 {
    let mut bytes = [0; 8];
    space.read(addr, &mut bytes).expect("readable");
    u64::from_le_bytes(bytes)
}

pub fn write_u64(space: &AddressSpace, addr: u64, value: u64) {
    space.write(addr, &value.to_le_bytes()).expect("writable");
}
