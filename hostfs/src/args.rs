//! `hostfs=<root>[,append]` of the command line, and the options of one mount.

use kernel::vfs::inode::MountSource;
use kernel::{Errno, Result};

/// What `hostfs=` says: where every mount lies below, and whether files may only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostfsArgs {
    /// The directory of the host that no mount leaves; empty for the host's root.
    pub root: Vec<u8>,
    /// Files only grow: every write goes to the end, nothing is removed or cut.
    pub append: bool,
}

impl HostfsArgs {
    /// Reads the text behind `hostfs=`. An unknown flag is reported as UML does and otherwise ignored.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(',');
        let root = parts.next().unwrap_or_default().as_bytes().to_vec();
        let mut append = false;
        for flag in parts.filter(|flag| !flag.is_empty()) {
            match flag {
                "append" => append = true,
                other => println!("hostfs_args - unsupported option - {other}"),
            }
        }
        Self { root, append }
    }
}

/// The options of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// The directory below the root of `hostfs=`, as it was given; empty for that root itself.
    pub path: Vec<u8>,
    /// `append` for this mount.
    pub append: bool,
}

impl MountOptions {
    /// Accepts every spelling that some version of UML or mount(8) uses: a bare `/path`, `hostfs=/path`, and what /proc/mounts shows.
    ///
    /// # Errors
    /// `EINVAL` for anything else, with a line in the log.
    pub fn parse(source: &MountSource) -> Result<Self> {
        let mut found = Self::default();
        for option in &source.options {
            match (option.key.as_slice(), option.value.as_deref()) {
                (b"", None) => {}
                (key, value) if key.starts_with(b"/") => {
                    // A path with `=` in it was taken for a key with a value on its way here.
                    found.path = key.to_vec();
                    if let Some(rest) = value {
                        found.path.push(b'=');
                        found.path.extend_from_slice(rest);
                    }
                }
                (b"hostfs", Some(path)) => found.path = path.to_vec(),
                (b"append", None) => found.append = true,
                (key, _) => {
                    log::error!("hostfs: Unknown parameter '{}'", String::from_utf8_lossy(key));
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(found)
    }

    /// The text for /proc/mounts: `,/path`, with the escapes `getmntent(3)` undoes.
    pub fn show(&self) -> String {
        let mut text = String::new();
        if !self.path.is_empty() {
            text.push(',');
            for &byte in &self.path {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b',' | b'#' | 0x80.. => text.push_str(&format!("\\{byte:03o}")),
                    plain => text.push(char::from(plain)),
                }
            }
        }
        if self.append {
            text.push_str(",append");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::vfs::inode::MountOption;

    fn options(list: &[(&str, Option<&str>)]) -> Result<MountOptions> {
        let option = |(key, value): &(&str, Option<&str>)| MountOption {
            key: key.as_bytes().to_vec(),
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        MountOptions::parse(&MountSource {
            options: list.iter().map(option).collect(),
            ..MountSource::default()
        })
    }

    #[test]
    fn every_spelling_of_the_path_is_understood() {
        for list in [&[("/home/me", None)][..], &[("hostfs", Some("/home/me"))]] {
            assert_eq!(options(list).unwrap().path, b"/home/me");
        }
        assert_eq!(options(&[("/a", Some("b"))]).unwrap().path, b"/a=b");
        assert_eq!(options(&[]).unwrap().path, b"");
    }

    #[test]
    fn an_unknown_option_is_refused() {
        assert_eq!(options(&[("uid", Some("0"))]), Err(Errno::EINVAL));
        assert_eq!(options(&[("hostfs", None)]), Err(Errno::EINVAL));
    }

    #[test]
    fn proc_mounts_shows_the_path_as_an_option() {
        assert_eq!(
            options(&[("/a b", None), ("append", None)]).unwrap().show(),
            ",/a\\040b,append"
        );
        assert_eq!(options(&[]).unwrap().show(), "");
    }

    #[test]
    fn the_command_line_names_root_and_append() {
        assert_eq!(
            HostfsArgs::parse("/srv,append"),
            HostfsArgs {
                root: b"/srv".to_vec(),
                append: true
            }
        );
        assert_eq!(HostfsArgs::parse(""), HostfsArgs::default());
    }
}
