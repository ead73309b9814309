//! Parameters of the drivers here, from the kernel command line or from `insmod`.

/// The last value of `name` among the words of `line`. Dashes count as underscores, as everywhere in parameters.
pub(super) fn parameter<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte };
    let named = |word: &'a str| {
        let (key, value) = word.split_once('=')?;
        key.bytes().map(plain).eq(name.bytes()).then_some(value)
    };
    line.split_ascii_whitespace()
        .take_while(|&word| word != "--")
        .filter_map(named)
        .last()
}

/// A decimal number, or a hexadecimal one with `0x`.
pub(super) fn number(value: Option<&str>) -> Option<u64> {
    let value = value?;
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_in_front_of_the_dashes_counts() {
        let line = "root=/dev/ubda max-loop=3 max_loop=0x10 -- max_loop=7";
        assert_eq!(number(parameter(line, "max_loop")), Some(16));
        assert_eq!(parameter(line, "brd.rd_nr"), None);
        assert_eq!(number(Some("many")), None);
    }
}
