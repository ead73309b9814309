//! Random bytes from the host.

/// Fills `buf` from the host's generator (`getrandom(2)`), which is seeded before any process of ours starts.
pub fn fill(buf: &mut [u8]) {
    let mut filled = 0;
    while filled < buf.len() {
        let rest = &mut buf[filled..];
        // SAFETY: the kernel writes at most `rest.len()` bytes into memory that we own.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            // EINTR is the only error that these arguments allow.
            Err(_) => continue,
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
