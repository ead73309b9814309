//! `/dev/random`, `/dev/urandom` and the numbers behind `getrandom(2)` (`random(4)`).
//!
//! The host's generator is ours: it is seeded before we start, so both devices never block and are the same. What guests write into them goes
//! nowhere; the entropy count is always full.

use core::any::Any;

use super::mem::interrupted;
use crate::io::{Sink, Source};
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::UserPtr;
use crate::vfs::file::{WriteAt, Written};
use crate::vfs::{File, FileOps};
use crate::{Errno, Result};

/// Bits that the pool holds (`/proc/sys/kernel/random/poolsize`).
pub const POOL_BITS: i32 = 256;

const RNDGETENTCNT: u32 = 0x8004_5200;
const RNDADDTOENTCNT: u32 = 0x4004_5201;
const RNDADDENTROPY: u32 = 0x4008_5203;
const RNDZAPENTCNT: u32 = 0x5204;
const RNDCLEARPOOL: u32 = 0x5206;
const RNDRESEEDCRNG: u32 = 0x5207;

/// Fills `dst` with random bytes. A request of more than a page ends early when a signal comes.
pub fn read_random(dst: &mut dyn Sink) -> Result<usize> {
    let mut buffer = [0; 1024];
    let mut total = 0;
    while dst.remaining() > 0 {
        let piece = dst.remaining().min(buffer.len());
        arch_um::host::random::fill(&mut buffer[..piece]);
        match dst.write(&buffer[..piece]) {
            Ok(count) => total += count,
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
        if total % 4096 == 0 {
            if interrupted() {
                break;
            }
            arch_um::cpu::cond_resched();
        }
    }
    Ok(total)
}

/// A version 4 UUID in its usual text form.
pub fn uuid() -> alloc::string::String {
    let mut raw = [0; 16];
    arch_um::host::random::fill(&mut raw);
    format_uuid(raw)
}

fn format_uuid(mut raw: [u8; 16]) -> alloc::string::String {
    use core::fmt::Write;
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    let mut text = alloc::string::String::new();
    for (index, byte) in raw.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An open `/dev/random` or `/dev/urandom`.
pub(super) struct Random;

impl FileOps for Random {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        read_random(dst)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut buffer = [0; 1024];
        let mut count = 0;
        while src.remaining() > 0 {
            match src.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => count += got,
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        let end = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => 0,
        };
        Ok(Written { count, end })
    }

    fn lseek(&self, _file: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }

    /// Old programs wait for `/dev/random` to have bytes; here it always has.
    fn announces(&self) -> bool {
        true
    }

    fn ioctl(&self, cx: &Context, _file: &File, cmd: u32, arg: u64) -> Result<usize> {
        let require_admin = || {
            if cx.task().cred().capable(Capabilities::SYS_ADMIN) {
                Ok(())
            } else {
                Err(Errno::EPERM)
            }
        };
        match cmd {
            RNDGETENTCNT => UserPtr::<i32>::new(arg).write(&POOL_BITS)?,
            RNDADDTOENTCNT | RNDADDENTROPY => {
                require_admin()?;
                if UserPtr::<i32>::new(arg).read()? < 0 {
                    return Err(Errno::EINVAL);
                }
            }
            RNDZAPENTCNT | RNDCLEARPOOL | RNDRESEEDCRNG => require_admin()?,
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }
}

const GRND_NONBLOCK: u32 = 1;
const GRND_RANDOM: u32 = 2;
const GRND_INSECURE: u32 = 4;

/// `getrandom(2)`. `EINVAL` for unknown flags and for `GRND_RANDOM` with `GRND_INSECURE`.
pub fn sys_getrandom(_cx: &Context, buf: crate::user::UserSlice, flags: u32) -> Result<usize> {
    let both = GRND_RANDOM | GRND_INSECURE;
    if flags & !(GRND_NONBLOCK | both) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let len = buf.len.min(i32::MAX as usize & !4095);
    read_random(&mut crate::user::UserSlice::new(buf.addr.0, len).writer())
}

#[cfg(test)]
mod tests {
    use super::format_uuid;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        assert_eq!(format_uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
