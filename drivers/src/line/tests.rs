//! Claims about lines on pipes, files and pseudo-terminals of the host; host threads are the guest's readers and writers.

use std::fs::File as HostFile;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arch_um::Errno;
use arch_um::host::fd::{Blocking, pipe};
use kernel::io::{SliceSink, SliceSource};
use kernel::task::Cred;
use kernel::tty::termios::Lflag;
use kernel::tty::{OpenedAs, Tty, TtyDriver, TtyFile};
use kernel::vfs::file::WriteAt;
use kernel::vfs::{File, FileOps, OpenFlags};

use super::Line;
use crate::options::{Attachment, Family, SerialMode};

/// A serial line of its own for each test.
fn line(attachment: &str) -> Arc<Line> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let index = NEXT.fetch_add(1, Ordering::Relaxed);
    let attachment = Attachment::parse(attachment).unwrap();
    Line::new(Family::Serial, index, attachment, SerialMode::Raw).unwrap()
}

fn open(tty: &Arc<Tty>) -> Arc<File> {
    let ops: Arc<dyn FileOps> = TtyFile::open(tty.clone(), OpenedAs::Console).unwrap();
    File::new(ops, None, OpenFlags::RDWR, Cred::root())
}

fn open_without_echo(line: &Line) -> Arc<File> {
    let tty = line.terminal().unwrap();
    let mut termios = tty.termios();
    termios.lflag -= Lflag::ECHO;
    tty.set_termios(termios);
    open(&tty)
}

fn read(file: &File) -> Vec<u8> {
    let mut buf = vec![0; 3000];
    let count = file.ops().read_at(file, 0, &mut SliceSink::new(&mut buf)).unwrap();
    buf.truncate(count);
    buf
}

fn write(file: &File, data: &[u8]) -> Result<usize, Errno> {
    file.ops()
        .write_at(file, WriteAt::Offset(0), &mut SliceSource::new(data))
        .map(|written| written.count)
}

fn read_to_end(file: &File) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match read(file) {
            piece if piece.is_empty() => return all,
            piece => all.extend(piece),
        }
    }
}

fn two_pipes() -> (OwnedFd, HostFile, HostFile, OwnedFd) {
    let (input, typist) = pipe(Blocking::Yes).unwrap();
    let (screen, output) = pipe(Blocking::Yes).unwrap();
    (input, typist.into(), screen.into(), output)
}

/// Waits for what another thread does; the limit is a hang guard.
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_script_in_a_pipe_arrives_whole_and_then_ends_for_ever() {
    let (input, mut typist, _screen, output) = two_pipes();
    let line = line(&format!("fd:{},fd:{}", input.as_raw_fd(), output.as_raw_fd()));
    let script: Vec<u8> = (0..40_000)
        .flat_map(|number| format!("echo line {number}\n").into_bytes())
        .collect();
    let copy = script.clone();
    let writer = thread::spawn(move || typist.write_all(&copy));
    let file = open_without_echo(&line);
    assert!(read_to_end(&file) == script);
    assert!(read(&file).is_empty() && read(&file).is_empty());
    writer.join().unwrap().unwrap();
}

#[test]
fn a_line_longer_than_the_buffer_is_not_cut() {
    let (input, mut typist, _screen, output) = two_pipes();
    let line = line(&format!("fd:{},fd:{}", input.as_raw_fd(), output.as_raw_fd()));
    let text = [vec![b'x'; 30_000], b"\nunfinished".to_vec()].concat();
    let copy = text.clone();
    let writer = thread::spawn(move || typist.write_all(&copy));
    assert!(read_to_end(&open_without_echo(&line)) == text);
    writer.join().unwrap().unwrap();
}

#[test]
fn a_regular_file_is_read_like_a_pipe_and_null_is_empty() {
    let path = std::env::temp_dir().join(format!("line-test-{}", std::process::id()));
    std::fs::write(&path, b"from a file\n").unwrap();
    let input = HostFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let on_file = line(&format!("fd:{},null", input.as_raw_fd()));
    assert_eq!(read_to_end(&open_without_echo(&on_file)), b"from a file\n");
    let null = HostFile::open("/dev/null").unwrap();
    let on_null = line(&format!("fd:{},null", null.as_raw_fd()));
    assert_eq!(read_to_end(&open_without_echo(&on_null)), b"");
}

#[test]
fn nothing_is_read_from_a_file_before_somebody_asks() {
    let path = std::env::temp_dir().join(format!("line-test-demand-{}", std::process::id()));
    std::fs::write(&path, b"for the next program\n").unwrap();
    let mut input = HostFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let line = line(&format!("fd:{},null", input.as_raw_fd()));
    let file = open_without_echo(&line);
    assert_eq!(write(&file, b"only output\n"), Ok(12));
    thread::sleep(Duration::from_millis(30));
    assert_eq!(input.stream_position().unwrap(), 0);
    assert_eq!(read(&file), b"for the next program\n");
}

#[test]
fn output_that_nobody_reads_holds_the_writer_and_arrives_whole() {
    let (_input, _typist, mut screen, output) = two_pipes();
    let line = line(&format!("null,fd:{}", output.as_raw_fd()));
    let file = open_without_echo(&line);
    let text: Vec<u8> = (0..600_000u32).map(|index| b'a' + (index % 26) as u8).collect();
    let (copy, other) = (text.clone(), file.clone());
    let writer = thread::spawn(move || write(&other, &copy));
    until(|| line.write_room() < 8);
    assert!(!writer.is_finished());
    let mut seen = vec![0; text.len()];
    screen.read_exact(&mut seen).unwrap();
    assert!(seen == text);
    assert_eq!(writer.join().unwrap(), Ok(text.len()));
    until(|| line.queued() == 0);
}

#[test]
fn output_to_a_broken_pipe_vanishes_without_harm() {
    let (_input, _typist, screen, output) = two_pipes();
    drop(screen);
    let line = line(&format!("null,fd:{}", output.as_raw_fd()));
    let file = open_without_echo(&line);
    for _ in 0..100 {
        assert_eq!(write(&file, &[b'x'; 5000]), Ok(5000));
    }
}

#[test]
fn kernel_messages_and_programs_share_the_line_with_their_own_line_ends() {
    let (_input, _typist, mut screen, output) = two_pipes();
    let line = line(&format!("null,fd:{}", output.as_raw_fd()));
    let file = open_without_echo(&line);
    line.output().unwrap().push_text("[1.0] message\nsecond\n");
    write(&file, b"program\n").unwrap();
    let mut seen = [0; 32];
    screen.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"[1.0] message\r\nsecond\r\nprogram\r\n");
}

#[test]
fn a_pts_line_talks_to_whoever_opens_its_device() {
    let line = line("pts");
    assert_eq!(line.config_text(), "pts");
    let tty = line.terminal().unwrap();
    let file = open(&tty);
    let text = line.config_text();
    let path = text.strip_prefix("pts:").unwrap();
    let mut user = HostFile::options().read(true).write(true).open(path).unwrap();
    write(&file, b"login: ").unwrap();
    let mut seen = [0; 7];
    user.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"login: ");
    user.write_all(b"root\r").unwrap();
    assert_eq!(read(&file), b"root\n");
    drop(user);
    let again = HostFile::options().read(true).write(true).open(path);
    again.unwrap().write_all(b"back\r").unwrap();
    assert_eq!(read(&file), b"back\n");
}

#[test]
fn a_descriptor_that_is_not_there_is_an_error_at_open() {
    let line = line("fd:987");
    let tty = line.terminal().unwrap();
    assert!(matches!(TtyFile::open(tty, OpenedAs::Itself), Err(Errno::EBADF)));
}

#[test]
fn a_new_channel_takes_over_at_run_time() {
    let (_input, _typist, mut screen, output) = two_pipes();
    let line = line("null");
    let file = open_without_echo(&line);
    write(&file, b"nowhere").unwrap();
    line.configure(Attachment::parse(&format!("null,fd:{}", output.as_raw_fd())).unwrap());
    drop(file);
    let file = open_without_echo(&line);
    write(&file, b"here").unwrap();
    let mut seen = [0; 4];
    screen.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"here");
    assert_eq!(line.remove(), Err(Errno::EBUSY));
    drop(file);
    assert_eq!(line.remove(), Ok(()));
}

/// A terminal of the host that a line can be given, and the end a human would sit at.
fn host_terminal() -> (HostFile, HostFile) {
    let pty = arch_um::host::tty::open_pty().unwrap();
    (pty.master.into(), arch_um::host::tty::open(&pty.path).unwrap().into())
}

#[test]
fn a_host_terminal_is_raw_while_a_line_has_it_and_lends_its_size() {
    let (human, terminal) = host_terminal();
    let cooked = || arch_um::host::tty::settings(terminal.as_fd()).unwrap().is_cooked();
    let size = arch_um::host::tty::WindowSize {
        rows: 33,
        columns: 101,
        width: 0,
        height: 0,
    };
    arch_um::host::tty::set_window_size(human.as_fd(), size).unwrap();
    let line = line(&format!("fd:{}", terminal.as_raw_fd()));
    assert!(cooked());
    let file = open(&line.terminal().unwrap());
    assert!(!cooked());
    let window = line.terminal().unwrap().winsize();
    assert_eq!((window.rows, window.cols), (33, 101));
    drop(file);
    line.configure(Attachment::parse("null").unwrap());
    assert!(cooked());
}

#[test]
fn what_a_human_types_ahead_is_kept_and_echoed_by_the_guest() {
    let (mut human, terminal) = host_terminal();
    let line = line(&format!("fd:{}", terminal.as_raw_fd()));
    let file = open(&line.terminal().unwrap());
    human.write_all(b"early\r").unwrap();
    let mut echo = [0; 7];
    human.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"early\r\n");
    assert_eq!(read(&file), b"early\n");
}
