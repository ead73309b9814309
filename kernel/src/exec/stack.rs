//! The stack a program starts on: argument count, pointers, auxiliary vector, strings (System V ABI, x86-64, 3.4.1).

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::args::{Arguments, Strings};

/// `AT_*` keys of the auxiliary vector (`getauxval(3)`).
#[allow(missing_docs)]
pub mod at {
    pub const NULL: u64 = 0;
    pub const PHDR: u64 = 3;
    pub const PHENT: u64 = 4;
    pub const PHNUM: u64 = 5;
    pub const PAGESZ: u64 = 6;
    pub const BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HWCAP: u64 = 16;
    pub const CLKTCK: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HWCAP2: u64 = 26;
    pub const EXECFD: u64 = 2;
    pub const EXECFN: u64 = 31;
    pub const MINSIGSTKSZ: u64 = 51;
}

const PLATFORM: &[u8] = b"x86_64\0";

/// The bytes to store and where.
#[derive(Debug)]
pub struct StackImage {
    /// The bytes, up to the end of the stack.
    pub bytes: Vec<u8>,
    /// The stack pointer: where `bytes` go.
    pub sp: u64,
    /// The argument strings.
    pub args: Range<u64>,
    /// The environment strings.
    pub env: Range<u64>,
    /// The auxiliary vector with its addresses filled in.
    pub auxv: Vec<(u64, u64)>,
}

/// Lays out the top of a stack that ends at `top`. `name` is the path the program was started by, `auxv` what is known already: random bytes, the
/// platform and the name are added. `jitter` bytes are left free between strings and tables.
pub fn build(
    top: u64,
    jitter: u64,
    arguments: &Arguments,
    name: &[u8],
    random: [u8; 16],
    mut auxv: Vec<(u64, u64)>,
) -> StackImage {
    let name_at = top - 8 - (name.len() as u64 + 1);
    let env = name_at - arguments.envp.bytes.len() as u64..name_at;
    let args = env.start - arguments.argv.bytes.len() as u64..env.start;
    let platform_at = ((args.start - jitter) & !15) - PLATFORM.len() as u64;
    let random_at = platform_at - random.len() as u64;
    auxv.push((at::RANDOM, random_at));
    auxv.push((at::EXECFN, name_at));
    auxv.push((at::PLATFORM, platform_at));
    auxv.push((at::NULL, 0));
    let words = 1 + arguments.argv.count + 1 + arguments.envp.count + 1 + 2 * auxv.len();
    let sp = (random_at - words as u64 * 8) & !15;

    let mut bytes = vec![0; (top - sp) as usize];
    let mut put = |addr: u64, data: &[u8]| {
        let at = (addr - sp) as usize;
        bytes[at..at + data.len()].copy_from_slice(data);
    };
    put(name_at, name);
    put(env.start, &arguments.envp.bytes);
    put(args.start, &arguments.argv.bytes);
    put(platform_at, PLATFORM);
    put(random_at, &random);
    let mut table = Vec::with_capacity(words);
    table.push(arguments.argv.count as u64);
    pointers(&arguments.argv, args.start, &mut table);
    pointers(&arguments.envp, env.start, &mut table);
    table.extend(auxv.iter().flat_map(|&(key, value)| [key, value]));
    let table: Vec<u8> = table.into_iter().flat_map(u64::to_le_bytes).collect();
    put(sp, &table);
    StackImage {
        bytes,
        sp,
        args,
        env,
        auxv,
    }
}

fn pointers(strings: &Strings, start: u64, table: &mut Vec<u64>) {
    let mut at = start;
    for text in strings.iter() {
        table.push(at);
        at += text.len() as u64 + 1;
    }
    table.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_argument_count_at_an_aligned_address() {
        let top = 0x7000_0000;
        for jitter in [0, 1, 4095, 8191] {
            let arguments = Arguments::from_kernel(&[&b"prog"[..], b"arg"], &[b"HOME=/"], 0).unwrap();
            let image = build(top, jitter, &arguments, b"/bin/prog", [7; 16], vec![(at::PAGESZ, 4096)]);
            assert_eq!(image.sp % 16, 0);
            assert_eq!(image.sp + image.bytes.len() as u64, top);
            let word = |index: usize| u64::from_le_bytes(image.bytes[index * 8..index * 8 + 8].try_into().unwrap());
            let text = |addr: u64| {
                let rest = &image.bytes[(addr - image.sp) as usize..];
                rest[..rest.iter().position(|&byte| byte == 0).unwrap()].to_vec()
            };
            assert_eq!(word(0), 2);
            assert_eq!(text(word(1)), b"prog");
            assert_eq!(text(word(2)), b"arg");
            assert_eq!(word(3), 0);
            assert_eq!(text(word(4)), b"HOME=/");
            assert_eq!(word(5), 0);
            assert_eq!((word(6), word(7)), (at::PAGESZ, 4096));
            let auxv = |key| image.auxv.iter().find(|entry| entry.0 == key).unwrap().1;
            assert_eq!(text(auxv(at::EXECFN)), b"/bin/prog");
            assert_eq!(text(auxv(at::PLATFORM)), b"x86_64");
            assert_eq!(image.args, word(1)..word(4));
        }
    }
}
