//! `execve(2)`, `execveat(2)`: from a path to a running program.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use arch_um::host::auxv;
use skas::{Prot, Regs, UserThread};

use super::args::Arguments;
use super::elf::{self, Image, Kind, StackAccess};
use super::load::{self, Binary, Loaded, Place};
use super::script::{self, Script};
use super::stack::{self, StackImage, at};
use crate::mm::layout::{Layout, random_bytes};
use crate::mm::limits::Limits;
use crate::mm::vma::page_align_up;
use crate::mm::{Mm, Program};
use crate::syscall::Context;
use crate::task::exec::{self, EffectiveBit, FileCapabilities, FileIdentity, NewIdentity, Readable, Secure};
use crate::task::{Capabilities, Cred};
use crate::user::UserAddr;
use crate::vfs::fd_table::Fd;
use crate::vfs::open::{open_exec, open_exec_at};
use crate::vfs::permission::{self, May};
use crate::vfs::walk::{WalkContext, WalkFlags};
use crate::vfs::{File, Mode};
use crate::{Errno, Result};

const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_EXECVE_CHECK: u32 = 0x10000;

/// Most interpreters one after the other.
const MAX_DEPTH: usize = 5;
/// Bytes read at once from a program: its headers are nearly always among them.
const HEAD: usize = 4096;
/// Ticks a second that `times(2)` counts in.
const CLOCK_TICKS: u64 = 100;

/// `execve(2)`.
pub fn sys_execve(cx: &Context, path: UserAddr, argv: u64, envp: u64) -> Result<usize> {
    sys_execveat(cx, Fd(-100), path, argv, envp, 0)
}

/// `execveat(2)`. `EINVAL` for unknown flags, `ENOENT` for a script behind a descriptor that is closed by the exec.
pub fn sys_execveat(cx: &Context, dir: Fd, path: UserAddr, argv: u64, envp: u64, flags: u32) -> Result<usize> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EXECVE_CHECK) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path.read_path()?;
    let target = open_target(cx, dir, &path, flags)?;
    if flags & AT_EXECVE_CHECK != 0 {
        return Ok(0);
    }
    let limits = Limits::of(cx.task());
    let arguments = Arguments::from_user(&cx.task().mm(), argv, envp, limits.stack)?;
    exec(cx, target, arguments, &limits)
}

/// Runs `path` in the calling task, for the kernel's own ends (init).
pub fn exec_from_kernel(cx: &Context, path: &[u8], argv: &[&[u8]], envp: &[&[u8]]) -> Result<()> {
    let limits = Limits::of(cx.task());
    let arguments = Arguments::from_kernel(argv, envp, limits.stack)?;
    let target = open_target(cx, Fd(-100), path, 0)?;
    exec(cx, target, arguments, &limits).map(drop)
}

/// The file to run, and what it is called.
struct Target {
    file: Arc<File>,
    /// For `AT_EXECFN` and for a script's interpreter.
    name: Vec<u8>,
    /// For `comm`.
    comm: Vec<u8>,
    /// The name leads nowhere once the exec has closed its descriptors.
    vanishes: bool,
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn open_target(cx: &Context, dir: Fd, path: &[u8], flags: u32) -> Result<Target> {
    let walk = WalkContext::of(cx.task());
    let mut how = WalkFlags::FOLLOW;
    if flags & AT_SYMLINK_NOFOLLOW != 0 {
        how -= WalkFlags::FOLLOW;
    }
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if path.starts_with(b"/") || dir == Fd(-100) {
        let start = cx.task().fs().cwd();
        let file = if path.is_empty() {
            open_exec_at(&walk, start)?
        } else {
            open_exec(&walk, &start, path, how)?
        };
        return Ok(Target {
            file,
            name: path.to_vec(),
            comm: basename(path).to_vec(),
            vanishes: false,
        });
    }
    let files = cx.files();
    let base = files.get_any(dir)?;
    let place = base.path().cloned().ok_or(Errno::EACCES)?;
    let vanishes = files.close_on_exec_of(dir)? == crate::vfs::fd_table::CloseOnExec::Yes;
    if path.is_empty() {
        let comm = place.dentry.name();
        let file = open_exec_at(&walk, place)?;
        return Ok(Target {
            file,
            name: format!("/dev/fd/{}", dir.0).into_bytes(),
            comm,
            vanishes,
        });
    }
    let file = open_exec(&walk, &place, path, how)?;
    let mut name = format!("/dev/fd/{}/", dir.0).into_bytes();
    name.extend_from_slice(path);
    Ok(Target {
        file,
        comm: basename(path).to_vec(),
        name,
        vanishes,
    })
}

/// What is to be loaded, all of it checked.
struct Plan {
    program: Binary,
    interpreter: Option<Binary>,
}

fn read_head(file: &File) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let count = file.read_exact_at(0, &mut head)?;
    head.truncate(count);
    Ok(head)
}

fn read_image(file: &File, head: &[u8]) -> Result<Image> {
    let read = |offset: u64, buf: &mut [u8]| file.read_exact_at(offset, buf);
    elf::parse(head, &read, skas::layout().task_size)
}

/// Goes through scripts to a program, and from it to its interpreter.
fn plan(cx: &Context, target: &Target, arguments: &mut Arguments) -> Result<Plan> {
    let walk = WalkContext::of(cx.task());
    let start = cx.task().fs().cwd();
    let mut file = target.file.clone();
    let mut name = target.name.clone();
    let mut vanishes = target.vanishes;
    let mut depth = 0;
    loop {
        let head = read_head(&file)?;
        if let Some(Script { interpreter, argument }) = script::parse(&head) {
            if vanishes {
                return Err(Errno::ENOENT);
            }
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Errno::ELOOP);
            }
            arguments.interpret(&interpreter, argument.as_deref(), &name)?;
            file = open_exec(&walk, &start, &interpreter, WalkFlags::FOLLOW)?;
            name = interpreter;
            vanishes = false;
            continue;
        }
        let image = read_image(&file, &head)?;
        let interpreter = match &image.interpreter {
            Some(path) => Some(open_interpreter(&walk, cx, path)?),
            None => None,
        };
        return Ok(Plan {
            program: Binary::new(file, image)?,
            interpreter,
        });
    }
}

/// `ELIBBAD` for an interpreter that is no program.
fn open_interpreter(walk: &WalkContext, cx: &Context, path: &[u8]) -> Result<Binary> {
    let file = open_exec(walk, &cx.task().fs().cwd(), path, WalkFlags::FOLLOW)?;
    let head = read_head(&file)?;
    let image = read_image(&file, &head).map_err(|error| match error {
        Errno::ENOEXEC | Errno::EINVAL => Errno::ELIBBAD,
        other => other,
    })?;
    Binary::new(file, image)
}

/// What the file's mode and attributes say of the identity that runs it.
fn file_identity(file: &File) -> Result<FileIdentity> {
    let mut identity = FileIdentity::default();
    let Some(path) = file.path().filter(|path| path.mount.allows_set_id()) else {
        return Ok(identity);
    };
    let inode = path.inode();
    let meta = inode.walk_metadata()?;
    if meta.mode.contains(Mode::SETUID) {
        identity.uid = Some(meta.uid);
    }
    // Without the group's execute bit, set-group-id once meant mandatory locking.
    if meta.mode.contains(Mode::SETGID | Mode::GROUP_EXEC) {
        identity.gid = Some(meta.gid);
    }
    if let Ok(value) = inode.get_xattr(b"security.capability") {
        identity.capabilities = Some(file_capabilities(&value)?);
    }
    Ok(identity)
}

/// Reads `struct vfs_cap_data`, revisions 2 and 3. `EINVAL`.
fn file_capabilities(value: &[u8]) -> Result<FileCapabilities> {
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    const EFFECTIVE: u32 = 1;
    let word = |index: usize| {
        let bytes = value.get(index * 4..index * 4 + 4).ok_or(Errno::EINVAL)?;
        Ok::<u32, Errno>(bytes.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte)))
    };
    let magic = word(0)?;
    match (magic & 0xff00_0000, value.len()) {
        (REVISION_2, 20) => {}
        // There is one user namespace: only root's own are ours.
        (REVISION_3, 24) if word(5)? == 0 => {}
        (REVISION_3, 24) => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    let set = |low: u32, high: u32| Capabilities::from_bits_truncate(u64::from(low) | u64::from(high) << 32);
    Ok(FileCapabilities {
        permitted: set(word(1)?, word(3)?),
        inheritable: set(word(2)?, word(4)?),
        effective: if magic & EFFECTIVE != 0 {
            EffectiveBit::Set
        } else {
            EffectiveBit::Clear
        },
    })
}

fn exec(cx: &Context, target: Target, mut arguments: Arguments, limits: &Limits) -> Result<usize> {
    let task = cx.task();
    let plan = plan(cx, &target, &mut arguments)?;
    let file = plan.program.file().clone();
    let identity = exec::new_identity(&task.cred(), &file_identity(&file)?)?;
    let readable = match file.path() {
        Some(path) if permission::path(path, &task.cred(), May::READ).is_err() => Readable::No,
        _ => Readable::Yes,
    };
    exec::de_thread(cx)?;
    let files = task.files();
    // Ours, and this one: a third is another task's.
    if Arc::strong_count(&files) > 2 {
        drop(task.set_files(files.fork()));
    }
    drop(files);
    exec::release_memory(cx);
    // The point of no return: the old memory goes.
    let result = replace_memory(cx, &target, &plan, &arguments, limits, &identity, readable);
    if let Err(error) = result {
        log::info!(
            "{}[{}]: exec failed behind the point of no return: {error}",
            task.comm().to_text(),
            task.tid().0
        );
        cx.kill();
        return Err(error);
    }
    task.files().close_on_exec();
    exec::start_program(cx, &target.comm, &identity, readable);
    Ok(0)
}

/// Puts the new program into memory of its own and sets the registers to its first instruction.
fn replace_memory(
    cx: &Context,
    target: &Target,
    plan: &Plan,
    arguments: &Arguments,
    limits: &Limits,
    identity: &NewIdentity,
    readable: Readable,
) -> Result<()> {
    let task = cx.task();
    // Who holds on to the old space must not see the memory of a program with more rights.
    let exposed = identity.secure == Secure::No && readable == Readable::Yes;
    let reused = exposed && cx.user().reset().is_ok();
    let old_thread = if reused {
        None
    } else {
        Some(core::mem::replace(&mut *cx.user(), UserThread::new()?.1))
    };
    let space = cx.user().space().clone();
    let layout = Layout::new(limits.stack, limits.personality);
    let mm = Mm::new(space, layout);
    let old = task.set_mm(mm.clone());
    let start = populate(
        &mm,
        target,
        plan,
        arguments,
        limits,
        &identity.cred,
        identity.secure,
        &layout,
    )?;
    let mut user = cx.user();
    *user.regs_mut() = start;
    user.reset_xstate();
    drop(user);
    drop((old, old_thread));
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn populate(
    mm: &Arc<Mm>,
    target: &Target,
    plan: &Plan,
    arguments: &Arguments,
    limits: &Limits,
    cred: &Cred,
    secure: Secure,
    layout: &Layout,
) -> Result<Regs> {
    let image = &plan.program.image;
    let place = if plan.interpreter.is_some() {
        Place::Program
    } else {
        Place::Mappings
    };
    let program = load::load(mm, &plan.program, place)?;
    let interpreter = plan
        .interpreter
        .as_ref()
        .map(|binary| load::load(mm, binary, Place::Mappings))
        .transpose()?;
    let auxv = auxiliary(image, &program, interpreter.as_ref(), cred, secure);
    let stack = stack::build(
        layout.stack_top,
        layout.stack_jitter(),
        arguments,
        &target.name,
        random_bytes(),
        auxv,
    );
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, image.stack == StackAccess::Executable);
    load::map_stack(mm, layout.stack_top - stack.sp, limits.stack, prot)?;
    let loaded = [Some(&program), interpreter.as_ref()];
    for &(addr, len) in loaded.iter().flatten().flat_map(|loaded| &loaded.zero) {
        // Behind the end of a truncated file there is no page to clear: the program finds out by SIGBUS.
        let _ = mm.write(addr, &vec![0; len]);
    }
    mm.write(stack.sp, &stack.bytes).map_err(|(_, error)| error)?;
    describe(mm, plan, &program, &stack, image, layout);
    let entry = interpreter
        .as_ref()
        .map_or(program.entry, |interpreter| interpreter.entry);
    Ok(Regs::start(entry, stack.sp))
}

/// Tells the memory map what runs in it, and places the heap.
fn describe(mm: &Mm, plan: &Plan, program: &Loaded, stack: &StackImage, image: &Image, layout: &Layout) {
    // A program without interpreter lies among the mappings, where a heap cannot grow.
    let alone = plan.interpreter.is_none() && image.kind == Kind::Relocatable;
    let end = page_align_up(program.end).unwrap_or(program.end);
    let start_brk = layout.heap_start(if alone { layout.program_base() } else { end });
    mm.set_heap(start_brk);
    mm.set_program(Program {
        code: program.code.clone(),
        data: program.data.clone(),
        start_brk,
        start_stack: stack.sp,
        args: stack.args.clone(),
        env: stack.env.clone(),
        auxv: stack.auxv.clone(),
        exe: Some(plan.program.file().clone()),
    });
}

/// The auxiliary vector, but for what lies on the stack. There is no vDSO yet and no rseq.
fn auxiliary(
    image: &Image,
    program: &Loaded,
    interpreter: Option<&Loaded>,
    cred: &Cred,
    secure: Secure,
) -> Vec<(u64, u64)> {
    let phdr = if image.phdr == 0 {
        0
    } else {
        image.phdr.wrapping_add(program.bias)
    };
    vec![
        (at::MINSIGSTKSZ, auxv::min_signal_stack()),
        (at::HWCAP, auxv::hwcap()),
        (at::PAGESZ, crate::mm::vma::PAGE_SIZE),
        (at::CLKTCK, CLOCK_TICKS),
        (at::PHDR, phdr),
        (at::PHENT, 56),
        (at::PHNUM, u64::from(image.phnum)),
        (at::BASE, interpreter.map_or(0, |interpreter| interpreter.bias)),
        (at::FLAGS, 0),
        (at::ENTRY, program.entry),
        (at::UID, u64::from(cred.uid)),
        (at::EUID, u64::from(cred.euid)),
        (at::GID, u64::from(cred.gid)),
        (at::EGID, u64::from(cred.egid)),
        (at::SECURE, u64::from(secure == Secure::Yes)),
        (at::HWCAP2, auxv::hwcap2()),
    ]
}
