//! Claims about terminals and pseudo-terminals that need no guest: host threads are readers and writers.

extern crate std;

use std::string::String;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use super::pty::{self, Master};
use super::termios::{Iflag, Lflag, Oflag, Termios, WinSize, cc};
use super::{Tty, TtyFile};
use crate::io::{SliceSink, SliceSource};
use crate::task::Cred;
use crate::vfs::file::WriteAt;
use crate::vfs::{File, FileOps, OpenFlags, PollEvents};
use crate::{Errno, Result};

/// Both ends of a pair as files.
struct Pair {
    master: Arc<Master>,
    near: Arc<File>,
}

fn open(ops: Arc<dyn FileOps>, flags: OpenFlags) -> Arc<File> {
    File::new(ops, None, OpenFlags::RDWR | flags, Cred::root())
}

impl Pair {
    fn new() -> Self {
        let master = pty::open_master(pty::MAX).unwrap();
        master.unlock();
        Self {
            near: open(master.clone(), OpenFlags::empty()),
            master,
        }
    }

    fn slave(&self) -> Arc<TtyFile> {
        pty::open_slave(self.master.index()).unwrap()
    }

    fn tty(&self) -> Arc<Tty> {
        self.master.slave().clone()
    }

    fn raw(&self) {
        let flags = Termios {
            iflag: Iflag::empty(),
            oflag: Oflag::empty(),
            lflag: Lflag::empty(),
            ..Termios::default()
        };
        self.tty().set_termios(flags);
    }
}

fn read(file: &File, len: usize) -> Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let mut sink = SliceSink::new(&mut buf);
    let count = file.ops().read_at(file, 0, &mut sink)?;
    buf.truncate(count);
    Ok(buf)
}

fn text(file: &File) -> String {
    String::from_utf8(read(file, 4096).unwrap()).unwrap()
}

fn write(file: &File, data: &[u8]) -> Result<usize> {
    let written = file
        .ops()
        .write_at(file, WriteAt::Offset(0), &mut SliceSource::new(data));
    written.map(|written| written.count)
}

fn events(file: &File) -> PollEvents {
    file.ops().poll(file, None)
}

#[test]
fn what_is_typed_at_the_master_is_echoed_and_read_as_a_line() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::empty());
    assert!(!events(&slave).contains(PollEvents::IN));
    write(&pair.near, b"hello\r").unwrap();
    assert_eq!(text(&pair.near), "hello\r\n");
    assert!(events(&slave).contains(PollEvents::IN | PollEvents::OUT));
    assert_eq!(text(&slave), "hello\n");
}

#[test]
fn what_the_slave_writes_is_processed_for_the_master() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::empty());
    write(&slave, b"a\nb").unwrap();
    assert_eq!(text(&pair.near), "a\r\nb");
}

#[test]
fn a_locked_slave_cannot_be_opened() {
    let master = pty::open_master(pty::MAX).unwrap();
    assert!(matches!(pty::open_slave(master.index()), Err(Errno::EIO)));
    master.unlock();
    pty::open_slave(master.index()).unwrap();
}

#[test]
fn the_master_reads_eio_after_the_slave_is_closed_and_waits_before_it_was_opened() {
    let pair = Pair::new();
    let near = open(pair.master.clone(), OpenFlags::NONBLOCK);
    assert_eq!(read(&near, 10), Err(Errno::EAGAIN));
    assert!(!events(&near).contains(PollEvents::HUP));
    let slave = open(pair.slave(), OpenFlags::empty());
    write(&slave, b"bye").unwrap();
    drop(slave);
    assert_eq!(text(&near), "bye");
    assert_eq!(read(&near, 10), Err(Errno::EIO));
    assert!(events(&near).contains(PollEvents::HUP));
    let _again = pair.slave();
    assert_eq!(read(&near, 10), Err(Errno::EAGAIN));
}

#[test]
fn closing_the_master_hangs_up_the_slave() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::empty());
    let index = pair.master.index();
    drop(pair);
    assert_eq!(read(&slave, 10), Ok(vec![]));
    assert_eq!(write(&slave, b"x"), Err(Errno::EIO));
    assert!(events(&slave).contains(PollEvents::HUP | PollEvents::IN | PollEvents::ERR));
    drop(slave);
    assert!(pty::open_slave(index).is_err());
}

#[test]
fn a_reader_waits_for_the_line_and_a_hangup_ends_its_wait() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::empty());
    let other = slave.clone();
    let reader = thread::spawn(move || (read(&other, 100), read(&other, 100)));
    thread::sleep(Duration::from_millis(20));
    write(&pair.near, b"line\n").unwrap();
    thread::sleep(Duration::from_millis(20));
    drop(pair);
    assert_eq!(reader.join().unwrap(), (Ok(b"line\n".to_vec()), Ok(vec![])));
}

#[test]
fn min_and_time_end_raw_reads_as_posix_says() {
    let pair = Pair::new();
    pair.raw();
    let slave = open(pair.slave(), OpenFlags::empty());
    let set = |min, time| {
        let mut termios = pair.tty().termios();
        (termios.cc[cc::VMIN], termios.cc[cc::VTIME]) = (min, time);
        pair.tty().set_termios(termios);
    };
    set(0, 0);
    assert_eq!(
        read(&slave, 10),
        Ok(vec![]),
        "nothing there: 0, even without O_NONBLOCK"
    );
    set(0, 1);
    assert_eq!(read(&slave, 10), Ok(vec![]), "0 after a tenth of a second");
    set(3, 1);
    write(&pair.near, b"ab").unwrap();
    assert_eq!(read(&slave, 10), Ok(b"ab".to_vec()), "the pause between bytes ends it");
    set(3, 0);
    write(&pair.near, b"ab").unwrap();
    let other = slave.clone();
    let reader = thread::spawn(move || read(&other, 10));
    thread::sleep(Duration::from_millis(20));
    write(&pair.near, b"c").unwrap();
    assert_eq!(reader.join().unwrap(), Ok(b"abc".to_vec()));
    assert!(!events(&slave).contains(PollEvents::IN));
    write(&pair.near, b"ab").unwrap();
    assert!(!events(&slave).contains(PollEvents::IN), "poll waits for MIN bytes");
}

#[test]
fn a_nonblocking_read_gives_eagain_and_a_nonblocking_write_what_fits() {
    let pair = Pair::new();
    pair.raw();
    let slave = open(pair.slave(), OpenFlags::NONBLOCK);
    assert_eq!(read(&slave, 10), Err(Errno::EAGAIN));
    let block = vec![b'x'; 100_000];
    let first = write(&slave, &block).unwrap();
    assert!(first > 0 && first < block.len());
    assert_eq!(write(&slave, &block), Err(Errno::EAGAIN));
    assert!(!events(&slave).contains(PollEvents::OUT));
    assert_eq!(read(&pair.near, 10).unwrap().len(), 10);
    assert_eq!(write(&slave, b"yy"), Ok(2));
}

#[test]
fn a_large_transfer_arrives_whole_in_both_directions() {
    let pair = Pair::new();
    pair.raw();
    let slave = open(pair.slave(), OpenFlags::empty());
    let data: Vec<u8> = (0..1_000_000u32).map(|index| (index * 7 % 251) as u8).collect();
    for (from, to) in [(&slave, &pair.near), (&pair.near, &slave)] {
        let (from, given) = (from.clone(), data.clone());
        let writer = thread::spawn(move || write(&from, &given));
        let mut got = Vec::new();
        while got.len() < data.len() {
            got.extend(read(to, 3000).unwrap());
        }
        assert_eq!(writer.join().unwrap(), Ok(data.len()));
        assert!(got == data);
    }
}

#[test]
fn end_of_file_typed_at_the_master_is_a_read_of_nothing() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::empty());
    write(&pair.near, b"\x04rest\n").unwrap();
    assert_eq!(read(&slave, 10), Ok(vec![]));
    assert_eq!(text(&slave), "rest\n");
}

#[test]
fn stopped_output_waits_for_the_start_key() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::NONBLOCK);
    write(&pair.near, b"\x13").unwrap();
    assert_eq!(write(&slave, b"x"), Err(Errno::EAGAIN));
    assert!(!events(&slave).contains(PollEvents::OUT));
    write(&pair.near, b"\x11").unwrap();
    assert_eq!(write(&slave, b"x"), Ok(1));
}

#[test]
fn packet_mode_prefixes_data_and_reports_flow_and_flushes() {
    let pair = Pair::new();
    let slave = open(pair.slave(), OpenFlags::empty());
    pair.master.set_packet(true);
    write(&slave, b"data").unwrap();
    assert_eq!(text(&pair.near), "\0data");
    pair.tty().stop_output();
    assert!(events(&pair.near).contains(PollEvents::PRI));
    assert_eq!(read(&pair.near, 10), Ok(vec![4]));
    pair.tty().start_output();
    pair.tty().flush_input();
    assert_eq!(read(&pair.near, 10), Ok(vec![8 | 1]));
    let mut termios = pair.tty().termios();
    termios.iflag -= Iflag::IXON;
    pair.tty().set_termios(termios);
    assert_eq!(read(&pair.near, 10), Ok(vec![16]));
}

#[test]
fn the_window_size_is_the_pairs() {
    let pair = Pair::new();
    assert_eq!(pair.tty().winsize(), WinSize::default());
    pair.tty().set_winsize(WinSize {
        rows: 24,
        cols: 80,
        ..WinSize::default()
    });
    assert_eq!(pair.tty().winsize().cols, 80);
}

#[test]
fn indices_are_reused_when_both_ends_are_gone() {
    let first = Pair::new();
    let index = first.master.index();
    let slave = first.slave();
    drop(first);
    let second = Pair::new();
    assert_ne!(second.master.index(), index, "the slave still holds it");
    drop(slave);
}
