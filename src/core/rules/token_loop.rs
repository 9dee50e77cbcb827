//! A201: the model repeats itself without end.
//!
//! Three things are watched in one pass over the scalars of a lane: blocks of any length up to
//! [`LOOP_PERIOD_MAX`](crate::limits::LOOP_PERIOD_MAX) symbols that repeat exactly, blocks that repeat with only their
//! numbers changing, and floods of white space. How much is wanted depends on what repeats: see `evidence`.
//!
//! Work per scalar and memory per lane are bounded, and a finding depends on the scalars alone, never on how they were
//! cut into chunks.

mod evidence;
mod history;
mod search;
#[cfg(test)]
mod tests;

use crate::error::Code;
use crate::event::Channel;
use crate::json::mend::Mender;
use crate::limits::JSON_DEPTH_MAX;
use crate::request::{Constraint, RequestFacts};
use crate::rule::{LaneContext, LaneEnd, Mend, Raised, Rule};
use evidence::is_blank;
use history::{History, NUMBER_DIGITS_MAX, of_number, of_scalar};
use search::{Loop, Scene, Search};

/// Repeats that count as "without end". Even who asks for that gets no more than this many in a row.
const ASKED_MAX: u32 = 10_000;

/// What `[rules.token_loop]` may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Fewest repeats of a block of running text, the first one included, of 40 characters and more. Shorter blocks,
    /// code, lists, tables and rulers need more, and never fewer than this. At least 3.
    pub repeats_min: u32,
    /// Shortest repetition that is a loop, from the start of its first repeat, in characters.
    pub chars_min: u32,
    /// White space in a row at which it is a flood, in characters.
    pub whitespace_chars_max: u32,
    /// Line ends in a row, with nothing but white space between them, at which it is a flood.
    pub whitespace_lines_max: u32,
    /// Look for blocks that repeat with changing numbers, too.
    pub counters: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            repeats_min: 4,
            chars_min: 120,
            whitespace_chars_max: 400,
            whitespace_lines_max: 80,
            counters: true,
        }
    }
}

/// Knows whether the text is inside a block fenced by three backticks.
#[derive(Debug, Default)]
struct Fence {
    inside: bool,
    /// Backticks at the start of this line; [`Fence::NONE`] once something else came.
    ticks: u8,
}

impl Fence {
    const NONE: u8 = u8::MAX;

    const fn see(&mut self, c: char) {
        match (c, self.ticks) {
            ('\n', _) => self.ticks = 0,
            ('`', 0..=2) => {
                self.ticks += 1;
                if self.ticks == 3 {
                    self.inside = !self.inside;
                }
            }
            (' ' | '\t', 0) => {}
            _ => self.ticks = Self::NONE,
        }
    }
}

/// When a flood of white space may end the answer: a model that has said all there is to say and does not stop.
#[derive(Debug)]
enum Ending {
    /// Never: the lane is not the answer, or nobody here can tell whether it is whole.
    Never,
    /// After any text.
    AfterText,
    /// After a whole JSON value.
    AfterJson(Mender),
}

impl Ending {
    fn of(context: &LaneContext<'_>) -> Self {
        let RequestFacts {
            json,
            constraint,
            prefilled,
            ..
        } = context.request;
        match (context.lane.channel, constraint) {
            // The client's own beginning of the value is not seen here.
            (_, Constraint::Json) if *prefilled => Self::Never,
            _ if *prefilled && *json => Self::Never,
            (Channel::Content, Constraint::Json) => Self::AfterJson(Mender::new(JSON_DEPTH_MAX)),
            (Channel::Content, _) if *json => Self::AfterJson(Mender::new(JSON_DEPTH_MAX)),
            (Channel::Content, Constraint::None) => Self::AfterText,
            _ => Self::Never,
        }
    }

    /// The lane goes on with `text`.
    fn read(&mut self, at: u64, text: &str) {
        if let Self::AfterJson(mender) = self
            && mender.feed_all(at, text.as_bytes(), |_| {}).is_err()
        {
            // Broken JSON has a rule of its own; here it only means that the value never becomes whole.
            *self = Self::Never;
        }
    }

    /// Whether the answer may end at byte `at`, where white space begins.
    const fn allows(&self, at: u64) -> bool {
        match self {
            Self::Never => false,
            Self::AfterText => at > 0,
            Self::AfterJson(mender) => mender.automaton().is_complete(),
        }
    }
}

/// Something that goes on without end.
struct Endless {
    start: u64,
    /// Byte up to which the text is sound.
    sound_to: u64,
    /// It is white space alone.
    blank: bool,
    detail: String,
}

/// White space in a row.
#[derive(Debug, Default)]
struct Blank {
    chars: u32,
    lines: u32,
    /// Byte of the lane at which it starts.
    start: u64,
}

/// A run of digits that is not yet a symbol.
#[derive(Debug, Default)]
struct Number {
    digits: u8,
    residue: u16,
    /// The run is longer than a symbol holds; its further digits are symbols of their own.
    spilled: bool,
}

/// The rule A201 for one lane.
#[derive(Debug)]
pub struct TokenLoop {
    settings: Settings,
    asked: Option<u32>,
    /// The lane is code as a whole.
    code: bool,
    started: bool,
    raised: bool,
    history: History,
    search: Search,
    number: Number,
    fence: Fence,
    blank: Blank,
    ending: Ending,
}

impl TokenLoop {
    /// The rule for the lane of `context`.
    #[must_use]
    pub fn new(settings: &Settings, context: &LaneContext<'_>) -> Self {
        Self {
            settings: Settings {
                repeats_min: settings.repeats_min.max(3),
                ..settings.clone()
            },
            asked: context.request.repeats_asked,
            code: matches!(context.lane.channel, Channel::ToolArguments(_)),
            started: false,
            raised: false,
            history: History::default(),
            search: Search::default(),
            number: Number::default(),
            fence: Fence::default(),
            blank: Blank::default(),
            ending: Ending::of(context),
        }
    }

    /// The lane must be JSON though the request does not say so.
    #[must_use]
    pub fn expecting_json(mut self) -> Self {
        if matches!(self.ending, Ending::AfterText) {
            self.ending = Ending::AfterJson(Mender::new(JSON_DEPTH_MAX));
        }
        self
    }

    /// Takes one scalar that starts at byte `at`; gives what it completes.
    #[inline]
    fn see(&mut self, at: u64, c: char) -> Option<Endless> {
        if (c.is_ascii_alphabetic() || c >= '\u{3040}')
            && self.fence.ticks == Fence::NONE
            && self.number.digits == 0
            && !is_blank(c)
        {
            // Nearly all text takes this way.
            self.blank.chars = 0;
            self.number.spilled = false;
            return self.push(of_scalar(c)).map(|found| describe(&found));
        }
        if c == '\n' || self.fence.ticks != Fence::NONE {
            self.fence.see(c);
        }
        let blank = is_blank(c);
        if !blank {
            self.blank.chars = 0;
        }
        let found = if c.is_ascii_digit() {
            self.digit(c)
        } else {
            self.number.spilled = false;
            let found = if self.number.digits == 0 {
                None
            } else {
                self.close_number()
            };
            found.or(self.push(of_scalar(c)))
        };
        match found {
            Some(found) => Some(describe(&found)),
            None if blank => self.flood(at, c),
            None => None,
        }
    }

    /// Counts white space.
    fn flood(&mut self, at: u64, c: char) -> Option<Endless> {
        let blank = &mut self.blank;
        if blank.chars == 0 {
            *blank = Blank {
                start: at,
                ..Blank::default()
            };
        }
        blank.chars += 1;
        blank.lines += u32::from(c == '\n');
        let detail = if blank.chars >= self.settings.whitespace_chars_max {
            format!("{} characters of white space in a row", blank.chars)
        } else if blank.lines >= self.settings.whitespace_lines_max {
            format!("{} line ends in a row without text", blank.lines)
        } else {
            return None;
        };
        Some(Endless {
            start: blank.start,
            sound_to: blank.start,
            blank: true,
            detail,
        })
    }

    /// Takes an ASCII digit.
    fn digit(&mut self, c: char) -> Option<Loop> {
        if self.number.spilled {
            return self.push(of_scalar(c));
        }
        if self.number.digits == NUMBER_DIGITS_MAX {
            let found = self.close_number();
            self.number.spilled = true;
            return found.or(self.push(of_scalar(c)));
        }
        self.number.digits += 1;
        self.number.residue = (self.number.residue * 10 + (c as u16 - '0' as u16)) % 251;
        None
    }

    /// Makes the digits so far a symbol.
    fn close_number(&mut self) -> Option<Loop> {
        if self.number.digits == 0 {
            return None;
        }
        let symbol = of_number(self.number.digits, self.number.residue as u8);
        (self.number.digits, self.number.residue) = (0, 0);
        self.push(symbol)
    }

    #[inline]
    fn push(&mut self, symbol: u16) -> Option<Loop> {
        self.history.push(symbol);
        let proposed = self.search.propose(&self.history, symbol);
        if proposed == 0 && self.search.is_idle() {
            return None;
        }
        let code = self.code || self.fence.inside;
        let scene = Scene {
            settings: &self.settings,
            asked: self.asked,
            code,
        };
        self.search.advance(&self.history, proposed, &scene)
    }

    /// Reports, and lets go of what is no longer needed.
    fn raise(&mut self, offset: u64, found: Endless, raised: &mut Vec<Raised>) {
        self.raised = true;
        self.forget();
        // Inside a fence code is missing, however white space it goes on.
        let end = found.blank && !self.fence.inside && self.ending.allows(found.start);
        raised.push(Raised {
            sound_to: found.sound_to,
            mend: end.then_some(Mend::End { at: found.start }),
            ..Raised::new(Code::TokenLoop, offset, found.start..offset, found.detail)
        });
    }

    /// Forgets the text, but not the place in it.
    fn forget(&mut self) {
        self.started = false;
        self.history = History::default();
        self.search = Search::default();
        self.number = Number::default();
        self.blank = Blank::default();
    }

    /// Looks for repetition in `text`; gives how much of it was read.
    fn look(&mut self, at: u64, text: &str) -> Option<(usize, Endless)> {
        if !self.started {
            self.started = true;
            self.history.start_at(at);
        }
        text.char_indices().find_map(|(i, c)| {
            let found = self.see(at + i as u64, c)?;
            Some((i + c.len_utf8(), found))
        })
    }
}

/// A loop in words.
#[cold]
fn describe(l: &Loop) -> Endless {
    let (chars, repeats) = (l.period_chars, l.repeats);
    let what = if chars == 1 {
        "one character".to_owned()
    } else {
        format!("a block of {chars} characters")
    };
    let how = if l.counting {
        ", only its numbers changing"
    } else {
        ""
    };
    Endless {
        start: l.start,
        sound_to: l.first_end,
        blank: false,
        detail: format!("{what} came {repeats} times in a row{how}"),
    }
}

impl Rule for TokenLoop {
    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>) {
        let mut read = 0;
        if !self.raised
            && let Some((until, found)) = self.look(at, text)
        {
            read = until;
            // Where a flood is found, white space is all that was read since its start.
            self.ending.read(at, &text[..read]);
            self.raise(at + read as u64, found, raised);
        }
        self.ending.read(at + read as u64, &text[read..]);
        if self.raised {
            // The place is needed again should the lane be asked for anew.
            text[read..].chars().for_each(|c| self.fence.see(c));
        }
    }

    fn end(&mut self, at: u64, _end: LaneEnd, raised: &mut Vec<Raised>) {
        if self.raised {
            return;
        }
        if let Some(found) = self.close_number().map(|l| describe(&l)) {
            self.raise(at, found, raised);
        }
    }

    fn resumed(&mut self) {
        self.raised = false;
        self.forget();
    }
}
