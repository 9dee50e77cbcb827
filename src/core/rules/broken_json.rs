//! A101: a lane that must be JSON and can no longer become it. Also reports A103 at the end of such a lane.
//!
//! The fault is certain at the first impossible byte, before any client's parser could know it, so what has been
//! released up to then is always the beginning of some valid JSON text.

use super::truncated_json::{Missing, truncated};
use crate::error::Code;
use crate::json::{Automaton, Reason};
use crate::limits::JSON_DEPTH_MAX;
use crate::rule::{LaneContext, LaneEnd, Raised, Rule};
use serde::{Deserialize, Serialize};

/// Whether a Markdown fence may stand around the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// The lane is JSON and nothing else.
    #[default]
    Forbid,
    /// Three or more backticks, an optional info word and a newline before the value, as many backticks after it.
    Allow,
}

/// Settings of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Treat every content lane as JSON, not only those of requests that ask for it.
    pub always: bool,
    /// What to do about a Markdown fence.
    pub fence: Fence,
    /// Most brackets that may be open at once.
    pub depth_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            always: false,
            fence: Fence::Forbid,
            depth_max: JSON_DEPTH_MAX,
        }
    }
}

/// Where the lane stands with respect to the fence around the value. `ticks` counts the backticks of the opening fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrap {
    /// Nothing but white space and then backticks. Only where fences are allowed.
    Opening { ticks: u32 },
    /// On the line of the opening fence.
    Info { ticks: u32, word: InfoWord },
    /// In or around the value. `ticks` is 0 without a fence.
    Value { ticks: u32 },
    /// Inside the closing fence, `seen` of `ticks` backticks were read.
    Closing { ticks: u32, seen: u32 },
    /// After the closing fence.
    Closed,
}

/// How far the word after the opening fence (`json` as a rule) was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InfoWord {
    Due,
    Reading,
    Over,
}

/// The rule on one lane.
#[derive(Debug, Clone)]
pub struct BrokenJson {
    automaton: Automaton,
    wrap: Wrap,
    /// The lane byte at which the value began.
    value_from: Option<u64>,
    /// The request offers tools, so a lane without any value is no fault.
    may_be_empty: bool,
    raised: bool,
}

/// An impossible byte: its index in the slice, what is wrong with it, and where it stands.
type Fault = (usize, String, String);

impl BrokenJson {
    /// The rule for a lane that must be JSON. Whether it must is the caller's decision
    /// ([`RequestFacts::json`](crate::request::RequestFacts::json) or [`Settings::always`]).
    #[must_use]
    pub fn new(settings: &Settings, context: &LaneContext<'_>) -> Self {
        Self {
            automaton: Automaton::new(settings.depth_max),
            wrap: match settings.fence {
                Fence::Forbid => Wrap::Value { ticks: 0 },
                Fence::Allow => Wrap::Opening { ticks: 0 },
            },
            value_from: None,
            may_be_empty: context.request.tools,
            raised: false,
        }
    }

    fn read(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut next = 0;
        while let Some(&byte) = bytes.get(next) {
            if let Wrap::Value { ticks } = self.wrap {
                next = self.value(at, bytes, next, ticks)?;
            } else {
                self.wrap = after(self.wrap, byte)
                    .map_err(|what| (next, what.to_owned(), "around the value".to_owned()))?;
                // The first byte of an unfenced value ends the search for a fence and is read again as JSON.
                next += usize::from(self.wrap != Wrap::Value { ticks: 0 });
            }
        }
        Ok(())
    }

    /// Reads the value from `bytes[from..]` and says where to go on: at the end, or after the first backtick of the
    /// closing fence.
    fn value(&mut self, at: u64, bytes: &[u8], from: usize, ticks: u32) -> Result<usize, Fault> {
        let rest = &bytes[from..];
        if self.value_from.is_none() {
            let first = rest.iter().position(|b| !b.is_ascii_whitespace());
            self.value_from = first.map(|first| at + (from + first) as u64);
        }
        let Err(fault) = self.automaton.feed(rest) else {
            return Ok(bytes.len());
        };
        let index = from + fault.at;
        // After a whole value the automaton objects to any text; a backtick there begins the closing fence.
        if ticks > 0 && fault.reason == Reason::TextAfterValue && bytes[index] == b'`' {
            self.wrap = Wrap::Closing { ticks, seen: 1 };
            return Ok(index + 1);
        }
        Err((index, fault.reason.to_string(), self.automaton.standing()))
    }

    /// Whether the lane may end where it stands.
    fn whole(&self) -> bool {
        match self.wrap {
            Wrap::Value { .. } => self.automaton.is_complete(),
            Wrap::Opening { .. } | Wrap::Info { .. } => false,
            // The value is whole. A client that stops the model at the closing fence never sees all of it.
            Wrap::Closing { .. } | Wrap::Closed => true,
        }
    }
}

/// The next place for a byte outside the value, or what is wrong with it.
fn after(wrap: Wrap, byte: u8) -> Result<Wrap, &'static str> {
    let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    match wrap {
        Wrap::Opening { ticks } if byte == b'`' => Ok(Wrap::Opening {
            ticks: ticks.saturating_add(1),
        }),
        Wrap::Opening { ticks: 0 } if space => Ok(wrap),
        Wrap::Opening { ticks: 0 } => Ok(Wrap::Value { ticks: 0 }),
        Wrap::Opening { ticks: 1 | 2 } => Err("fewer than three backticks before the value"),
        Wrap::Opening { ticks } => info(ticks, InfoWord::Due, byte),
        Wrap::Info { ticks, word } => info(ticks, word, byte),
        Wrap::Value { .. } => Ok(wrap),
        Wrap::Closing { ticks, seen } if byte == b'`' => Ok(Wrap::Closing {
            ticks,
            seen: seen.saturating_add(1),
        }),
        Wrap::Closing { ticks, seen } if seen < ticks => Err("a closing fence shorter than the opening one"),
        Wrap::Closing { .. } | Wrap::Closed if space => Ok(Wrap::Closed),
        Wrap::Closing { .. } | Wrap::Closed => Err("text after the closing fence"),
    }
}

/// A byte on the line of the opening fence: at most one word, blanks around it, then the newline.
fn info(ticks: u32, word: InfoWord, byte: u8) -> Result<Wrap, &'static str> {
    let in_word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'.' | b'-');
    let word = match (word, byte) {
        (_, b'\n') => return Ok(Wrap::Value { ticks }),
        (InfoWord::Due, b' ' | b'\t' | b'\r') => InfoWord::Due,
        (_, b' ' | b'\t' | b'\r') => InfoWord::Over,
        (InfoWord::Due | InfoWord::Reading, _) if in_word => InfoWord::Reading,
        _ => return Err("more than one word on the line of the opening fence"),
    };
    Ok(Wrap::Info { ticks, word })
}

impl Rule for BrokenJson {
    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>) {
        if self.raised {
            return;
        }
        let Err((index, what, place)) = self.read(at, text.as_bytes()) else {
            return;
        };
        self.raised = true;
        // Bytes above 0x7f are only possible inside strings, so a fault is always the first byte of its scalar.
        let scalar = text
            .get(index..)
            .and_then(|rest| rest.chars().next())
            .unwrap_or('\u{fffd}');
        let from = at + index as u64;
        let until = from + scalar.len_utf8() as u64;
        raised.push(Raised {
            code: Code::BrokenJson,
            offset: until,
            span: from..until,
            detail: format!("{what}: found {scalar:?} at byte {from}, {place}"),
        });
    }

    fn end(&mut self, at: u64, end: LaneEnd, raised: &mut Vec<Raised>) {
        if self.raised || self.whole() {
            return;
        }
        let place = self.automaton.standing();
        let missing = match self.value_from {
            Some(from) => Missing::Rest { from, place: &place },
            None if self.may_be_empty
                && matches!(self.wrap, Wrap::Value { ticks: 0 } | Wrap::Opening { ticks: 0 }) =>
            {
                return;
            }
            None => Missing::Value,
        };
        raised.extend(truncated(at, end, missing));
    }
}

#[cfg(test)]
mod tests;
