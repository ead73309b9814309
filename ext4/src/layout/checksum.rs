//! crc32c (Castagnoli, reflected) for `metadata_csum`, crc16 (ARC) for `uninit_bg`. ext4 uses both without the final inversion.

const fn crc32c_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
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

static CRC32C: [[u32; 256]; 8] = crc32c_tables();

/// Continues `crc` over `bytes`, eight at a time.
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut chunks = bytes.chunks_exact(8);
    let mut crc = crc;
    for chunk in &mut chunks {
        let mut index = 0;
        let mut next = 0;
        while index < 8 {
            let byte = if index < 4 {
                chunk[index] ^ (crc >> (8 * index)) as u8
            } else {
                chunk[index]
            };
            next ^= CRC32C[7 - index][byte as usize];
            index += 1;
        }
        crc = next;
    }
    chunks.remainder().iter().fold(crc, |crc, &byte| {
        crc >> 8 ^ CRC32C[0][((crc ^ u32::from(byte)) & 0xff) as usize]
    })
}

/// Continues `crc` over `bytes`.
pub(crate) fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_hold() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let data: alloc::vec::Vec<u8> = (0..100).collect();
        for cut in 0..100 {
            assert_eq!(crc32c(crc32c(!0, &data[..cut]), &data[cut..]), crc32c(!0, &data));
        }
    }
}
