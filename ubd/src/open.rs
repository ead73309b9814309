//! From a [`Spec`] to the [`Store`] below a disk: plain files, COW files, and disks whose writes are thrown away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arch_um::Errno;
use arch_um::host::image::{Image, ImageError, ImageOptions};

use crate::cow::header::SECTOR;
use crate::cow::{self, Bitmap, CowStore, Header, Layout, Saving};
use crate::refusal::Refusal;
use crate::spec::{Flags, Spec};
use crate::store::Store;

/// What a disk is made of.
pub struct Opened {
    /// Its bytes.
    pub store: Arc<dyn Store>,
    /// The host file that is the disk byte by byte, where there is one.
    pub image: Option<Arc<Image>>,
    /// How many, exactly; the disk is rounded up to whole sectors.
    pub len: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// The backing file, if there is one.
    pub backing: Option<PathBuf>,
}

/// Opens what `spec` names.
///
/// # Errors
/// One sentence: the file, the cause, the way out.
pub fn open(spec: &Spec) -> Result<Opened, Refusal> {
    let throw_away = spec.flags.contains(Flags::THROW_AWAY);
    let options = ImageOptions {
        read_only: spec.flags.contains(Flags::READ_ONLY) || throw_away,
        sync: spec.flags.contains(Flags::SYNC),
        shared: spec.flags.contains(Flags::SHARED),
    };
    let mut opened = open_files(spec, options)?;
    if opened.len == 0 {
        let shown = spec.file.display();
        return Err(Refusal::new(
            Errno::EINVAL,
            format!("\"{shown}\" is empty; make it as large as the disk should be (truncate -s 1G {shown})"),
        ));
    }
    if throw_away {
        opened.store = Arc::new(throw_away_over(opened.store, opened.len)?);
        opened.image = None;
        opened.read_only = spec.flags.contains(Flags::READ_ONLY);
    }
    Ok(opened)
}

fn open_files(spec: &Spec, options: ImageOptions) -> Result<Opened, Refusal> {
    let file = expand_home(&spec.file);
    let backing = spec.backing.as_deref().map(expand_home);
    if options.shared {
        log::info!("Not locking \"{}\" on the host", file.display());
    }
    let image = match (Image::open(&file, options), &backing) {
        (Ok(image), _) => image,
        (Err(ImageError::Open(Errno::ENOENT)), Some(backing)) if options.read_only => {
            return missing_cow(spec, &file, backing, options);
        }
        (Err(ImageError::Open(Errno::ENOENT)), Some(backing)) => {
            let (image, header) = cow::open::create(&file, backing, options)?;
            return open_cow(image, &file, header, None, options);
        }
        (Err(error), _) => return Err(Refusal::of_image(&file, error)),
    };
    if spec.flags.contains(Flags::DATA) {
        return plain(image, &file);
    }
    if is_qcow2(&image) {
        return match backing {
            None => open_qcow2(image, &file, options),
            Some(_) => Err(Refusal::new(
                Errno::EINVAL,
                format!(
                    "\"{}\" is a qcow2 image, which names its backing file itself; leave out the second file",
                    file.display()
                ),
            )),
        };
    }
    match (cow::open::probe(&image, &file)?, &backing) {
        (Some(header), _) => open_cow(image, &file, header, backing.as_deref(), options),
        (None, None) => plain(image, &file),
        (None, Some(backing)) => Err(Refusal::new(
            Errno::EINVAL,
            format!(
                "Failed to read COW header from COW file \"{}\", errno = 22: it is no COW file; name one, or a file that does not exist yet and is made over \"{}\"",
                file.display(),
                backing.display()
            ),
        )),
    }
}

/// Whether it is an image of QEMU's: no disk byte by byte, a guest that writes to it so would destroy it.
pub fn is_qcow2(image: &Image) -> bool {
    let mut magic = [0; 4];
    image.read(0, &mut magic).is_ok() && magic == *b"QFI\xfb"
}

#[cfg(feature = "qcow2")]
use crate::qcow2::open as open_qcow2;

/// The executable was built without the format.
#[cfg(not(feature = "qcow2"))]
fn open_qcow2(_image: Image, path: &Path, _options: ImageOptions) -> Result<Opened, Refusal> {
    let shown = path.display();
    Err(Refusal::new(
        Errno::EOPNOTSUPP,
        format!(
            "\"{shown}\" is a qcow2 image: build with --features qcow2, or convert it with qemu-img convert -O raw {shown} {shown}.raw (flag \"d\" shows it as plain data)"
        ),
    ))
}

/// A COW file that does not exist and is not to be made.
fn missing_cow(spec: &Spec, cow: &Path, backing: &Path, options: ImageOptions) -> Result<Opened, Refusal> {
    if !spec.flags.contains(Flags::THROW_AWAY) {
        return Err(Refusal::new(
            Errno::ENOENT,
            format!(
                "\"{}\" does not exist, and a read-only disk does not make it; leave out flag \"r\" once",
                cow.display()
            ),
        ));
    }
    // Nothing has been written yet, and nothing will be.
    let image = Image::open(backing, options).map_err(|error| Refusal::of_image(backing, error))?;
    plain(image, backing)
}

fn plain(image: Image, path: &Path) -> Result<Opened, Refusal> {
    let image = Arc::new(image);
    Ok(Opened {
        len: image.len().map_err(|errno| Refusal::unreadable(path, errno))?,
        read_only: image.is_read_only(),
        store: image.clone(),
        image: Some(image),
        backing: None,
    })
}

fn open_cow(
    image: Image,
    path: &Path,
    header: Header,
    asked: Option<&Path>,
    options: ImageOptions,
) -> Result<Opened, Refusal> {
    let read_only = image.is_read_only();
    let cow = cow::open::open(image, path, header, asked, options)?;
    Ok(Opened {
        store: Arc::new(cow.store),
        image: None,
        len: cow.len,
        read_only,
        backing: Some(cow.backing),
    })
}

/// A disk over `base` whose writes go to a file without a name that is gone with this process.
fn throw_away_over(base: Arc<dyn Store>, len: u64) -> Result<CowStore, Refusal> {
    let directory = std::env::temp_dir();
    let refused = |errno: Errno| {
        Refusal::new(
            errno,
            format!(
                "no temporary file for a throw-away disk can be made in {}: {errno}; set TMPDIR to a directory with room",
                directory.display()
            ),
        )
    };
    let image = Image::temporary(&directory).map_err(|error| match error {
        ImageError::Open(errno) => refused(errno),
        _ => refused(Errno::EIO),
    })?;
    let sectors = len.div_ceil(SECTOR);
    image.set_len(sectors * SECTOR).map_err(refused)?;
    let layout = Layout {
        bitmap_offset: 0,
        bitmap_len: sectors.div_ceil(8),
        data_offset: 0,
        size: len,
    };
    let bitmap = Bitmap::empty(layout.bitmap_len).map_err(refused)?;
    Ok(CowStore::new(Box::new(image), base, layout, bitmap, Saving::Never))
}

/// `~/disk` as the shell would have written it, for the second file of a word, which the shell leaves alone.
fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}
