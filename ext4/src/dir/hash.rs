//! Hashes of names (ext4 disk layout, "Hash Tree Directories"): legacy, half MD4 (RFC 1320 with two thirds of its steps), TEA (Wheeler, Needham 1994).

use crate::layout::geometry::Geometry;

/// A name's place in an index: the first word decides, the second orders names of one leaf for readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hash {
    pub major: u32,
    pub minor: u32,
}

const LEGACY: u8 = 0;
const HALF_MD4: u8 = 1;
const TEA: u8 = 2;

/// Whether `version`, as stored in an index, is one we know.
pub(crate) fn is_known(version: u8) -> bool {
    version <= TEA
}

/// The hash of `name` by `version` as stored in an index; characters are signed or not as the super block says. None for an unknown version.
pub(crate) fn of_name(geometry: &Geometry, version: u8, name: &[u8]) -> Option<Hash> {
    let widen = |byte: u8| {
        if geometry.hash_unsigned {
            u32::from(byte)
        } else {
            byte as i8 as u32
        }
    };
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    if geometry.hash_seed != [0; 4] {
        state = geometry.hash_seed;
    }
    let (major, minor) = match version {
        LEGACY => (legacy(name, widen), 0),
        HALF_MD4 => {
            for start in (0..name.len()).step_by(32) {
                half_md4(&mut state, &words::<8>(&name[start..], widen));
            }
            (state[1], state[2])
        }
        TEA => {
            for start in (0..name.len()).step_by(16) {
                tea(&mut state, &words::<4>(&name[start..], widen));
            }
            (state[0], state[1])
        }
        _ => return None,
    };
    // The lowest bit marks collisions over leaves; the highest value is the end of a listing.
    let major = match major & !1 {
        0xffff_fffe => 0xffff_fffc,
        other => other,
    };
    Some(Hash { major, minor })
}

/// The bytes of a name as words, filled up with its length.
fn words<const N: usize>(name: &[u8], widen: impl Fn(u8) -> u32) -> [u32; N] {
    let len = name.len() as u32;
    let pad = (len | len << 8) & 0xffff;
    let pad = pad | pad << 16;
    let mut out = [pad; N];
    for (word, chunk) in out.iter_mut().zip(name.chunks(4)) {
        *word = chunk
            .iter()
            .fold(pad, |word, &byte| widen(byte).wrapping_add(word << 8));
    }
    out
}

fn legacy(name: &[u8], widen: impl Fn(u8) -> u32) -> u32 {
    let (mut last, mut before) = (0x12a3_fe2du32, 0x37ab_e8f9u32);
    for &byte in name {
        let mut next = before.wrapping_add(last ^ widen(byte).wrapping_mul(7_152_373));
        if next & 0x8000_0000 != 0 {
            next = next.wrapping_sub(0x7fff_ffff);
        }
        before = last;
        last = next;
    }
    last << 1
}

fn half_md4(state: &mut [u32; 4], data: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    const ROUNDS: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (
            |x, y, z| (x & y).wrapping_add((x ^ y) & z),
            0x5a82_7999,
            [1, 3, 5, 7, 0, 2, 4, 6],
            [3, 5, 9, 13],
        ),
        (
            |x, y, z| x ^ y ^ z,
            0x6ed9_eba1,
            [3, 7, 2, 6, 1, 5, 0, 4],
            [3, 9, 11, 15],
        ),
    ];
    let mut turn = *state;
    for (mix, constant, order, shifts) in ROUNDS {
        for (step, &word) in order.iter().enumerate() {
            // The four registers take turns.
            let at = (4 - step % 4) % 4;
            let (x, y, z) = (turn[(at + 1) % 4], turn[(at + 2) % 4], turn[(at + 3) % 4]);
            turn[at] = turn[at]
                .wrapping_add(mix(x, y, z))
                .wrapping_add(data[word])
                .wrapping_add(constant)
                .rotate_left(shifts[step % 4]);
        }
    }
    for (word, turned) in state.iter_mut().zip(turn) {
        *word = word.wrapping_add(turned);
    }
}

fn tea(state: &mut [u32; 4], data: &[u32; 4]) {
    let (mut x, mut y, mut sum) = (state[0], state[1], 0u32);
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9e37_79b9);
        x = x.wrapping_add((y << 4).wrapping_add(data[0]) ^ y.wrapping_add(sum) ^ (y >> 5).wrapping_add(data[1]));
        y = y.wrapping_add((x << 4).wrapping_add(data[2]) ^ x.wrapping_add(sum) ^ (x >> 5).wrapping_add(data[3]));
    }
    state[0] = state[0].wrapping_add(x);
    state[1] = state[1].wrapping_add(y);
}
