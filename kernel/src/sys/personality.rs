//! `personality(2)`.

use crate::Result;
use crate::syscall::Context;

/// Asks without changing.
const QUERY: u32 = 0xffff_ffff;

/// `personality(2)`: the former one.
pub fn sys_personality(cx: &Context, personality: u32) -> Result<usize> {
    let old = cx.task().with_attributes(|attributes| {
        let old = attributes.personality;
        if personality != QUERY {
            attributes.personality = personality;
        }
        old
    });
    Ok(old as usize)
}
