//! The two checksums of a journal: CRC-32C (reflected, as everywhere in ext4) and the plain big-endian CRC-32 of `journal_checksum`.

const fn reflected(poly: u32) -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ poly } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

const fn straight(poly: u32) -> [u32; 256] {
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

static CASTAGNOLI: [[u32; 256]; 8] = reflected(0x82F6_3B78);
static IEEE: [u32; 256] = straight(0x04C1_1DB7);

/// CRC-32C of `bytes` from `seed`, without inversions (Linux's `crc32c`): the result is the seed for what follows.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = seed;
    let mut eights = bytes.chunks_exact(8);
    for eight in &mut eights {
        let low = crc ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
        crc = CASTAGNOLI[7][(low & 0xff) as usize]
            ^ CASTAGNOLI[6][(low >> 8 & 0xff) as usize]
            ^ CASTAGNOLI[5][(low >> 16 & 0xff) as usize]
            ^ CASTAGNOLI[4][(low >> 24) as usize]
            ^ CASTAGNOLI[3][eight[4] as usize]
            ^ CASTAGNOLI[2][eight[5] as usize]
            ^ CASTAGNOLI[1][eight[6] as usize]
            ^ CASTAGNOLI[0][eight[7] as usize];
    }
    eights.remainder().iter().fold(crc, |crc, &byte| {
        crc >> 8 ^ CASTAGNOLI[0][((crc ^ u32::from(byte)) & 0xff) as usize]
    })
}

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
    fn the_check_values_of_the_catalogue_come_out() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        // CRC-32/BZIP2 is the big-endian one with both inversions.
        assert_eq!(!crc32_be(!0, b"123456789"), 0xFC89_1918);
    }
}
