//! The big-endian CRC-32 of `journal_checksum`. Everything newer in a journal uses ext4's own CRC-32C (`layout::checksum`).

const fn table(poly: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 != 0 { crc << 1 ^ poly } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

static IEEE: [u32; 256] = table(0x04C1_1DB7);

/// Big-endian CRC-32 of `bytes` from `seed`, without inversions (Linux's `crc32_be`).
pub(super) fn crc32_be(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |crc, &byte| {
        crc << 8 ^ IEEE[(crc >> 24 ^ u32::from(byte)) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        // CRC-32/BZIP2 is this one with both inversions.
        assert_eq!(!crc32_be(!0, b"123456789"), 0xFC89_1918);
    }
}
