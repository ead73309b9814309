//! Access control lists (`acl(5)`, POSIX.1e draft 17): what a list says, and how it and the mode bits follow each other.
//!
//! A file system stores lists in its own form and hands them over parsed ([`Inode::acl`]); [`super::permission`] asks them.
//! The form of `getxattr(2)` is read and written here.
//!
//! [`Inode::acl`]: super::inode::Inode::acl

use alloc::vec::Vec;

use super::attr::Mode;
use super::permission::May;
use crate::task::Cred;
use crate::{Errno, Result};

/// Version of the form of `getxattr(2)`.
const VERSION: u32 = 2;

/// Which of a file's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclKind {
    /// Who may use the file.
    Access,
    /// What files made in a directory get.
    Default,
}

impl AclKind {
    /// Both.
    pub const ALL: [AclKind; 2] = [AclKind::Access, AclKind::Default];

    /// The name of its extended attribute.
    pub fn name(self) -> &'static [u8] {
        match self {
            AclKind::Access => b"system.posix_acl_access",
            AclKind::Default => b"system.posix_acl_default",
        }
    }

    /// The list that an extended attribute is; none for any other attribute.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Whom an entry is for; the numbers are those of `getxattr(2)` and of disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Tag {
    /// The owner.
    UserObj = 0x01,
    /// A user by number.
    User = 0x02,
    /// The owning group.
    GroupObj = 0x04,
    /// A group by number.
    Group = 0x08,
    /// The most that everybody but the owner and the others can get.
    Mask = 0x10,
    /// Everybody else.
    Other = 0x20,
}

impl Tag {
    /// The tag with this number.
    pub fn of_number(number: u16) -> Option<Self> {
        [
            Tag::UserObj,
            Tag::User,
            Tag::GroupObj,
            Tag::Group,
            Tag::Mask,
            Tag::Other,
        ]
        .into_iter()
        .find(|tag| *tag as u16 == number)
    }

    /// Whether its entries carry a number.
    pub fn is_named(self) -> bool {
        matches!(self, Tag::User | Tag::Group)
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For whom.
    pub tag: Tag,
    /// Read 4, write 2, execute 1.
    pub perm: u16,
    /// Of a named entry: which; `u32::MAX` of others.
    pub id: u32,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// A list as it was stored. Rights that it does not name are not given.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Reads the form of `setxattr(2)`; none for nothing at all and for a list without entries, both of which remove one.
    ///
    /// # Errors
    /// `EINVAL` unless tags stand in order, the three basic ones once each, a mask where there are named entries. `EOPNOTSUPP` for another version.
    pub fn from_user(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*head) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        if !rest.len().is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let entries = rest.chunks_exact(8).map(|raw| {
            let entry = Entry {
                tag: Tag::of_number(u16::from_le_bytes([raw[0], raw[1]]))?,
                perm: u16::from_le_bytes([raw[2], raw[3]]),
                id: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
            };
            let is_valid = entry.perm & !7 == 0 && (!entry.tag.is_named() || entry.id != u32::MAX);
            is_valid.then_some(entry)
        });
        let acl = Self::new(entries.collect::<Option<Vec<_>>>().ok_or(Errno::EINVAL)?);
        if acl.entries.is_empty() {
            return Ok(None);
        }
        let ordered = acl
            .entries
            .windows(2)
            .all(|pair| pair[0].tag < pair[1].tag || (pair[0].tag == pair[1].tag && pair[0].tag.is_named()));
        let basic = [Tag::UserObj, Tag::GroupObj, Tag::Other].map(|tag| acl.perm(tag).is_some());
        let named = acl.entries.iter().any(|entry| entry.tag.is_named());
        if ordered && basic == [true; 3] && (!named || acl.perm(Tag::Mask).is_some()) {
            Ok(Some(acl))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The list as `getxattr(2)` gives it.
    pub fn to_user(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend_from_slice(&(entry.tag as u16).to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    /// Its entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn perm(&self, tag: Tag) -> Option<u16> {
        self.entries
            .iter()
            .find(|entry| entry.tag == tag)
            .map(|entry| entry.perm)
    }

    /// Whether the mode bits say all of it.
    pub fn is_minimal(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| matches!(entry.tag, Tag::UserObj | Tag::GroupObj | Tag::Other))
    }

    /// The entry that the group bits of the mode are: the mask where there is one.
    fn class(&self) -> Tag {
        match self.perm(Tag::Mask) {
            Some(_) => Tag::Mask,
            None => Tag::GroupObj,
        }
    }

    fn shift(tag: Tag, class: Tag) -> Option<u32> {
        match tag {
            Tag::UserObj => Some(6),
            Tag::Other => Some(0),
            tag if tag == class => Some(3),
            _ => None,
        }
    }

    /// The permission bits of a file with this list.
    pub fn mode(&self) -> Mode {
        let class = self.class();
        let bits = self
            .entries
            .iter()
            .filter_map(|entry| Self::shift(entry.tag, class).map(|shift| u32::from(entry.perm & 7) << shift));
        Mode::from_bits_truncate(bits.fold(0, |sum, bits| sum | bits))
    }

    /// After `chmod(2)`: the basic entries and the mask are what the mode says.
    pub fn follow(&mut self, mode: Mode) {
        let class = self.class();
        for entry in &mut self.entries {
            if let Some(shift) = Self::shift(entry.tag, class) {
                entry.perm = (mode.bits() >> shift & 7) as u16;
            }
        }
    }

    /// The access list of a file made with `mode` in a directory with this default list: no more than either allows. Its [`mode`](Self::mode) is the file's.
    pub fn inherited(&self, mode: Mode) -> Self {
        let mut acl = self.clone();
        let both = acl.mode() & mode;
        acl.follow(both);
        acl
    }

    /// Whether someone who is not the owner may. `group` is the owning group.
    ///
    /// A user's own entry decides for him; else each of his groups that has an entry may give it; else what others may.
    pub fn grants(&self, group: u32, cred: &Cred, may: May) -> bool {
        let mask = self.perm(Tag::Mask).unwrap_or(7);
        let allows = |perm: u16| may.bits() & !u32::from(perm) == 0;
        let own = |entry: &&Entry| entry.tag == Tag::User && entry.id == cred.fsuid;
        if let Some(entry) = self.entries.iter().find(own) {
            return allows(entry.perm & mask);
        }
        let mut is_member = false;
        for entry in &self.entries {
            let matches = match entry.tag {
                Tag::GroupObj => cred.in_group(group),
                Tag::Group => cred.in_group(entry.id),
                _ => false,
            };
            if matches && allows(entry.perm) {
                return allows(mask);
            }
            is_member |= matches;
        }
        !is_member && self.perm(Tag::Other).is_some_and(allows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(Tag, u16, u32)]) -> Acl {
        Acl::new(entries.iter().map(|&(tag, perm, id)| Entry { tag, perm, id }).collect())
    }

    fn full() -> Acl {
        let none = u32::MAX;
        list(&[
            (Tag::UserObj, 6, none),
            (Tag::User, 7, 10),
            (Tag::User, 0, 11),
            (Tag::GroupObj, 4, none),
            (Tag::Group, 2, 20),
            (Tag::Mask, 6, none),
            (Tag::Other, 1, none),
        ])
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Cred {
        let mut cred = (*Cred::root()).clone();
        cred.fsuid = uid;
        cred.fsgid = gid;
        cred.groups = groups.into();
        cred
    }

    #[test]
    fn named_users_then_groups_then_others_and_the_mask_cuts() {
        let acl = full();
        let may = |cred: &Cred| [May::READ, May::WRITE, May::EXEC].map(|may| acl.grants(5, cred, may));
        assert_eq!(
            may(&user(10, 1, &[])),
            [true, true, false],
            "the mask takes x from user 10"
        );
        assert_eq!(may(&user(11, 5, &[20])), [false; 3], "user 11 has no group's rights");
        assert_eq!(may(&user(12, 5, &[])), [true, false, false], "the owning group");
        assert_eq!(may(&user(12, 1, &[20])), [false, true, false], "group 20");
        assert_eq!(
            may(&user(12, 5, &[20])),
            [true, true, false],
            "each group gives what it has"
        );
        assert!(
            !acl.grants(5, &user(12, 5, &[20]), May::READ | May::WRITE),
            "but one entry must give all"
        );
        assert_eq!(
            may(&user(12, 1, &[])),
            [false, false, true],
            "others, whom the mask does not touch"
        );
    }

    #[test]
    fn mode_and_list_follow_each_other() {
        let mut acl = full();
        assert_eq!(acl.mode().bits(), 0o661);
        acl.follow(Mode::from_bits_truncate(0o740));
        assert_eq!(acl.mode().bits(), 0o740);
        assert_eq!(acl.perm(Tag::GroupObj), Some(4), "the mask took the group's bits");
        assert_eq!(full().inherited(Mode::from_bits_truncate(0o700)).mode().bits(), 0o600);
        assert!(!acl.is_minimal() && list(&[(Tag::UserObj, 6, 0)]).is_minimal());
    }

    #[test]
    fn what_setxattr_gives_is_read_back_and_nonsense_is_refused() {
        let bytes = full().to_user();
        assert_eq!(Acl::from_user(&bytes), Ok(Some(full())));
        assert_eq!(Acl::from_user(&bytes[..4]), Ok(None));
        assert_eq!(Acl::from_user(b""), Ok(None));
        assert_eq!(Acl::from_user(&bytes[..3]), Err(Errno::EINVAL));
        assert_eq!(
            Acl::from_user(&bytes[..bytes.len() - 8]),
            Err(Errno::EINVAL),
            "no entry for others"
        );
        let mut other = bytes.clone();
        other[0] = 1;
        assert_eq!(Acl::from_user(&other), Err(Errno::EOPNOTSUPP));
        let mut swapped = bytes;
        swapped.swap(4, 12);
        assert_eq!(Acl::from_user(&swapped), Err(Errno::EINVAL), "out of order");
    }
}
