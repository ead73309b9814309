//! Random bytes from the host.

use crate::host::sys::last_errno;
use std::io::Read;

/// Fills `buf` from the host's generator (`getrandom(2)`, which is seeded before any process of ours starts, or /dev/urandom where a sandbox
/// around us does not know the call).
///
/// # Panics
/// When the host has neither: nothing of what follows would be safe.
pub fn fill(buf: &mut [u8]) {
    let mut filled = 0;
    while filled < buf.len() {
        let rest = &mut buf[filled..];
        // SAFETY: the kernel writes at most `rest.len()` bytes into memory that we own.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) if last_errno() == crate::Errno::EINTR => continue,
            Err(_) => {
                let refused = last_errno();
                let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(rest));
                assert!(
                    read.is_ok(),
                    "the host gives no random bytes (getrandom: {refused}): allow getrandom(2) in the sandbox around us"
                );
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_of_the_buffer_is_filled() {
        let mut buf = [0; 4096];
        super::fill(&mut buf);
        assert!(buf.chunks(64).all(|chunk| chunk.iter().any(|&byte| byte != 0)));
    }
}
