//! Claims about the discipline, with a line that shows what went out.

extern crate std;

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::tty::termios::{Oflag, cc};

/// A line that takes everything, or only so much.
struct Screen {
    shown: Vec<u8>,
    room: usize,
}

impl Output for Screen {
    fn room(&self) -> usize {
        self.room
    }
    fn put(&mut self, data: &[u8]) {
        assert!(data.len() <= self.room);
        self.shown.extend_from_slice(data);
    }
}

struct Bench {
    ldisc: Ldisc,
    termios: Termios,
    screen: Screen,
    effects: Effects,
}

impl Bench {
    fn new() -> Self {
        let screen = Screen {
            shown: Vec::new(),
            room: 1 << 20,
        };
        Self {
            ldisc: Ldisc::new(),
            termios: Termios::default(),
            screen,
            effects: Effects::default(),
        }
    }

    fn raw() -> Self {
        let mut bench = Self::new();
        bench.termios.lflag = Lflag::empty();
        bench.termios.iflag = Iflag::empty();
        bench.termios.oflag = Oflag::empty();
        bench
    }

    fn type_in(&mut self, text: &[u8]) -> &mut Self {
        assert_eq!(self.ldisc.receive(&self.termios, text, &mut self.effects), text.len());
        self.ldisc.send_echo(&mut self.screen);
        self
    }

    fn print(&mut self, text: &[u8]) -> &mut Self {
        assert_eq!(self.ldisc.write(&self.termios, text, &mut self.screen), text.len());
        self
    }

    fn shown(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.screen.shown)).unwrap()
    }

    /// One read of up to `len` bytes; none when it would wait.
    fn read(&mut self, len: usize) -> Option<Vec<u8>> {
        if !self.ldisc.readable(&self.termios, 1) {
            return None;
        }
        let mut dst = vec![0; len];
        let (Piece::Bytes(count) | Piece::Line(count)) = self.ldisc.read(&self.termios, &mut dst);
        dst.truncate(count);
        Some(dst)
    }

    fn line(&mut self) -> Option<String> {
        self.read(8192).map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

#[test]
fn a_line_is_readable_when_it_is_finished_and_echoed_as_typed() {
    let mut bench = Bench::new();
    bench.type_in(b"ls -l");
    assert_eq!(bench.line(), None);
    bench.type_in(b"\r");
    assert_eq!(bench.shown(), "ls -l\r\n");
    assert_eq!(bench.line().unwrap(), "ls -l\n");
    assert_eq!(bench.line(), None);
}

#[test]
fn a_read_gets_one_line_and_a_short_read_a_part_of_it() {
    let mut bench = Bench::new();
    bench.type_in(b"one\ntwo\n");
    assert_eq!(bench.read(2).unwrap(), b"on");
    assert_eq!(bench.read(100).unwrap(), b"e\n");
    assert_eq!(bench.line().unwrap(), "two\n");
}

#[test]
fn erase_removes_the_last_character_and_stops_at_the_line_start() {
    let mut bench = Bench::new();
    bench.type_in(b"ab\x7f\x7f\x7fc\n");
    assert_eq!(bench.shown(), "ab\x08 \x08\x08 \x08c\r\n");
    assert_eq!(bench.line().unwrap(), "c\n");
}

#[test]
fn erase_takes_a_whole_utf8_character_where_the_terminal_speaks_utf8() {
    let mut bench = Bench::new();
    bench.termios.iflag |= Iflag::IUTF8;
    bench.type_in("aé€".as_bytes()).type_in(b"\x7f\x7f\n");
    assert_eq!(bench.line().unwrap(), "a\n");
    assert_eq!(bench.shown(), "aé€\x08 \x08\x08 \x08\r\n");
}

#[test]
fn erased_control_characters_take_two_columns_under_echoctl() {
    let mut bench = Bench::new();
    bench.type_in(b"\x01\x7f");
    assert_eq!(bench.shown(), "^A\x08 \x08\x08 \x08");
    bench.termios.lflag -= Lflag::ECHOCTL;
    bench.type_in(b"\x01\x7f");
    assert_eq!(bench.shown(), "\x01");
}

#[test]
fn an_erased_tab_goes_back_to_where_it_began() {
    let mut bench = Bench::new();
    bench.print(b"$ ").type_in(b"ab\t");
    bench.shown();
    bench.type_in(b"\x7f");
    assert_eq!(bench.shown(), "\x08\x08\x08\x08");
    bench.type_in(b"\t\t");
    bench.shown();
    bench.type_in(b"\x7f");
    assert_eq!(bench.shown(), "\x08".repeat(8));
}

#[test]
fn word_erase_takes_blanks_and_then_one_word() {
    let mut bench = Bench::new();
    bench.type_in(b"rm -rf foo_1  \x17\x17\n");
    assert_eq!(bench.line().unwrap(), "rm -\n");
}

#[test]
fn kill_erases_visibly_or_shows_itself() {
    let mut bench = Bench::new();
    bench.type_in(b"ab\x15");
    assert_eq!(bench.shown(), "ab\x08 \x08\x08 \x08");
    bench.termios.lflag -= Lflag::ECHOKE;
    bench.type_in(b"ab\x15");
    assert_eq!(bench.shown(), "ab^U\r\n");
    bench.termios.lflag -= Lflag::ECHOK;
    bench.type_in(b"ab\x15x\n");
    assert_eq!(bench.shown(), "ab^Ux\r\n");
    assert_eq!(bench.line().unwrap(), "x\n");
}

#[test]
fn echoe_off_shows_the_erase_character() {
    let mut bench = Bench::new();
    bench.termios.lflag -= Lflag::ECHOE;
    bench.type_in(b"ab\x7f\n");
    assert_eq!(bench.shown(), "ab^?\r\n");
    assert_eq!(bench.line().unwrap(), "a\n");
}

#[test]
fn echoprt_prints_erased_characters_between_slashes() {
    let mut bench = Bench::new();
    bench.termios.lflag |= Lflag::ECHOPRT;
    bench.type_in(b"abc\x7f\x7fd\n");
    assert_eq!(bench.shown(), "abc\\cb/d\r\n");
    bench.type_in(b"a\x7f");
    assert_eq!(bench.shown(), "a\\a/");
}

#[test]
fn reprint_shows_the_line_again() {
    let mut bench = Bench::new();
    bench.type_in(b"ab\x12c\n");
    assert_eq!(bench.shown(), "ab^R\r\nabc\r\n");
    assert_eq!(bench.line().unwrap(), "abc\n");
}

#[test]
fn a_quoted_character_loses_its_meaning() {
    let mut bench = Bench::new();
    bench.type_in(b"\x16\x03\x16\x7f\x16\n\n");
    assert!(bench.effects.signals.is_empty());
    assert_eq!(bench.line().unwrap(), "\x03\x7f\n\n");
    assert_eq!(bench.shown(), "^\x08^C^\x08^?^\x08\r\n\r\n");
}

#[test]
fn end_of_file_alone_reads_as_nothing_and_ends_a_partial_line_once() {
    let mut bench = Bench::new();
    bench.type_in(b"\x04");
    assert_eq!(bench.line().unwrap(), "");
    assert_eq!(bench.line(), None);
    bench.type_in(b"abc\x04");
    assert_eq!(bench.read(3).unwrap(), b"abc");
    assert_eq!(bench.line(), None, "the end was used up with the last byte");
    assert_eq!(bench.shown(), "abc");
}

#[test]
fn other_line_ends_end_lines_and_belong_to_them() {
    let mut bench = Bench::new();
    bench.termios.cc[cc::VEOL] = b';';
    bench.termios.cc[cc::VEOL2] = b'!';
    bench.type_in(b"a;b!");
    assert_eq!(
        (bench.line().unwrap(), bench.line().unwrap()),
        ("a;".into(), "b!".into())
    );
    bench.termios.lflag -= Lflag::IEXTEN;
    bench.type_in(b"c!");
    assert_eq!(bench.line(), None);
}

#[test]
fn signal_characters_raise_flush_and_show_themselves() {
    let mut bench = Bench::new();
    bench.type_in(b"typed\x03");
    assert_eq!(bench.effects.signals[..], [Signal::INT]);
    assert!(bench.effects.flush_output);
    assert_eq!(bench.shown(), "^C");
    bench.type_in(b"x\n");
    assert_eq!(bench.line().unwrap(), "x\n");
    bench.termios.lflag |= Lflag::NOFLSH;
    bench.type_in(b"kept\x1c\x1a\n");
    assert_eq!(bench.effects.signals[1..], [Signal::QUIT, Signal::TSTP]);
    assert_eq!(bench.line().unwrap(), "kept\n");
}

#[test]
fn without_isig_or_with_a_disabled_character_nothing_is_raised() {
    let mut bench = Bench::new();
    bench.termios.cc[cc::VINTR] = 0;
    bench.type_in(b"\x03\x00\n");
    bench.termios.lflag -= Lflag::ISIG;
    bench.type_in(b"\x1c\n");
    assert!(bench.effects.signals.is_empty());
    assert_eq!(bench.line().unwrap(), "\x03\0\n");
}

#[test]
fn carriage_returns_and_newlines_are_translated_as_asked() {
    let mut bench = Bench::new();
    bench.termios.iflag = Iflag::IGNCR;
    bench.type_in(b"a\rb\n");
    assert_eq!(bench.line().unwrap(), "ab\n");
    bench.termios.iflag = Iflag::INLCR;
    bench.termios.lflag -= Lflag::ICANON;
    bench.type_in(b"a\nb");
    assert_eq!(bench.line().unwrap(), "a\rb");
}

#[test]
fn istrip_and_iuclc_change_letters() {
    let mut bench = Bench::raw();
    bench.termios.iflag = Iflag::ISTRIP | Iflag::IUCLC;
    bench.termios.lflag = Lflag::IEXTEN;
    bench.type_in(b"\xc1B");
    assert_eq!(bench.line().unwrap(), "ab");
}

#[test]
fn stop_and_start_hold_output_and_echo_back() {
    let mut bench = Bench::new();
    bench.type_in(b"\x13ab");
    assert!(bench.effects.flow_changed && bench.ldisc.stopped());
    assert_eq!(bench.ldisc.write(&bench.termios, b"out", &mut bench.screen), 0);
    assert_eq!(bench.shown(), "");
    bench.type_in(b"\x11").print(b"out");
    assert_eq!(bench.shown(), "about");
    bench.termios.iflag |= Iflag::IXANY;
    bench.type_in(b"\x13x");
    assert_eq!(bench.shown(), "x");
}

#[test]
fn what_a_call_stopped_no_key_starts() {
    let mut bench = Bench::new();
    bench.ldisc.stop_by_call();
    bench.type_in(b"\x11");
    assert!(bench.ldisc.stopped());
    bench.ldisc.start_by_call();
    assert!(!bench.ldisc.stopped());
}

#[test]
fn an_overlong_line_loses_its_tail_with_a_bell_and_can_be_ended_and_edited() {
    let mut bench = Bench::new();
    bench.type_in(&[b'a'; 4095]);
    bench.shown();
    bench.type_in(b"b");
    assert_eq!(bench.shown(), "\x07");
    bench.type_in(b"\x7fc\n");
    let line = bench.line().unwrap();
    assert_eq!((line.len(), &line[4093..]), (4096, "ac\n"));
}

#[test]
fn an_overlong_line_from_a_file_arrives_in_pieces_and_whole() {
    let mut bench = Bench::new();
    bench.termios.lflag -= Lflag::ECHO;
    bench.ldisc.set_overflow(Overflow::Split);
    let text: Vec<u8> = (0..10_000)
        .map(|index| b'a' + (index % 26) as u8)
        .chain([b'\n'])
        .collect();
    let (mut given, mut got) = (0, Vec::new());
    while got.len() < text.len() {
        given += bench.ldisc.receive(&bench.termios, &text[given..], &mut bench.effects);
        got.extend(bench.read(100).unwrap());
    }
    assert_eq!(got, text);
}

#[test]
fn finished_lines_stop_the_line_instead_of_losing_input() {
    let mut bench = Bench::new();
    bench.termios.lflag -= Lflag::ECHO;
    let text = b"0123456\n".repeat(1000);
    let (mut given, mut got) = (0, Vec::new());
    while got.len() < text.len() {
        given += bench.ldisc.receive(&bench.termios, &text[given..], &mut bench.effects);
        got.extend(bench.read(8192).unwrap());
    }
    assert_eq!(got, text);
}

#[test]
fn the_end_of_a_pipe_finishes_the_line_and_reads_as_end_ever_after() {
    let mut bench = Bench::new();
    bench.type_in(b"exit");
    bench.ldisc.end_input(&bench.termios, &mut bench.effects);
    assert!(!bench.ldisc.at_end());
    assert_eq!(bench.line().unwrap(), "exit");
    assert!(bench.ldisc.at_end());
}

#[test]
fn switching_to_lines_makes_waiting_bytes_a_line_and_back_makes_lines_bytes() {
    let mut bench = Bench::new();
    let cooked = bench.termios;
    let raw = Termios {
        lflag: cooked.lflag - Lflag::ICANON,
        ..cooked
    };
    bench.termios = raw;
    bench.type_in(b"abc");
    bench.ldisc.set_termios(&raw, &cooked, &mut bench.effects);
    bench.termios = cooked;
    assert_eq!(bench.line().unwrap(), "abc");
    bench.type_in(b"one\ntw");
    bench.ldisc.set_termios(&cooked, &raw, &mut bench.effects);
    bench.termios = raw;
    assert_eq!(bench.line().unwrap(), "one\ntw");
}

#[test]
fn parity_errors_and_breaks_are_marked_ignored_or_zero() {
    let mut bench = Bench::raw();
    let arrive = |bench: &mut Bench, condition| {
        bench
            .ldisc
            .receive_condition(&bench.termios, condition, &mut bench.effects)
    };
    arrive(&mut bench, Condition::Parity(b'x'));
    assert_eq!(bench.read(9).unwrap(), b"x", "without INPCK nobody looks");
    bench.termios.iflag = Iflag::INPCK;
    arrive(&mut bench, Condition::Parity(b'x'));
    arrive(&mut bench, Condition::Break);
    assert_eq!(bench.read(9).unwrap(), b"\0\0");
    bench.termios.iflag = Iflag::INPCK | Iflag::PARMRK;
    arrive(&mut bench, Condition::Parity(b'x'));
    arrive(&mut bench, Condition::Break);
    bench.type_in(b"\xff");
    assert_eq!(bench.read(9).unwrap(), b"\xff\0x\xff\0\0\xff\xff");
    bench.termios.iflag |= Iflag::IGNPAR | Iflag::IGNBRK;
    arrive(&mut bench, Condition::Parity(b'x'));
    arrive(&mut bench, Condition::Break);
    assert_eq!(bench.read(9), None);
    bench.termios.iflag = Iflag::BRKINT;
    arrive(&mut bench, Condition::Break);
    assert_eq!(bench.effects.signals[..], [Signal::INT]);
}

#[test]
fn output_processing_translates_and_tracks_the_column() {
    let mut bench = Bench::new();
    bench.termios.oflag |= Oflag::XTABS;
    bench.print(b"ab\tc\n\td");
    assert_eq!(bench.shown(), "ab      c\r\n        d");
    bench.termios.oflag = Oflag::OPOST | Oflag::OCRNL | Oflag::OLCUC;
    bench.print(b"x\ry\n");
    assert_eq!(bench.shown(), "X\nY\n");
    bench.termios.oflag = Oflag::OPOST | Oflag::ONOCR | Oflag::ONLRET;
    bench.print(b"\n\ra\r\r");
    assert_eq!(bench.shown(), "\na\r");
    bench.termios.oflag = Oflag::empty();
    bench.print(b"\n");
    assert_eq!(bench.shown(), "\n");
}

#[test]
fn a_line_without_room_takes_what_fits_and_never_half_a_newline() {
    let mut bench = Bench::new();
    bench.screen.room = 3;
    let taken = bench.ldisc.write(
        &bench.termios,
        b"ab\n",
        &mut Narrow {
            inner: &mut bench.screen,
            left: 3,
        },
    );
    assert_eq!((taken, bench.shown().as_str()), (2, "ab"));
}

/// A line whose room shrinks as it is used.
struct Narrow<'a> {
    inner: &'a mut Screen,
    left: usize,
}

impl Output for Narrow<'_> {
    fn room(&self) -> usize {
        self.left
    }
    fn put(&mut self, data: &[u8]) {
        self.left -= data.len();
        self.inner.put(data);
    }
}

proptest::proptest! {
    #[test]
    fn no_byte_is_lost_or_changed_in_raw_mode(
        text in proptest::collection::vec(proptest::num::u8::ANY, 0..20_000),
        steps in proptest::collection::vec((1usize..6000, 1usize..6000), 1..20),
    ) {
        let mut bench = Bench::raw();
        let (mut given, mut got) = (0, Vec::new());
        for &(offer, take) in steps.iter().cycle() {
            let end = text.len().min(given + offer);
            given += bench.ldisc.receive(&bench.termios, &text[given..end], &mut bench.effects);
            got.extend(bench.read(take).unwrap_or_default());
            if got.len() == text.len() {
                break;
            }
        }
        assert_eq!(got, text);
    }

    /// Reading by lines gives back the lines, whatever the sizes of offers and reads.
    #[test]
    fn canonical_reads_give_the_lines_in_order(
        lines in proptest::collection::vec("[a-z ]{0,60}", 0..300),
        steps in proptest::collection::vec((1usize..6000, 1usize..200), 1..20),
    ) {
        let mut bench = Bench::new();
        bench.termios.lflag -= Lflag::ECHO;
        let text: String = lines.iter().map(|line| std::format!("{line}\n")).collect();
        let (mut given, mut got, mut pieces) = (0, Vec::new(), 0);
        for &(offer, take) in steps.iter().cycle() {
            let end = text.len().min(given + offer);
            given += bench.ldisc.receive(&bench.termios, &text.as_bytes()[given..end], &mut bench.effects);
            while let Some(piece) = bench.read(take) {
                let inner = piece.iter().rev().skip(1).any(|&byte| byte == b'\n');
                assert!(!inner, "a read never crosses a line's end");
                pieces += usize::from(piece.ends_with(b"\n"));
                got.extend(piece);
            }
            if got.len() == text.len() {
                break;
            }
        }
        assert_eq!(String::from_utf8(got).unwrap(), text);
        assert_eq!(pieces, lines.len());
    }

    /// Nothing typed can bring the discipline out of its bounds.
    #[test]
    fn any_input_under_any_modes_keeps_the_bounds(
        text in proptest::collection::vec(proptest::num::u8::ANY, 0..9000),
        modes in (proptest::num::u32::ANY, proptest::num::u32::ANY, proptest::num::u32::ANY),
        other in (proptest::num::u32::ANY, proptest::num::u32::ANY),
    ) {
        let mut bench = Bench::new();
        bench.termios.iflag = Iflag::from_bits_retain(modes.0);
        bench.termios.oflag = Oflag::from_bits_retain(modes.1);
        bench.termios.lflag = Lflag::from_bits_retain(modes.2);
        let (first, second) = text.split_at(text.len() / 2);
        bench.ldisc.receive(&bench.termios, first, &mut bench.effects);
        bench.read(100);
        let new = Termios { iflag: Iflag::from_bits_retain(other.0), lflag: Lflag::from_bits_retain(other.1), ..bench.termios };
        bench.ldisc.set_termios(&bench.termios, &new, &mut bench.effects);
        bench.termios = new;
        bench.ldisc.receive(&bench.termios, second, &mut bench.effects);
        bench.ldisc.send_echo(&mut bench.screen);
        assert!(bench.ldisc.cells.len() <= CAPACITY);
        assert!(bench.ldisc.finished <= bench.ldisc.cells.len());
    }
}
