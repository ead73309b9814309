//! What is in the directory of a process or thread.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use arch_um::Errno;

use super::subject::{Found, Scope, Subject};
use super::{fd, fdinfo, links, mem, memory, mounts, settings, smaps, stat, status};
use crate::Result;
use crate::fs::pseudo::{Attributes, Body, Content, Dir, Node, Seq, Target, Text};
use crate::task::table;
use crate::vfs::{FileOps, FileType, OpenFlags};

/// Which directories have an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Both,
    Process,
    Thread,
}

/// Who may open an entry, beyond its mode bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Everybody.
    None,
    /// Who may look into the process.
    Access,
}

/// How an entry is made.
#[derive(Clone, Copy)]
enum Make {
    /// A text.
    Show(Guard, fn(&Found, &mut Seq) -> Result<()>),
    /// A text that can be written.
    Setting(
        Guard,
        fn(&Found, &mut Seq) -> Result<()>,
        fn(&Found, &[u8]) -> Result<()>,
    ),
    /// A link to an object of the process.
    Link(links::Follow),
    /// Anything else.
    Body(fn(&Subject) -> Body),
}

struct Entry {
    name: &'static str,
    mode: u32,
    place: Where,
    make: Make,
}

const fn show(name: &'static str, mode: u32, guard: Guard, show: fn(&Found, &mut Seq) -> Result<()>) -> Entry {
    Entry {
        name,
        mode,
        place: Where::Both,
        make: Make::Show(guard, show),
    }
}

const fn setting(
    name: &'static str,
    mode: u32,
    show: fn(&Found, &mut Seq) -> Result<()>,
    store: fn(&Found, &[u8]) -> Result<()>,
) -> Entry {
    Entry {
        name,
        mode,
        place: Where::Both,
        make: Make::Setting(Guard::None, show, store),
    }
}

const fn link(name: &'static str, follow: links::Follow) -> Entry {
    Entry {
        name,
        mode: 0o777,
        place: Where::Both,
        make: Make::Link(follow),
    }
}

const fn body(name: &'static str, mode: u32, place: Where, make: fn(&Subject) -> Body) -> Entry {
    Entry {
        name,
        mode,
        place,
        make: Make::Body(make),
    }
}

const fn process_only(entry: Entry) -> Entry {
    Entry {
        place: Where::Process,
        ..entry
    }
}

/// In the order Linux lists them, roughly.
static ENTRIES: &[Entry] = &[
    body("task", 0o555, Where::Process, |subject| {
        Body::Dir(Arc::new(Tasks(subject.clone())))
    }),
    body("fd", 0o500, Where::Both, |subject| {
        Body::Dir(Arc::new(fd::Descriptors(subject.clone())))
    }),
    body("fdinfo", 0o555, Where::Both, |subject| {
        Body::Dir(Arc::new(fdinfo::Infos(subject.clone())))
    }),
    body("ns", 0o511, Where::Both, |subject| {
        Body::Dir(Arc::new(links::Namespaces(subject.clone())))
    }),
    body("net", 0o555, Where::Both, |_| Body::Dir(links::net_directory())),
    show("environ", 0o400, Guard::Access, memory::environ),
    show("auxv", 0o400, Guard::Access, memory::auxv),
    show("status", 0o444, Guard::None, status::show),
    show("personality", 0o400, Guard::Access, settings::personality),
    show("limits", 0o444, Guard::None, settings::limits),
    setting("sched", 0o644, settings::sched, settings::ignore),
    setting("comm", 0o644, settings::comm, settings::set_comm),
    show("syscall", 0o400, Guard::Access, settings::syscall),
    show("cmdline", 0o444, Guard::None, memory::cmdline),
    show("stat", 0o444, Guard::None, stat::stat),
    show("statm", 0o444, Guard::None, stat::statm),
    show("maps", 0o444, Guard::Access, memory::maps),
    body("mem", 0o600, Where::Both, |subject| {
        Body::File(Arc::new(mem::Memory(subject.clone())))
    }),
    link("cwd", links::cwd),
    link("root", links::root),
    link("exe", links::exe),
    body("mounts", 0o444, Where::Both, |subject| {
        Body::File(mounts::content(subject, mounts::show_mounts))
    }),
    body("mountinfo", 0o444, Where::Both, |subject| {
        Body::File(mounts::content(subject, mounts::show_mountinfo))
    }),
    process_only(body("mountstats", 0o400, Where::Both, |subject| {
        Body::File(mounts::content(subject, mounts::show_mountstats))
    })),
    show("smaps", 0o444, Guard::Access, smaps::smaps),
    process_only(show("smaps_rollup", 0o444, Guard::Access, smaps::rollup)),
    show("wchan", 0o444, Guard::None, settings::wchan),
    show("stack", 0o400, Guard::Access, |_, _| Ok(())),
    show("schedstat", 0o444, Guard::None, settings::schedstat),
    show("cgroup", 0o444, Guard::None, settings::cgroup),
    show("oom_score", 0o444, Guard::None, settings::oom_score),
    setting("oom_adj", 0o644, settings::oom_adj, settings::set_oom_adj),
    setting(
        "oom_score_adj",
        0o644,
        settings::oom_score_adj,
        settings::set_oom_score_adj,
    ),
    setting("loginuid", 0o644, settings::unset_id, settings::ignore),
    show("sessionid", 0o444, Guard::None, settings::unset_id),
    process_only(setting(
        "coredump_filter",
        0o644,
        settings::coredump_filter,
        settings::ignore,
    )),
    show("io", 0o400, Guard::Access, settings::io),
    setting("uid_map", 0o644, settings::id_map, settings::refuse),
    setting("gid_map", 0o644, settings::id_map, settings::refuse),
    setting("setgroups", 0o644, settings::setgroups, settings::refuse),
    process_only(show("timers", 0o444, Guard::Access, settings::timers)),
    process_only(setting(
        "timerslack_ns",
        0o666,
        settings::timerslack,
        settings::set_timerslack,
    )),
    Entry {
        place: Where::Thread,
        ..show("children", 0o444, Guard::None, settings::children)
    },
];

/// First of the numbers of entries; the directory itself has 0.
const FIRST_INDEX: u32 = 1;

/// The directory of `subject`.
pub(super) fn directory(subject: Subject) -> Node {
    let dir = Arc::new(Directory(subject.clone()));
    subject.node(0, 0o555, Body::Dir(dir))
}

/// `/proc/PID` or `/proc/PID/task/TID`.
struct Directory(Subject);

impl Directory {
    fn entries(&self) -> impl Iterator<Item = (u32, &'static Entry)> {
        let scope = self.0.scope();
        let shown = move |entry: &Entry| match entry.place {
            Where::Both => true,
            Where::Process => scope == Scope::Process,
            Where::Thread => scope == Scope::Thread,
        };
        (FIRST_INDEX..).zip(ENTRIES).filter(move |(_, entry)| shown(entry))
    }
}

impl Dir for Directory {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        self.0.find().map_err(|_| Errno::ENOENT)?;
        let found = self.entries().find(|(_, entry)| entry.name.as_bytes() == name);
        let (index, entry) = found.ok_or(Errno::ENOENT)?;
        let subject = &self.0;
        let body = match entry.make {
            Make::Show(guard, show) => file(subject, guard, show, None),
            Make::Setting(guard, show, store) => file(subject, guard, show, Some(store)),
            Make::Link(follow) => {
                let link: Arc<dyn Target> = Arc::new(links::ObjectLink {
                    subject: subject.clone(),
                    follow,
                });
                Body::Link(link)
            }
            Make::Body(make) => make(subject),
        };
        Ok(subject.node(index, entry.mode, body))
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        self.0.find().map_err(|_| Errno::ENOENT)?;
        for (index, entry) in self.entries() {
            let kind = match entry.make {
                Make::Link(_) => FileType::Symlink,
                Make::Body(make) => make(&self.0).kind(),
                _ => FileType::Regular,
            };
            show(
                entry.name.as_bytes(),
                super::subject::dir_ino(self.0.id) | u64::from(index),
                kind,
            );
        }
        Ok(())
    }

    fn subdirectories(&self) -> u32 {
        7
    }

    fn attributes(&self) -> Option<Attributes> {
        None
    }
}

/// A text about a process, opened by those whom `guard` lets.
struct Guarded {
    subject: Subject,
    guard: Guard,
    text: Arc<Text>,
}

impl Content for Guarded {
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if self.guard == Guard::Access {
            self.subject.find_for_access()?;
        }
        self.text.clone().open(flags)
    }
}

type Show = fn(&Found, &mut Seq) -> Result<()>;
type Store = fn(&Found, &[u8]) -> Result<()>;

fn file(subject: &Subject, guard: Guard, show: Show, store: Option<Store>) -> Body {
    let reader = subject.clone();
    let show = move |out: &mut Seq| show(&reader.find()?, out);
    let text = match store {
        Some(store) => {
            let writer = subject.clone();
            Text::with_store(show, move |data| store(&writer.find()?, data))
        }
        None => Text::new(show),
    };
    Body::File(Arc::new(Guarded {
        subject: subject.clone(),
        guard,
        text,
    }))
}

/// `/proc/PID/task`.
struct Tasks(Subject);

impl Dir for Tasks {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let tid = super::parse_pid(name).ok_or(Errno::ENOENT)?;
        let process = self.0.find().map_err(|_| Errno::ENOENT)?.process;
        let task = table::task(tid).filter(|task| Arc::ptr_eq(task.process(), &process));
        let task = task.ok_or(Errno::ENOENT)?;
        Ok(directory(Subject::thread(&task)))
    }

    fn list(&self, show: &mut dyn FnMut(&[u8], u64, FileType)) -> Result<()> {
        for task in self.0.find().map_err(|_| Errno::ENOENT)?.process.threads() {
            let tid = task.tid();
            show(
                tid.0.to_string().as_bytes(),
                super::subject::dir_ino(tid),
                FileType::Directory,
            );
        }
        Ok(())
    }

    fn subdirectories(&self) -> u32 {
        self.0.find().map_or(0, |found| found.process.thread_count() as u32)
    }
}

/// A name made of a number.
pub(super) fn number_name(number: i32) -> alloc::vec::Vec<u8> {
    format!("{number}").into_bytes()
}
