//! A101: a lane that must be JSON and can no longer become it. Also reports A103 at the end of such a lane.
//!
//! The fault is certain at the first impossible byte, before any client's parser could know it, so what has been
//! released up to then is always the beginning of some valid JSON text. Where a mend is certain ([`crate::json::mend`]) the
//! finding carries it, and the rule reads on as if it had been made.

use super::truncated_json::{Missing, truncated};
use crate::error::Code;
use crate::json::Reason;
use crate::json::mend::{Mender, Patch};
use crate::limits::{JSON_DEPTH_MAX, MENDS_MAX};
use crate::rule::{LaneContext, LaneEnd, Mend, Raised, Rule};
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
    mender: Mender,
    wrap: Wrap,
    /// The lane byte at which the value began.
    value_from: Option<u64>,
    /// The request offers tools, so a lane without any value is no fault.
    may_be_empty: bool,
    /// Mends offered so far.
    mends: u32,
    /// A fault without a mend was raised: nothing that follows can be judged.
    raised: bool,
}

/// An impossible byte.
struct Fault {
    /// Its index in the slice.
    index: usize,
    /// What is wrong with it.
    what: String,
    /// Where it stands.
    place: String,
    patch: Option<Patch>,
}

impl BrokenJson {
    /// The rule for a lane that must be JSON. Whether it must is the caller's decision
    /// ([`RequestFacts::json`](crate::request::RequestFacts::json) or [`Settings::always`]).
    #[must_use]
    pub fn new(settings: &Settings, context: &LaneContext<'_>) -> Self {
        Self {
            mender: Mender::new(settings.depth_max),
            wrap: match settings.fence {
                Fence::Forbid => Wrap::Value { ticks: 0 },
                Fence::Allow => Wrap::Opening { ticks: 0 },
            },
            value_from: None,
            may_be_empty: context.request.tools,
            mends: 0,
            raised: false,
        }
    }

    /// Reads `bytes[next..]`; `at` is where `bytes` begin in the lane.
    fn read(&mut self, at: u64, bytes: &[u8], mut next: usize) -> Result<(), Fault> {
        while let Some(&byte) = bytes.get(next) {
            if let Wrap::Value { ticks } = self.wrap {
                next = self.value(at, bytes, next, ticks)?;
            } else {
                self.wrap = after(self.wrap, byte).map_err(|what| Fault {
                    index: next,
                    what: what.to_owned(),
                    place: "around the value".to_owned(),
                    patch: None,
                })?;
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
        let Err(fault) = self.mender.feed(at + from as u64, rest) else {
            return Ok(bytes.len());
        };
        let index = (fault.at - at) as usize;
        // After a whole value the automaton objects to any text; a backtick there begins the closing fence.
        if ticks > 0 && fault.reason == Reason::TextAfterValue && bytes[index] == b'`' {
            self.wrap = Wrap::Closing { ticks, seen: 1 };
            return Ok(index + 1);
        }
        Err(Fault {
            index,
            what: fault.reason.to_string(),
            place: fault.standing,
            patch: fault.patch,
        })
    }

    /// The finding for a fault in `text`, which begins at byte `at` of the lane.
    fn report(&mut self, at: u64, text: &str, fault: Fault) -> Raised {
        // Bytes above 0x7f are only possible inside strings, so a fault is always the first byte of its scalar.
        let scalar = text
            .get(fault.index..)
            .and_then(|rest| rest.chars().next())
            .unwrap_or('\u{fffd}');
        let from = at + fault.index as u64;
        let until = from + scalar.len_utf8() as u64;
        let detail = format!("{}: found {scalar:?} at byte {from}, {}", fault.what, fault.place);
        let found = Raised::new(Code::BrokenJson, until, from..until, detail);
        // Findings need a bound like everything else, and what is broken that often is no slip.
        let Some(patch) = fault.patch.filter(|_| self.mends < MENDS_MAX) else {
            self.raised = true;
            return found;
        };
        self.mends += 1;
        Raised {
            sound_to: patch.span.start,
            mend: Some(Mend::Replace {
                span: patch.span,
                text: patch.text,
            }),
            ..found
        }
    }

    /// Whether the lane may end where it stands.
    fn whole(&self) -> bool {
        match self.wrap {
            Wrap::Value { .. } => self.mender.automaton().is_complete(),
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
        let mut next = 0;
        while !self.raised
            && let Err(fault) = self.read(at, text.as_bytes(), next)
        {
            next = fault.index + 1;
            raised.push(self.report(at, text, fault));
        }
    }

    fn end(&mut self, at: u64, end: LaneEnd, raised: &mut Vec<Raised>) {
        if self.raised || self.whole() {
            return;
        }
        let place = self.mender.automaton().standing();
        let missing = match self.value_from {
            Some(from) => Missing::Rest { from, place: &place },
            None if self.may_be_empty
                && matches!(self.wrap, Wrap::Value { ticks: 0 } | Wrap::Opening { ticks: 0 }) =>
            {
                return;
            }
            None => Missing::Value,
        };
        if let (Some(found), LaneEnd::Finished(reason)) = (truncated(at, end, missing), end) {
            let mend = self.mender.end(at, reason).map(|patch| Mend::Replace {
                span: patch.span,
                text: patch.text,
            });
            raised.push(Raised { mend, ..found });
        }
    }

    /// A comma waits for what follows it: before a closing bracket it goes away.
    fn held_from(&self) -> Option<u64> {
        self.mender.held_from().filter(|_| !self.raised)
    }
}

#[cfg(test)]
mod tests;
