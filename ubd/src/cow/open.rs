//! Opening a COW file: its backing file is found, checked against the header and, if asked for, exchanged; new files are made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arch_um::Errno;
use arch_um::host::image::{Durability, Identity, Image, ImageError, ImageOptions};

use super::bitmap::Bitmap;
use super::header::{self, Header, HeaderError, Layout, SECTOR};
use super::store::{CowStore, Saving};
use crate::refusal::Refusal;

/// The header of `image`, if it is a COW file.
///
/// # Errors
/// One sentence for a COW file that is damaged.
pub fn probe(image: &Image, path: &Path) -> Result<Option<Header>, Refusal> {
    let len = image.len().map_err(|errno| Refusal::unreadable(path, errno))?;
    let mut bytes = vec![0; len.min(header::MOST_BYTES as u64) as usize];
    image
        .read(0, &mut bytes)
        .map_err(|errno| Refusal::unreadable(path, errno))?;
    Header::parse(&bytes).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &HeaderError) -> Refusal {
    Refusal::new(
        Errno::EINVAL,
        format!(
            "\"{}\" is a damaged COW file: {error}; take a copy of it, or flag \"d\" to see it as plain data",
            path.display()
        ),
    )
}

/// A disk of a COW file and its backing file.
pub struct Cow {
    /// The disk.
    pub store: CowStore,
    /// The backing file in use.
    pub backing: PathBuf,
    /// The disk's length in bytes.
    pub len: u64,
}

/// Makes a disk of `image`, the COW file `path` with `header`. `asked` is the backing file of the command line; if it is another one than the header
/// names and just as large and old, the header is rewritten to name it, as UML does.
///
/// # Errors
/// One sentence: the backing file is not there, has changed, is locked; the COW file is damaged.
pub fn open(
    image: Image,
    path: &Path,
    header: Header,
    asked: Option<&Path>,
    options: ImageOptions,
) -> Result<Cow, Refusal> {
    let (header, backing) = match asked.filter(|asked| is_other(asked, &header.backing, path)) {
        Some(asked) => exchange(&image, path, header, asked, options)?,
        None => {
            let backing = open_backing(&header.backing, options)?;
            (header, backing)
        }
    };
    check(&backing, &header.backing, &header)?;
    if backing.identity() == image.identity() {
        return Err(Refusal::new(
            Errno::EINVAL,
            format!(
                "\"{}\" names itself as its backing file; name another one",
                path.display()
            ),
        ));
    }
    if let Ok(Some(_)) = probe(&backing, &header.backing) {
        log::warn!(
            "The backing file \"{}\" is a COW file itself; its bytes are taken as they are, its own backing file is not looked for",
            header.backing.display()
        );
    }
    let layout = header.layout();
    let bitmap = load_bitmap(&image, path, &layout)?;
    if !image.is_read_only() && image.len().is_ok_and(|len| len < layout.file_len()) {
        image.set_len(layout.file_len()).map_err(|errno| {
            Refusal::new(
                errno,
                format!("\"{}\" cannot be made as long as its disk: {errno}", path.display()),
            )
        })?;
    }
    let saving = if options.sync {
        Saving::EachWrite
    } else {
        Saving::OnFlush
    };
    Ok(Cow {
        store: CowStore::new(Box::new(image), Arc::new(backing), layout, bitmap, saving),
        backing: header.backing,
        len: layout.size,
    })
}

/// Opens a backing file: only ever read, and by as many as like.
fn open_backing(path: &Path, options: ImageOptions) -> Result<Image, Refusal> {
    let options = ImageOptions {
        read_only: true,
        ..options
    };
    if options.shared {
        log::info!("Not locking \"{}\" on the host", path.display());
    }
    Image::open(path, options).map_err(|error| {
        let refusal = Refusal::of_image(path, error);
        match error {
            ImageError::Open(errno) => Refusal::new(
                errno,
                format!(
                    "Failed to get modification time of backing file \"{}\", err = {}: {}",
                    path.display(),
                    errno.code(),
                    refusal.text()
                ),
            ),
            _ => refusal,
        }
    })
}

/// Whether the backing file asked for is another one than the header's.
fn is_other(asked: &Path, named: &Path, cow: &Path) -> bool {
    if asked == named {
        return false;
    }
    match (Identity::at(asked), Identity::at(named)) {
        (Ok(asked), Ok(named)) if asked == named => return false,
        (Ok(_), Err(errno)) => log::error!("Couldn't stat '{}', err = {}", named.display(), errno.code()),
        (Err(errno), _) => log::error!("Couldn't stat '{}', err = {}", asked.display(), errno.code()),
        _ => log::error!(
            "Backing file mismatch - \"{}\" requested, \"{}\" specified in COW header of \"{}\"",
            asked.display(),
            named.display(),
            cow.display()
        ),
    }
    true
}

/// Has `asked` take the place of the header's backing file. One that does not match is left alone, and the header's used.
fn exchange(
    image: &Image,
    path: &Path,
    header: Header,
    asked: &Path,
    options: ImageOptions,
) -> Result<(Header, Image), Refusal> {
    let backing =
        match open_backing(asked, options).and_then(|backing| check(&backing, asked, &header).map(|()| backing)) {
            Ok(backing) => backing,
            Err(refusal) => {
                log::error!("{}", refusal.text());
                let backing = open_backing(&header.backing, options)?;
                return Ok((header, backing));
            }
        };
    log::error!("Switching backing file to '{}'", asked.display());
    let failed = |errno: Errno| {
        Refusal::new(
            errno,
            format!(
                "Switch failed, errno = {}: the header of \"{}\" cannot be rewritten",
                errno.code(),
                path.display()
            ),
        )
    };
    let name = header::absolute(asked).map_err(|error| failed(Errno::from_host(error.raw_os_error().unwrap_or(5))))?;
    let header = Header {
        backing: name,
        ..header
    };
    if image.is_read_only() {
        return Ok((header, backing));
    }
    // Version, alignment and so the place of bitmap and data stay.
    let bytes = header
        .encode()
        .map_err(|error| Refusal::new(Errno::ENAMETOOLONG, error.to_string()))?;
    image
        .write(0, &bytes, Durability::Cached)
        .and_then(|()| image.flush())
        .map_err(failed)?;
    Ok((header, backing))
}

/// Whether a backing file is what the header says.
fn check(backing: &Image, path: &Path, header: &Header) -> Result<(), Refusal> {
    let len = backing.len().map_err(|errno| Refusal::unreadable(path, errno))?;
    let shown = path.display();
    if len != header.size {
        return Err(Refusal::new(
            Errno::EINVAL,
            format!(
                "Size mismatch ({} vs {len}) of COW header vs backing file \"{shown}\": it has changed; give the file that the COW file was made for",
                header.size
            ),
        ));
    }
    // Headers keep 32 bits of the time.
    if backing.modified() as u32 != header.mtime {
        return Err(Refusal::new(
            Errno::EINVAL,
            format!(
                "mtime mismatch ({} vs {}) of COW header vs backing file \"{shown}\": it was written after the COW file was made; if its contents are \
                 the same, touch -d @{} \"{shown}\" says so",
                header.mtime,
                backing.modified(),
                header.mtime
            ),
        ));
    }
    Ok(())
}

/// Reads the bitmap, and finds out whether the file has the data it promises.
fn load_bitmap(image: &Image, path: &Path, layout: &Layout) -> Result<Bitmap, Refusal> {
    let len = image.len().map_err(|errno| Refusal::unreadable(path, errno))?;
    let cut = |what: &str| {
        Refusal::new(
            Errno::EINVAL,
            format!(
                "\"{}\" is a damaged COW file: it ends at byte {len}, {what}; take a copy of it that is complete",
                path.display()
            ),
        )
    };
    if len < layout.bitmap_offset + layout.bitmap_len {
        return Err(cut("inside its bitmap"));
    }
    let bitmap = Bitmap::load(layout.bitmap_len, |at, bytes| {
        image.read(layout.bitmap_offset + at, bytes)
    });
    let bitmap = bitmap.map_err(|errno| match errno {
        Errno::ENOMEM => Refusal::new(
            errno,
            format!(
                "the bitmap of \"{}\" needs {} MiB of memory, which the host does not give",
                path.display(),
                layout.bitmap_len >> 20
            ),
        ),
        errno => Refusal::unreadable(path, errno),
    })?;
    let data = (bitmap.end() * SECTOR).min(layout.size);
    if data > 0 && len < layout.data_offset + data {
        return Err(cut("before data that its bitmap says it has"));
    }
    Ok(bitmap)
}

/// Why a COW file could not be made.
#[derive(Debug)]
pub enum CreateError {
    /// Nobody can say where the backing file is.
    Absolute(PathBuf, std::io::Error),
    /// The header cannot name it.
    Header(HeaderError),
    /// The host's, while it was written.
    Write(Errno),
}

/// Makes `image`, which is empty, a COW file over `backing`.
///
/// # Errors
/// See [`CreateError`].
pub fn format(image: &Image, backing: &Image, backing_path: &Path) -> Result<Header, CreateError> {
    let name = header::absolute(backing_path).map_err(|error| CreateError::Absolute(backing_path.into(), error))?;
    let size = backing.len().map_err(CreateError::Write)?;
    let header = Header::new(name, backing.modified(), size);
    let bytes = header.encode().map_err(CreateError::Header)?;
    image.write(0, &bytes, Durability::Cached).map_err(CreateError::Write)?;
    image.set_len(header.layout().file_len()).map_err(CreateError::Write)?;
    Ok(header)
}

/// Makes the COW file `path` over `backing`, sparse, as UML and `uml_mkcow` do. What cannot be finished is removed.
///
/// # Errors
/// One sentence.
pub fn create(path: &Path, backing: &Path, options: ImageOptions) -> Result<(Image, Header), Refusal> {
    let shown = path.display();
    let below = open_backing(backing, options)?;
    let image = Image::create(path, options).map_err(|error| match error {
        ImageError::Open(errno) => Refusal::new(
            errno,
            format!("\"{shown}\" cannot be made: {errno}; check its directory"),
        ),
        other => Refusal::of_image(path, other),
    })?;
    match format(&image, &below, backing) {
        Ok(header) => {
            log::info!("Creating \"{shown}\" as COW file for \"{}\"", backing.display());
            Ok((image, header))
        }
        Err(error) => {
            let _ = std::fs::remove_file(path);
            Err(match error {
                CreateError::Absolute(backing, error) => Refusal::new(
                    Errno::from_host(error.raw_os_error().unwrap_or(5)),
                    format!("the directory of \"{}\" cannot be found: {error}", backing.display()),
                ),
                CreateError::Header(error) => Refusal::new(Errno::ENAMETOOLONG, error.to_string()),
                CreateError::Write(errno) => Refusal::new(errno, format!("\"{shown}\" cannot be written: {errno}")),
            })
        }
    }
}
