//! [`Part`]: the image while it is made, beside its place and under another name.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::options::Replace;

/// An unfinished image; removed again unless [`Part::finish`] gives it its name.
pub struct Part {
    path: PathBuf,
    out: PathBuf,
    replace: Replace,
}

impl Part {
    /// An empty file in the directory of `out`.
    ///
    /// # Errors
    /// There is an `out` that may not be replaced or is no file, or its directory cannot be written.
    pub fn create(out: &Path, replace: Replace) -> Result<Self, String> {
        match (fs::metadata(out), replace) {
            (Ok(there), _) if !there.is_file() => return Err(format!("{}: exists and is no file", out.display())),
            (Ok(_), Replace::Never) => return Err(format!("{}: exists already (--force replaces it)", out.display())),
            _ => {}
        }
        let folder = match out.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Absolute: programs that get this name may work elsewhere.
        let folder = fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let path = folder.join(format!(".image-{}.part", std::process::id()));
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        made.map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => format!("{}: you may not write here", folder.display()),
            _ => format!("{}: {error}", path.display()),
        })?;
        Ok(Self {
            path,
            out: out.to_owned(),
            replace,
        })
    }

    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the image in its place.
    ///
    /// # Errors
    /// Somebody else made a file of this name in the meantime, or the host cannot rename.
    pub fn finish(self) -> Result<(), String> {
        let failed = |error| format!("{}: {error}", self.out.display());
        match self.replace {
            Replace::Forced => fs::rename(&self.path, &self.out).map_err(failed),
            // A link never replaces; `drop` removes the other name.
            Replace::Never => fs::hard_link(&self.path, &self.out)
                .or_else(|error| match error.kind() {
                    ErrorKind::AlreadyExists => Err(error),
                    _ => fs::rename(&self.path, &self.out),
                })
                .map_err(failed),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
