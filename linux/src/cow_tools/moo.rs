//! `moo [-b <backing file>] <COW file> <new file>` and `moo [-b <backing file>] -d <COW file>`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arch_um::Errno;
use arch_um::host::image::{Identity, Image, ImageError, ImageOptions};
use ubd::cow::header::MOST_BYTES;
use ubd::cow::merge::{self, MergeError};
use ubd::cow::{Header, open};

use super::{failed, not_opened};

/// What is to be done.
struct Job {
    cow: PathBuf,
    /// `-b`.
    backing: Option<PathBuf>,
    /// Where the result goes; none for `-d`, into the backing file.
    output: Option<PathBuf>,
}

/// Merges a COW file and its backing file. 0, or 1 for whatever went wrong.
pub fn run(program: &str, words: &[OsString]) -> ExitCode {
    let Some(job) = parse(words) else {
        usage(program);
        return ExitCode::FAILURE;
    };
    match merge(&job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(status) => status,
    }
}

fn usage(program: &str) {
    eprint!(
        "{program} usage:
\t{program} [ -b <actual backing file> ] <COW file> <new backing file>
\t{program} [ -b <actual backing file> ] -d <COW file>
Creates a new filesystem image from the COW file and its backing file.
Specifying -d will cause a destructive, in-place merge of the COW file into
its current backing file
Specifying -b overrides the backing_file specified in the COW file.  This is
needed when dealing with a COW file that was created inside a chroot jail.
{program} supports version 1,2 and 3 COW files.
"
    );
}

fn parse(words: &[OsString]) -> Option<Job> {
    let mut words = words.iter();
    let mut backing = None;
    let mut in_place = false;
    let cow = loop {
        let word = words.next()?;
        match word.to_str() {
            Some("-b") => backing = Some(words.next()?.into()),
            Some("-d") => in_place = true,
            Some(other) if other.starts_with('-') => return None,
            _ => break word.into(),
        }
    };
    let output = words.next().map(PathBuf::from);
    if words.next().is_some() || output.is_some() == in_place {
        return None;
    }
    Some(Job { cow, backing, output })
}

const READ_ONLY: ImageOptions = ImageOptions {
    read_only: true,
    sync: false,
    shared: false,
};

fn merge(job: &Job) -> Result<(), ExitCode> {
    let image = Image::open(&job.cow, READ_ONLY).map_err(|error| not_opened("COW file open", &job.cow, error))?;
    let header = read_header(&image)?;
    let header = Header {
        backing: job.backing.clone().unwrap_or(header.backing.clone()),
        ..header
    };
    let backing = header.backing.clone();
    let below = Identity::at(&backing).map_err(|errno| failed("Stating backing file", errno))?;
    if below == image.identity() {
        return Err(refuse(
            "the COW file is its own backing file; give the right one with -b",
        ));
    }
    // The one who is to be written is locked against all others; with the backing file itself that would be ourselves, too.
    let target = match &job.output {
        None => Some(open_target(&backing, "Opening backing file")?),
        Some(_) => None,
    };
    let options = ImageOptions {
        shared: target.is_some(),
        ..READ_ONLY
    };
    let cow = open::open(image, &job.cow, header, None, options).map_err(|refusal| refuse(refusal.text()))?;
    let outcome = match (&job.output, target) {
        (None, Some(target)) => merge::in_place(&cow.store, cow.len, &target),
        (Some(output), _) => {
            let clash =
                Identity::at(output).is_ok_and(|output| Some(output) == Identity::at(&job.cow).ok() || output == below);
            if clash {
                return Err(refuse(
                    "the new backing file is one of the files to be merged; name another one, or use -d",
                ));
            }
            let target = new_file(output)?;
            merge::into_new(&cow.store, cow.len, &target)
        }
        (None, None) => Ok(()),
    };
    outcome.map_err(|error| match error {
        MergeError::Read(errno) => failed("Reading data", errno),
        MergeError::Write(errno) => failed("Writing data", errno),
    })
}

fn refuse(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

fn read_header(image: &Image) -> Result<Header, ExitCode> {
    let unreadable = |errno| failed("Reading COW header failed", errno);
    let len = image.len().map_err(unreadable)?;
    let mut bytes = vec![0; len.min(MOST_BYTES as u64) as usize];
    image.read(0, &mut bytes).map_err(unreadable)?;
    match Header::parse(&bytes) {
        Ok(Some(header)) => return Ok(header),
        Ok(None) if bytes.len() < 8 => println!("read_cow_header - short header"),
        Ok(None) => {}
        Err(error) => println!("read_cow_header - {error}"),
    }
    Err(refuse("Reading COW header failed"))
}

/// Opens a file that is to be written and that exists.
fn open_target(path: &Path, what: &str) -> Result<Image, ExitCode> {
    match Image::open(path, ImageOptions::default()) {
        Ok(target) if target.is_read_only() => Err(failed(what, Errno::EACCES)),
        Ok(target) => Ok(target),
        Err(error) => Err(not_opened(what, path, error)),
    }
}

/// Opens the new file, empty. A file that is there is overwritten, as `uml_moo` does.
fn new_file(path: &Path) -> Result<Image, ExitCode> {
    const WHAT: &str = "Output file open";
    match Image::create(path, ImageOptions::default()) {
        Err(ImageError::Open(Errno::EEXIST)) => {
            let target = open_target(path, WHAT)?;
            target.set_len(0).map_err(|errno| failed(WHAT, errno))?;
            Ok(target)
        }
        made => made.map_err(|error| not_opened(WHAT, path, error)),
    }
}
