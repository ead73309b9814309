//! What there is to do, and flavours of work: how often each of them does what.

use crate::random::Random;

/// What an operation does.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Create,
    Mkdir,
    Symlink,
    Link,
    Remove,
    Rename,
    /// A file is written, synchronized, and renamed over another one, as editors do.
    Replace,
    Write,
    Truncate,
    Fallocate,
    Xattr,
    /// A file without a name is made, or one loses its name while it is open.
    Nameless,
    Close,
    Fsync,
    Sync,
}

/// Workloads: a name, and how often it does what.
const FLAVOURS: [(&str, &[(Op, u64)]); 6] = [
    (
        "names",
        &[
            (Op::Create, 30),
            (Op::Mkdir, 10),
            (Op::Symlink, 5),
            (Op::Link, 8),
            (Op::Remove, 15),
            (Op::Rename, 20),
            (Op::Write, 4),
            (Op::Fsync, 4),
            (Op::Sync, 2),
        ],
    ),
    (
        "editor",
        &[
            (Op::Create, 4),
            (Op::Replace, 10),
            (Op::Write, 4),
            (Op::Remove, 1),
            (Op::Sync, 1),
        ],
    ),
    (
        "database",
        &[
            (Op::Create, 3),
            (Op::Write, 20),
            (Op::Fallocate, 15),
            (Op::Truncate, 5),
            (Op::Fsync, 8),
            (Op::Sync, 1),
        ],
    ),
    (
        "attributes",
        &[
            (Op::Create, 6),
            (Op::Xattr, 20),
            (Op::Write, 4),
            (Op::Link, 2),
            (Op::Remove, 3),
            (Op::Fsync, 5),
            (Op::Sync, 1),
        ],
    ),
    (
        "orphans",
        &[
            (Op::Create, 6),
            (Op::Write, 10),
            (Op::Nameless, 8),
            (Op::Truncate, 6),
            (Op::Close, 4),
            (Op::Remove, 4),
            (Op::Fsync, 3),
            (Op::Sync, 2),
        ],
    ),
    (
        "everything on a full disk",
        &[
            (Op::Create, 8),
            (Op::Mkdir, 2),
            (Op::Symlink, 2),
            (Op::Link, 2),
            (Op::Remove, 4),
            (Op::Rename, 4),
            (Op::Replace, 2),
            (Op::Write, 12),
            (Op::Truncate, 3),
            (Op::Fallocate, 6),
            (Op::Xattr, 4),
            (Op::Nameless, 2),
            (Op::Close, 1),
            (Op::Fsync, 3),
            (Op::Sync, 1),
        ],
    ),
];

/// How many flavours there are.
pub const KINDS: usize = FLAVOURS.len();

/// Whether it works on a disk that is full.
pub fn fills_up(flavour: usize) -> bool {
    flavour == KINDS - 1
}

/// A flavour's name.
pub fn name(flavour: usize) -> &'static str {
    FLAVOURS[flavour].0
}

/// The next operation of a flavour.
pub fn choose(flavour: usize, random: &mut Random) -> Op {
    let ops = FLAVOURS[flavour].1;
    let mut roll = random.below(ops.iter().map(|(_, weight)| weight).sum());
    for (op, weight) in ops {
        if roll < *weight {
            return *op;
        }
        roll -= weight;
    }
    Op::Sync
}
