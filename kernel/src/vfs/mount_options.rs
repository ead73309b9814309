//! The option text of `mount(2)`, fstab and the kernel command line: what belongs to the VFS is taken out, the rest is the file system's.

use alloc::vec::Vec;

use super::inode::MountOption;
use super::mount::MountFlags;

/// A text taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The file system's, in order.
    pub options: Vec<MountOption>,
    /// Mount flags that are set.
    pub set: u32,
    /// Mount flags that are cleared (`suid`, `dev` …).
    pub clear: u32,
    /// `ro` or `rw`, the last of them.
    pub read_only: Option<bool>,
}

/// What a word of the VFS does: sets or clears flags.
enum Word {
    Set(MountFlags),
    Clear(MountFlags),
    ReadOnly,
    ReadWrite,
    /// Accepted, without an effect here.
    Ignored,
}

fn word(key: &[u8]) -> Option<Word> {
    Some(match key {
        b"ro" => Word::ReadOnly,
        b"rw" => Word::ReadWrite,
        b"nosuid" => Word::Set(MountFlags::NOSUID),
        b"suid" => Word::Clear(MountFlags::NOSUID),
        b"nodev" => Word::Set(MountFlags::NODEV),
        b"dev" => Word::Clear(MountFlags::NODEV),
        b"noexec" => Word::Set(MountFlags::NOEXEC),
        b"exec" => Word::Clear(MountFlags::NOEXEC),
        b"noatime" => Word::Set(MountFlags::NOATIME),
        b"atime" => Word::Clear(MountFlags::NOATIME),
        b"nodiratime" => Word::Set(MountFlags::NODIRATIME),
        b"diratime" => Word::Clear(MountFlags::NODIRATIME),
        b"relatime" => Word::Set(MountFlags::RELATIME),
        b"norelatime" | b"strictatime" => Word::Clear(MountFlags::RELATIME),
        b"nosymfollow" => Word::Set(MountFlags::NOSYMFOLLOW),
        b"symfollow" => Word::Clear(MountFlags::NOSYMFOLLOW),
        b"sync" | b"async" | b"dirsync" | b"lazytime" | b"nolazytime" | b"mand" | b"nomand" | b"silent" | b"loud"
        | b"defaults" => Word::Ignored,
        _ => return None,
    })
}

impl MountOptions {
    /// Takes `text` apart at its commas.
    pub fn parse(text: &[u8]) -> Self {
        let mut parsed = Self::default();
        for piece in text.split(|&byte| byte == b',').filter(|piece| !piece.is_empty()) {
            match piece.iter().position(|&byte| byte == b'=') {
                Some(at) => parsed.push(&piece[..at], Some(&piece[at + 1..])),
                None => parsed.push(piece, None),
            }
        }
        parsed
    }

    /// Adds one option.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        // Words for the whole instance stand with a value too (`fsconfig(2)`), whatever it says.
        let known = word(key).filter(|word| value.is_none() || !matches!(word, Word::Set(_) | Word::Clear(_)));
        match known {
            Some(Word::ReadOnly) => self.read_only = Some(true),
            Some(Word::ReadWrite) => self.read_only = Some(false),
            Some(Word::Set(flag)) => {
                self.set |= flag.bits();
                self.clear &= !flag.bits();
            }
            Some(Word::Clear(flag)) => {
                self.clear |= flag.bits();
                self.set &= !flag.bits();
            }
            Some(Word::Ignored) => {}
            None => self.options.push(MountOption {
                key: key.to_vec(),
                value: value.map(<[u8]>::to_vec),
            }),
        }
    }

    /// `base` with what the text sets and clears.
    pub fn flags(&self, base: MountFlags) -> MountFlags {
        let mut flags = MountFlags::from_bits_retain((base.bits() | self.set) & !self.clear);
        if let Some(read_only) = self.read_only {
            flags.set(MountFlags::READ_ONLY, read_only);
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_instance_stand_with_a_value_too() {
        let parsed = MountOptions::parse(b"sync=false,ro=x,dev=1");
        assert_eq!(parsed.read_only, Some(true));
        assert_eq!(parsed.options.len(), 1);
        assert_eq!(
            parsed.flags(MountFlags::NODEV),
            MountFlags::NODEV | MountFlags::READ_ONLY
        );
    }

    #[test]
    fn words_of_the_vfs_are_taken_out_and_the_rest_stays_in_order() {
        let parsed = MountOptions::parse(b"ro,,nosuid,size=4k,/host/path,suid,mode=0=7");
        assert_eq!(parsed.read_only, Some(true));
        assert_eq!(
            parsed.flags(MountFlags::NODEV),
            MountFlags::NODEV | MountFlags::READ_ONLY
        );
        let keys: Vec<_> = parsed
            .options
            .iter()
            .map(|option| (&option.key[..], option.value.as_deref()))
            .collect();
        assert_eq!(
            keys,
            [
                (&b"size"[..], Some(&b"4k"[..])),
                (b"/host/path", None),
                (b"mode", Some(b"0=7"))
            ]
        );
    }
}
