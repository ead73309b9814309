//! The words behind `cargo xtask image`.

use std::path::PathBuf;

/// What is to be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the image will be.
    pub out: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Whether a file that stands there may be replaced.
    pub replace: Replace,
    /// What is in it.
    pub kind: Kind,
}

/// What becomes of a file that has the image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It stays, and this is an error.
    Never,
    /// The finished image takes its place.
    Forced,
}

/// The two kinds of images.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Busybox alone.
    Busybox {
        /// The executable, if the user chose one.
        program: Option<PathBuf>,
    },
    /// A Debian.
    Debian(Debian),
}

/// Which Debian.
#[derive(Debug, PartialEq, Eq)]
pub struct Debian {
    /// The release.
    pub suite: String,
    /// Where its packages are.
    pub mirror: String,
    /// More packages.
    pub include: Vec<String>,
}

/// Bytes of the smallest image that makes sense.
const LEAST: u64 = 8 << 20;

/// Reads the words; nothing if they ask for help.
///
/// # Errors
/// The word that is wrong, and what would be right.
pub fn parse(args: &[String]) -> Result<Option<Request>, String> {
    if args.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(None);
    }
    let (mut bare, mut size, mut program, mut replace) = (Vec::new(), None, None, Replace::Never);
    let (mut suite, mut mirror, mut include) = (None, None, None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let (name, joined) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let place = match name {
            "--force" if joined.is_none() => {
                replace = Replace::Forced;
                continue;
            }
            "--size" => &mut size,
            "--busybox" => &mut program,
            "--suite" => &mut suite,
            "--mirror" => &mut mirror,
            "--include" => &mut include,
            _ if word.starts_with('-') => return Err(format!("image: unknown option {word}: --help lists them")),
            _ => {
                bare.push(word.as_str());
                continue;
            }
        };
        let value = joined.or_else(|| words.next().cloned());
        *place = Some(value.ok_or_else(|| format!("image: {name} wants a value"))?);
    }
    let [kind, out] = bare[..] else {
        return Err(
            "image: say which kind and where: image busybox OUT or image debian OUT (--help tells more)".into(),
        );
    };
    let misplaced = |given: &[(&str, bool)]| match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(format!("image {kind}: {name} is not for this kind of image")),
        None => Ok(()),
    };
    let (kind, usual) = match kind {
        "busybox" => {
            misplaced(&[
                ("--suite", suite.is_some()),
                ("--mirror", mirror.is_some()),
                ("--include", include.is_some()),
            ])?;
            let program = program.map(PathBuf::from);
            (Kind::Busybox { program }, 64 << 20)
        }
        "debian" => {
            misplaced(&[("--busybox", program.is_some())])?;
            let debian = Debian {
                suite: suite.unwrap_or_else(|| "bookworm".into()),
                mirror: mirror.unwrap_or_else(|| "http://deb.debian.org/debian".into()),
                include: packages(&include.unwrap_or_default()),
            };
            (Kind::Debian(debian), 2 << 30)
        }
        other => return Err(format!("image: there is no kind {other}: busybox or debian")),
    };
    Ok(Some(Request {
        out: out.into(),
        size: size.map_or(Ok(usual), |text| bytes(&text))?,
        replace,
        kind,
    }))
}

fn packages(list: &str) -> Vec<String> {
    list.split([',', ' '])
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `64M` in bytes, rounded down to whole blocks of 4 KiB.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit {
        "" => Some(0),
        "K" | "k" => Some(10),
        "M" | "m" => Some(20),
        "G" | "g" => Some(30),
        "T" | "t" => Some(40),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .filter(|&bytes| (LEAST..=i64::MAX as u64).contains(&bytes))
        .map(|bytes| bytes & !4095)
        .ok_or_else(|| format!("image: --size {text}: a number of bytes, or with K, M, G or T; 8M at least"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Request>, String> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_said_has_its_usual_value() {
        let request = parsed("busybox a.img").unwrap().unwrap();
        assert_eq!((request.size, request.replace), (64 << 20, Replace::Never));
        let Kind::Debian(debian) = parsed("debian a.img").unwrap().unwrap().kind else {
            panic!("another kind");
        };
        assert_eq!((debian.suite.as_str(), debian.include.len()), ("bookworm", 0));
    }

    #[test]
    fn values_stand_behind_a_blank_or_an_equals_sign() {
        for text in [
            "debian --size 3G --include=a,b --force out",
            "debian out --include a,b --force --size=3072M",
        ] {
            let request = parsed(text).unwrap().unwrap();
            assert_eq!((request.size, request.replace), (3 << 30, Replace::Forced));
            let Kind::Debian(debian) = request.kind else {
                panic!("another kind");
            };
            assert_eq!(debian.include, ["a", "b"]);
        }
    }

    #[test]
    fn wrong_words_are_named() {
        for (text, part) in [
            ("", "say which kind"),
            ("floppy out", "no kind floppy"),
            ("busybox out --suite sid", "--suite is not for"),
            ("debian out --busybox f", "--busybox is not for"),
            ("debian out --size", "--size wants a value"),
            ("debian out --size 12Q", "--size 12Q"),
            ("debian out --size 1M", "8M at least"),
            ("debian out --size 99999999999G", "--size 9"),
            ("debian out --fast", "unknown option --fast"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(parsed("debian --help"), Ok(None));
    }
}
