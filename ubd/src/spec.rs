//! The words of the command line: `ubd<n><flags>=<file>[(:|,)<backing>][(:|,)<serial>]`, `ubd=sync`, `ubd=<major>`.

use std::fmt;
use std::path::PathBuf;

use bitflags::bitflags;

/// Disks are ubda to ubdp.
pub const MOST_DISKS: u32 = 16;

bitflags! {
    /// The flag letters.
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
    }
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// 0 for ubda.
    pub number: u32,
    /// The flag letters.
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
        return match value {
            "sync" => Ok(Word::Sync),
            number if !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit()) => {
                Ok(Word::Major(number.into()))
            }
            _ => Err(ParseError::Number),
        };
    }
    let (head, files) = word.split_once('=').ok_or(ParseError::Flag)?;
    let (number, letters) = number(head)?;
    if number >= MOST_DISKS {
        return Err(ParseError::Range);
    }
    let mut flags = Flags::empty();
    for letter in letters.chars() {
        flags |= match letter {
            'r' => Flags::READ_ONLY,
            's' => Flags::SYNC,
            'd' => Flags::DATA,
            'c' => Flags::SHARED,
            't' => Flags::NO_TRIM,
            _ => return Err(ParseError::Flag),
        };
    }
    let mut fields = files.splitn(3, [',', ':']);
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

/// The disk's number and the letters behind it. A letter a–z, a decimal number, or a hexadecimal one with `0x`.
fn number(head: &str) -> Result<(u32, &str), ParseError> {
    let first = head.chars().next().ok_or(ParseError::Number)?;
    if first.is_ascii_lowercase() {
        return Ok((first as u32 - 'a' as u32, &head[1..]));
    }
    let (digits, radix) = head.strip_prefix("0x").map_or((head, 10), |hex| (hex, 16));
    let end = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    // In hexadecimal the flag letters c and d are digits, as in UML.
    let value = u32::from_str_radix(&digits[..end], radix).map_err(|_| ParseError::Number)?;
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
    }

    #[test]
    fn flags_come_in_any_order() {
        assert_eq!(
            disk("0rsct=x").flags,
            Flags::READ_ONLY | Flags::SYNC | Flags::SHARED | Flags::NO_TRIM
        );
        assert_eq!(disk("ad=x").flags, Flags::DATA);
        assert_eq!(parse("0x=y"), Err(ParseError::Number));
        assert_eq!(parse("aq=y"), Err(ParseError::Flag));
    }

    #[test]
    fn commas_and_colons_separate_the_fields() {
        let spec = disk("0=cow:back,serial");
        assert_eq!(
            (spec.file, spec.backing, spec.serial),
            ("cow".into(), Some("back".into()), Some("serial".into()))
        );
        let spec = disk("0=file,,S123");
        assert_eq!((spec.backing, spec.serial), (None, Some("S123".into())));
        assert_eq!(parse("0d=a,b"), Err(ParseError::DataAndCow));
        assert_eq!(parse("0="), Err(ParseError::File));
        assert_eq!(parse("16=a"), Err(ParseError::Range));
    }

    #[test]
    fn the_words_without_a_disk_are_known() {
        assert_eq!(parse("=sync"), Ok(Word::Sync));
        assert_eq!(parse("=98"), Ok(Word::Major("98".into())));
    }
}
