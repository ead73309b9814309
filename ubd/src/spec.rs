//! The words of the command line: `ubd<n><flags>=<file>[(:|,)<backing>][(:|,)<serial>]`, `ubd=sync`, `ubd=throwaway[,<n>…]`, `ubd=io_uring`,
//! `ubd=<major>`.

use std::fmt;
use std::path::PathBuf;

use bitflags::bitflags;

/// Disks are ubda to ubdp.
pub const MOST_DISKS: u32 = 16;
/// UML reads so many flag letters, with an `=` behind them.
const MOST_FLAGS: usize = 6;

bitflags! {
    /// How a disk is used: the flag letters, and what has no letter.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// `r`: never written.
        const READ_ONLY = 1;
        /// `s`: written to the host's disk at once.
        const SYNC = 2;
        /// `d`: never taken for a copy-on-write file.
        const DATA = 4;
        /// `c`: not locked.
        const SHARED = 8;
        /// `t`: discards are ignored.
        const NO_TRIM = 16;
        /// `ubd=throwaway`: what is written is gone when the machine ends.
        const THROW_AWAY = 32;
        /// `ubd=io_uring`: served by that engine where it can be.
        const IO_URING = 64;
    }
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// 0 for ubda.
    pub number: u32,
    /// How it is used.
    pub flags: Flags,
    /// The file; the copy-on-write file when there is a backing file.
    pub file: PathBuf,
    /// The backing file.
    pub backing: Option<PathBuf>,
    /// The serial number.
    pub serial: Option<String>,
}

impl Spec {
    /// Disk `number` on a plain file.
    pub fn of_file(number: u32, file: &str) -> Self {
        Self {
            number,
            flags: Flags::empty(),
            file: file.into(),
            backing: None,
            serial: None,
        }
    }

    /// Its name below /dev.
    pub fn name(&self) -> String {
        format!("ubd{}", char::from(b'a' + self.number as u8))
    }
}

/// A word behind `ubd`.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// `=sync`: every disk is written at once.
    Sync,
    /// `=throwaway`: what is written to any disk is gone at the end.
    ThrowAllAway,
    /// `=throwaway,<n>…`: the same for these disks.
    ThrowAway(Vec<u32>),
    /// `=io_uring`: plain disks are served by that engine.
    IoUring,
    /// `=<number>`: the fake major of old.
    Major(String),
    /// A disk.
    Disk(Spec),
}

/// What is wrong with a word, in UML's words where it has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// No number or letter.
    Number,
    /// Past ubdp.
    Range,
    /// A letter that is no flag.
    Flag,
    /// More flags than UML reads.
    TooManyFlags,
    /// Flags, and no file behind them.
    Equals,
    /// No file name.
    File,
    /// `d` and a backing file.
    DataAndCow,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "Couldn't parse device number",
            Self::Range => "Device number out of range (a to p, or 0 to 15)",
            Self::Flag => "Expected '=' or flag letter (r, s, c, t or d)",
            Self::TooManyFlags => "Too many flags specified",
            Self::Equals => "Missing '='",
            Self::File => "No file name given behind '='",
            Self::DataAndCow => "Can't specify both 'd' and a cow file",
        })
    }
}

/// Reads what stood behind `ubd`.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(word: &str) -> Result<Word, ParseError> {
    if let Some(value) = word.strip_prefix('=') {
        return general(value);
    }
    let (number, rest) = number(word)?;
    if number >= MOST_DISKS {
        return Err(ParseError::Range);
    }
    let mut flags = Flags::empty();
    let mut letters = rest.chars();
    for seen in 0.. {
        let letter = letters.next();
        flags |= match letter {
            Some('=') if seen > MOST_FLAGS => return Err(ParseError::TooManyFlags),
            Some('=') => break,
            _ if seen > MOST_FLAGS => return Err(ParseError::Equals),
            Some('r') => Flags::READ_ONLY,
            Some('s') => Flags::SYNC,
            Some('d') => Flags::DATA,
            Some('c') => Flags::SHARED,
            Some('t') => Flags::NO_TRIM,
            Some(_) | None => return Err(ParseError::Flag),
        };
    }
    let files = letters.as_str();
    let mut fields = files.split([',', ':']);
    let mut field = || fields.next().filter(|text| !text.is_empty());
    let (file, backing, serial) = (field().ok_or(ParseError::File)?, field(), field());
    if backing.is_some() && flags.contains(Flags::DATA) {
        return Err(ParseError::DataAndCow);
    }
    Ok(Word::Disk(Spec {
        number,
        flags,
        file: file.into(),
        backing: backing.map(PathBuf::from),
        serial: serial.map(str::to_owned),
    }))
}

/// What stands behind `ubd=`.
fn general(value: &str) -> Result<Word, ParseError> {
    let mut words = value.split([',', ':']);
    match words.next() {
        Some("sync") if value == "sync" => Ok(Word::Sync),
        Some("io_uring") if value == "io_uring" => Ok(Word::IoUring),
        Some("throwaway") if value == "throwaway" => Ok(Word::ThrowAllAway),
        Some("throwaway") => {
            let numbers = words.map(|word| unit(word).ok_or(ParseError::Number));
            numbers.collect::<Result<_, _>>().map(Word::ThrowAway)
        }
        Some(number) if !number.is_empty() && value.chars().all(|digit| digit.is_ascii_digit()) => {
            Ok(Word::Major(number.into()))
        }
        _ => Err(ParseError::Number),
    }
}

/// The disk that `text` names, all of it: `b`, `1`, `0x1`.
pub fn unit(text: &str) -> Option<u32> {
    match number(text) {
        Ok((number, "")) if number < MOST_DISKS => Some(number),
        _ => None,
    }
}

/// The disk's number and what stands behind it. A letter a–z, or a number as C writes them: decimal, octal with `0`, hexadecimal with `0x`.
fn number(text: &str) -> Result<(u32, &str), ParseError> {
    let first = text.chars().next().ok_or(ParseError::Number)?;
    if first.is_ascii_lowercase() {
        return Ok((first as u32 - 'a' as u32, &text[1..]));
    }
    let (digits, radix) = match text.as_bytes() {
        // In hexadecimal the flag letters c and d are digits, as in UML.
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (&text[2..], 16),
        [b'0', ..] => (text, 8),
        _ => (text, 10),
    };
    let end = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    if end == 0 {
        return Err(ParseError::Number);
    }
    // A number that does not fit is out of range all the more.
    let value = u32::from_str_radix(&digits[..end], radix).unwrap_or(u32::MAX);
    Ok((value, &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(word: &str) -> Spec {
        match parse(word) {
            Ok(Word::Disk(spec)) => spec,
            other => panic!("{word}: {other:?}"),
        }
    }

    #[test]
    fn letters_and_numbers_name_the_same_disk() {
        assert_eq!(disk("a=x").number, 0);
        assert_eq!(disk("0=x").number, 0);
        assert_eq!(disk("0xf=x").number, 15);
        assert_eq!(disk("b=x").name(), "ubdb");
        assert_eq!(disk("010=x").number, 8);
        assert_eq!(disk("p=x").number, 15);
        assert_eq!(parse("q=x"), Err(ParseError::Range));
        assert_eq!(parse("99999999999999999999=x"), Err(ParseError::Range));
        assert_eq!(parse("_x=y"), Err(ParseError::Number));
        assert_eq!(parse(""), Err(ParseError::Number));
        assert_eq!(
            (unit("b"), unit("0xb"), unit("bb"), unit("16")),
            (Some(1), Some(11), None, None)
        );
    }

    #[test]
    fn flags_come_in_any_order() {
        assert_eq!(
            disk("0rsct=x").flags,
            Flags::READ_ONLY | Flags::SYNC | Flags::SHARED | Flags::NO_TRIM
        );
        assert_eq!(disk("ad=x").flags, Flags::DATA);
        assert_eq!(parse("0x=y"), Err(ParseError::Flag));
        assert_eq!(parse("aq=y"), Err(ParseError::Flag));
        assert_eq!(parse("a"), Err(ParseError::Flag));
        assert_eq!(disk("arrrrrr=x").flags, Flags::READ_ONLY);
        assert_eq!(parse("arrrrrrr=x"), Err(ParseError::TooManyFlags));
        assert_eq!(parse("arrrrrrr"), Err(ParseError::Equals));
    }

    #[test]
    fn commas_and_colons_separate_the_fields() {
        let spec = disk("0=cow:back,serial");
        assert_eq!(
            (spec.file, spec.backing, spec.serial),
            ("cow".into(), Some("back".into()), Some("serial".into()))
        );
        let spec = disk("0=file,,S123:what is behind does not count");
        assert_eq!((spec.backing, spec.serial), (None, Some("S123".into())));
        assert_eq!(parse("0d=a,b"), Err(ParseError::DataAndCow));
        assert_eq!(parse("0="), Err(ParseError::File));
        assert_eq!(parse("16=a"), Err(ParseError::Range));
    }

    #[test]
    fn the_words_without_a_disk_are_known() {
        assert_eq!(parse("=sync"), Ok(Word::Sync));
        assert_eq!(parse("=98"), Ok(Word::Major("98".into())));
        assert_eq!(parse("=io_uring"), Ok(Word::IoUring));
        assert_eq!(parse("=io_uring,a"), Err(ParseError::Number));
        assert_eq!(parse("=throwaway"), Ok(Word::ThrowAllAway));
        assert_eq!(parse("=throwaway,a:0xf"), Ok(Word::ThrowAway(vec![0, 15])));
        assert_eq!(parse("=throwaway,ax"), Err(ParseError::Number));
        assert_eq!(parse("=nonsense"), Err(ParseError::Number));
    }
}
