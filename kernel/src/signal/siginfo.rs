//! The 128 bytes of `siginfo_t`, as x86-64 lays them out.

use super::info::{SigDetail, SigInfo, Signal};

/// `sizeof(siginfo_t)`.
pub const SIGINFO_SIZE: usize = 128;
/// Where the union begins.
const UNION: usize = 16;

/// `SI_QUEUE` and its kin.
#[allow(missing_docs)]
pub mod code {
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_TKILL: i32 = -6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRERR: i32 = 2;
}

fn put(out: &mut [u8; SIGINFO_SIZE], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

impl SigInfo {
    /// Its bytes.
    pub fn to_siginfo(&self) -> [u8; SIGINFO_SIZE] {
        let mut out = [0; SIGINFO_SIZE];
        put(&mut out, 0, &self.signal.number().to_le_bytes());
        put(&mut out, 4, &self.errno.to_le_bytes());
        put(&mut out, 8, &self.code.to_le_bytes());
        match self.detail {
            SigDetail::None => {}
            SigDetail::Sender { pid, uid, value } => {
                put(&mut out, 16, &pid.0.to_le_bytes());
                put(&mut out, 20, &uid.to_le_bytes());
                put(&mut out, 24, &value.to_le_bytes());
            }
            SigDetail::Child {
                pid,
                uid,
                status,
                utime,
                stime,
            } => {
                put(&mut out, 16, &pid.0.to_le_bytes());
                put(&mut out, 20, &uid.to_le_bytes());
                put(&mut out, 24, &status.to_le_bytes());
                put(&mut out, 32, &utime.to_le_bytes());
                put(&mut out, 40, &stime.to_le_bytes());
            }
            SigDetail::Fault { addr } => put(&mut out, 16, &addr.to_le_bytes()),
            SigDetail::Timer { id, overrun, value } => {
                put(&mut out, 16, &id.to_le_bytes());
                put(&mut out, 20, &overrun.to_le_bytes());
                put(&mut out, 24, &value.to_le_bytes());
            }
            SigDetail::Poll { band, fd } => {
                put(&mut out, 16, &band.to_le_bytes());
                put(&mut out, 24, &fd.to_le_bytes());
            }
            SigDetail::Sys { call_addr, nr, arch } => {
                put(&mut out, 16, &call_addr.to_le_bytes());
                put(&mut out, 24, &nr.to_le_bytes());
                put(&mut out, 28, &arch.to_le_bytes());
            }
            SigDetail::Raw(bytes) => put(&mut out, UNION, &bytes),
        }
        out
    }

    /// What a guest hands to `rt_sigqueueinfo(2)`, for `signal`; the number inside does not count.
    pub fn from_siginfo(signal: Signal, bytes: &[u8; SIGINFO_SIZE]) -> Self {
        let word = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut raw = [0; SIGINFO_SIZE - UNION];
        raw.copy_from_slice(&bytes[UNION..]);
        Self {
            signal,
            errno: word(4),
            code: word(8),
            detail: SigDetail::Raw(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Pid;

    #[test]
    fn a_childs_end_lies_where_c_programs_look() {
        let detail = SigDetail::Child {
            pid: Pid(42),
            uid: 1000,
            status: 7,
            utime: 3,
            stime: 4,
        };
        let bytes = SigInfo {
            signal: Signal::CHLD,
            code: 1,
            errno: 0,
            detail,
        }
        .to_siginfo();
        assert_eq!(bytes[..4], 17i32.to_le_bytes());
        assert_eq!(bytes[8..12], 1i32.to_le_bytes());
        assert_eq!(bytes[16..20], 42i32.to_le_bytes());
        assert_eq!(bytes[20..24], 1000u32.to_le_bytes());
        assert_eq!(bytes[24..28], 7i32.to_le_bytes());
        assert_eq!(bytes[32..40], 3i64.to_le_bytes());
        assert_eq!(bytes[40..48], 4i64.to_le_bytes());
    }

    #[test]
    fn queued_bytes_come_back_unchanged_but_for_the_number() {
        let mut bytes = [0xa5; SIGINFO_SIZE];
        put(&mut bytes, 8, &(-1i32).to_le_bytes());
        // The padding behind the code is not carried over.
        put(&mut bytes, 12, &[0; 4]);
        let info = SigInfo::from_siginfo(Signal::USR1, &bytes);
        assert_eq!(info.code, -1);
        let out = info.to_siginfo();
        assert_eq!(out[..4], 10i32.to_le_bytes());
        assert_eq!(out[4..], bytes[4..]);
    }
}
