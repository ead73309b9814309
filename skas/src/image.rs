//! The stub image: the bytes of `stub.s`, and the addresses of its instructions.
//!
//! It lies in this executable as constant data, and is handed to the host as a program of its own (program.rs), which maps itself to
//! `Layout::code`.

use crate::Layout;

core::arch::global_asm!(include_str!("stub.s"));

#[rustfmt::skip]
macro_rules! labels {
    ($($label:ident)*) => {
        #[allow(dead_code)]
        mod raw { unsafe extern "C" { $(pub static $label: u8;)* } }
        $(
            #[allow(dead_code)]
            pub(crate) fn $label(layout: &Layout) -> u64 {
                // Only addresses are taken.
                layout.code + (&raw const raw::$label as u64 - &raw const raw::skas_stub_start as u64)
            }
        )*
    };
}

labels! {
    skas_stub_start skas_stub_handler skas_stub_command skas_stub_return skas_stub_entry skas_stub_call skas_ip_called skas_stub_mask skas_stub_region_size skas_stub_end
    skas_ip_wake skas_ip_park skas_ip_trap skas_ip_recvmsg skas_ip_mmap skas_ip_munmap skas_ip_mprotect skas_ip_mremap skas_ip_madvise
    skas_ip_set_fs skas_ip_set_gs skas_ip_sigreturn skas_ip_clone skas_ip_pdeathsig skas_ip_getppid skas_ip_dup2 skas_ip_last_wake
    skas_ip_exit skas_ip_exit_group skas_ip_map_region skas_ip_dontfork skas_ip_close
}

/// The bytes that belong at `layout.code`, whole pages.
pub(crate) fn bytes(layout: &Layout) -> Vec<u8> {
    let len = (skas_stub_end(layout) - layout.code) as usize;
    // SAFETY: the labels bound constant data of this executable.
    let code = unsafe { std::slice::from_raw_parts(&raw const raw::skas_stub_start, len) };
    let mut image = code.to_vec();
    let mut patch = |label: u64, value: u64| {
        let at = (label - layout.code) as usize;
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    patch(skas_stub_mask(layout), !(layout.region_size - 1));
    patch(skas_stub_region_size(layout), layout.region_size);
    image.resize(len.next_multiple_of(4096), 0xcc);
    image
}

/// Bytes the code occupies in the stub.
pub(crate) fn len(layout: &Layout) -> u64 {
    (skas_stub_end(layout) - layout.code).next_multiple_of(4096)
}
