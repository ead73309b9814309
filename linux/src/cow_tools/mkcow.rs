//! `mkcow [-f] <COW file> <backing file>`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use arch_um::Errno;
use arch_um::host::image::{Image, ImageError, ImageOptions};
use ubd::cow::open::{self, CreateError};

use super::{failed, not_opened};

/// Makes a COW file. 0, 1 for a failure, 2 for wrong arguments.
pub fn run(program: &str, words: &[OsString]) -> ExitCode {
    let (force, files) = match words {
        [first, rest @ ..] if first == "-f" => (Force::Yes, rest),
        all => (Force::No, all),
    };
    let [cow, backing, ..] = files else {
        eprint!(
            "{program} usage: \n\t{program} [-f] <COW file> <backing file>\n\t-f forces overwrite of an existing COW file\n"
        );
        return ExitCode::from(2);
    };
    let (cow, backing) = (Path::new(cow), Path::new(backing));
    let made = match Image::create(cow, ImageOptions::default()) {
        Ok(image) => Ok((image, Made::Now)),
        Err(ImageError::Open(Errno::EEXIST)) if force == Force::Yes => {
            Image::open(cow, ImageOptions::default()).map(|image| (image, Made::Before))
        }
        Err(error) => Err(error),
    };
    match made {
        Ok((image, _)) if image.is_read_only() => failed("open COW file", Errno::EACCES),
        Ok((image, made)) => {
            let status = fill(&image, backing);
            if status != ExitCode::SUCCESS && made == Made::Now {
                let _ = std::fs::remove_file(cow);
            }
            status
        }
        Err(error) => not_opened("open COW file", cow, error),
    }
}

#[derive(PartialEq, Eq)]
enum Force {
    Yes,
    No,
}

/// When the COW file came to be: what we made and cannot finish goes again.
#[derive(PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

/// Turns `image` into a COW file without a sector.
fn fill(image: &Image, backing: &Path) -> ExitCode {
    let options = ImageOptions {
        read_only: true,
        shared: true,
        ..Default::default()
    };
    let below = match Image::open(backing, options) {
        Ok(below) => below,
        Err(error) => {
            let errno = match error {
                ImageError::Open(errno) => errno,
                _ => Errno::EINVAL,
            };
            let (shown, code) = (backing.display(), errno.code());
            println!("write_cow_header - backing file '{shown}' mtime request failed, err = {code}");
            return not_opened("write_cow_header", backing, error);
        }
    };
    if below.identity() == image.identity() {
        eprintln!("write_cow_header: a file cannot be its own backing file; name another COW file");
        return ExitCode::FAILURE;
    }
    if let Err(errno) = image.set_len(0) {
        return failed("open COW file", errno);
    }
    match open::format(image, &below, backing).map(drop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CreateError::Absolute(path, error)) => {
            let code = error.raw_os_error().unwrap_or(Errno::EINVAL.code());
            println!("absolutize : Can't cd to '{}' - errno = {code}", path.display());
            failed("write_cow_header", Errno::from_host(code))
        }
        Err(CreateError::Header(error)) => {
            eprintln!("{error}");
            failed("write_cow_header", Errno::EINVAL)
        }
        Err(CreateError::Write(errno)) => failed("write_cow_header", errno),
    }
}
