//! [`ReadAhead`]: what a reader will want next. One for each open file, as Linux's `struct file_ra_state`, and one for the faults of mappings.
//!
//! A sequential reader has a *window* of pages that are read for it. In the window lies a *mark*: when the reader comes there, the next window, twice
//! as large, is started, so that it arrives while the reader is busy with this one.

use core::ops::Range;

use arch_um::sync::{SpinLock, order};

/// How a file is going to be read (`posix_fadvise(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Unknown: sequential until seen otherwise.
    #[default]
    Normal,
    /// Twice as much ahead.
    Sequential,
    /// Nothing ahead.
    Random,
}

/// A reader's place and prospects.
pub struct ReadAhead {
    state: SpinLock<State>,
}

#[derive(Default)]
struct State {
    pattern: Pattern,
    /// The page behind the last read.
    next: u64,
    window: Range<u64>,
    mark: u64,
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadAhead {
    /// A reader at the start.
    pub const fn new() -> Self {
        Self {
            state: SpinLock::new(
                &order::LEAF,
                State {
                    pattern: Pattern::Normal,
                    next: 0,
                    window: 0..0,
                    mark: 0,
                },
            ),
        }
    }

    /// What the program says of itself.
    pub fn set_pattern(&self, pattern: Pattern) {
        let mut state = self.state.lock();
        state.pattern = pattern;
        state.window = 0..0;
    }

    /// The pages `read` are read now, as part of a request up to page `wanted`; `missing`: not all of them are there. The pages to be started, which
    /// may begin with those of `read`. `most`: the largest window; `said`: what the program says of this read alone (`madvise(2)`), else of the reader.
    pub(super) fn advance(
        &self,
        said: Option<Pattern>,
        read: Range<u64>,
        wanted: u64,
        missing: Missing,
        most: u64,
    ) -> Option<Range<u64>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let most = match said.unwrap_or(state.pattern) {
            Pattern::Normal => most,
            Pattern::Sequential => most.saturating_mul(2),
            Pattern::Random => 0,
        };
        // Small reads begin in the page where the last one ended.
        let sequential = read.start == state.next || read.start + 1 == state.next;
        state.next = read.end;
        if most == 0 {
            return None;
        }
        if !state.window.is_empty() && read.contains(&state.mark) {
            let size = (state.window.end - state.window.start).saturating_mul(2).min(most);
            let start = state.window.end.max(read.start);
            state.mark = start.max(read.end);
            state.window = start..state.mark.saturating_add(size);
            return Some(state.window.clone());
        }
        if missing == Missing::No || state.window.contains(&read.start) {
            return None;
        }
        if !sequential {
            state.window = 0..0;
            return None;
        }
        let asked = wanted.max(read.end) - read.start;
        (state.mark, state.window.end) = if asked < most {
            let size = asked.next_power_of_two().saturating_mul(4).min(most);
            (read.start + asked, read.start.saturating_add(size))
        } else {
            // A large request keeps one window ahead of its own steps.
            (read.end, read.end.saturating_add(most))
        };
        state.window.start = read.start;
        Some(state.window.clone())
    }
}

/// Whether pages of a read are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    No,
    Yes,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 32;

    #[test]
    fn the_window_of_a_sequential_reader_doubles_and_runs_ahead() {
        let ahead = ReadAhead::new();
        let mut arrived = 0;
        let mut windows = alloc::vec::Vec::new();
        for page in 0..100 {
            let missing = if page < arrived { Missing::No } else { Missing::Yes };
            assert!(page == 0 || missing == Missing::No, "page {page} was not read ahead");
            if let Some(window) = ahead.advance(None, page..page + 1, page + 1, missing, MOST) {
                arrived = window.end;
                windows.push(window.end - window.start);
            }
        }
        assert_eq!(windows[..5], [4, 8, 16, 32, 32]);
    }

    #[test]
    fn reads_here_and_there_start_nothing() {
        let ahead = ReadAhead::new();
        for page in [50, 7, 99, 3, 60] {
            assert_eq!(ahead.advance(None, page..page + 1, page + 1, Missing::Yes, MOST), None);
        }
        assert!(ahead.advance(None, 61..62, 62, Missing::Yes, MOST).is_some());
    }

    #[test]
    fn advice_is_taken() {
        let ahead = ReadAhead::new();
        ahead.set_pattern(Pattern::Random);
        assert_eq!(ahead.advance(None, 0..1, 1, Missing::Yes, MOST), None);
        ahead.set_pattern(Pattern::Sequential);
        assert_eq!(ahead.advance(None, 1..200, 200, Missing::Yes, MOST), Some(1..264));
    }

    #[test]
    fn a_request_as_large_as_the_window_has_the_next_one_on_its_way() {
        let ahead = ReadAhead::new();
        assert_eq!(ahead.advance(None, 0..32, 256, Missing::Yes, MOST), Some(0..64));
        assert_eq!(ahead.advance(None, 32..64, 256, Missing::No, MOST), Some(64..96));
        assert_eq!(ahead.advance(None, 64..96, 256, Missing::No, MOST), Some(96..128));
    }
}
