//! The system call table of x86-64: one line a call, in the order of the numbers.
//!
//! `number name => path::to::sys_function(arguments);` each argument register is converted by [`FromRegister`](super::FromRegister) to the
//! parameter's type; `slice` takes two registers (address, length) for a [`UserSlice`](crate::user::UserSlice).

use super::{Context, FromRegister};
use crate::user::UserSlice;
use crate::{Errno, Result};

macro_rules! argument {
    ($args:ident, slice($addr:literal, $len:literal)) => {
        UserSlice::new($args[$addr], $args[$len] as usize)
    };
    ($args:ident, $index:literal) => {
        FromRegister::from_register($args[$index])
    };
}

macro_rules! table {
    ($($nr:literal $name:ident => $function:path, ($($kind:tt $(($($inner:literal),*))?),*);)*) => {
        /// The call's name for logs and /proc, none for a number Linux does not know.
        pub fn name(nr: u64) -> Option<&'static str> {
            match nr {
                $($nr => Some(stringify!($name)),)*
                _ => None,
            }
        }

        /// Runs system call `nr`. `ENOSYS` for a number that is not in the table.
        pub fn dispatch(cx: &Context, nr: u64, args: [u64; 6]) -> Result<usize> {
            match nr {
                $($nr => $function(cx $(, argument!(args, $kind $(($($inner),*))?))*),)*
                _ => Err(Errno::ENOSYS),
            }
        }
    };
}

table! {
    // Each room adds its lines at the place of their number, e.g.:
    // 0 read => crate::vfs::read::sys_read, (0, slice(1, 2));
    153 vhangup => crate::tty::sys_vhangup, ();
    318 getrandom => crate::device::random::sys_getrandom, (slice(0, 1), 2);
}
