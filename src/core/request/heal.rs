//! Mends what a client's history has of broken tool calls, so that one bad answer does not lock a session.
//!
//! A server that reads `arguments` while it renders the prompt refuses the whole request over a single one that is no
//! JSON, and the client sends it again with every turn.

mod surrogates;

use super::tools::capped;
use crate::json::mend;
use crate::json::{Automaton, Reason};
use crate::limits::{HEAL_NOTES_MAX, TOOL_DETAIL_CHARS_MAX, TOOL_VALUE_CHARS_MAX};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Calls that the sentence for people names.
const NOTES_SHOWN: usize = 3;

/// A request's body after its history was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// The body. Every byte outside the mended strings is as it was.
    pub body: Vec<u8>,
    /// What was done, message by message; at most [`HEAL_NOTES_MAX`].
    pub notes: Vec<HealNote>,
    /// How many calls were healed, the unnoted ones included.
    pub calls: usize,
}

/// Names the first calls and says how many there are.
impl fmt::Display for Healed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.calls == 1 { "call" } else { "calls" };
        write!(f, "{} broken tool {calls} in the request's history", self.calls)?;
        for note in self.notes.iter().take(NOTES_SHOWN) {
            let HealNote {
                message,
                call,
                name,
                why,
                ..
            } = note;
            let done = match note.what {
                Healing::Mended => "mended",
                Healing::Emptied => "emptied",
            };
            write!(
                f,
                " messages[{message}].tool_calls[{call}] ({name}) {done}, {why};"
            )?;
        }
        Ok(())
    }
}

/// One healed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealNote {
    /// Index of the message in `messages`.
    pub message: usize,
    /// Index of the call in `tool_calls`; 0 for `function_call`.
    pub call: usize,
    /// The tool's name, shortened; empty where it has none.
    pub name: String,
    /// What became of the arguments.
    pub what: Healing,
    /// What was wrong with them.
    pub why: String,
}

/// What became of arguments that were no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healing {
    /// A certain mend made them JSON.
    Mended,
    /// They became `{}`.
    Emptied,
}

/// Mends the `arguments` of all calls in `messages` that are strings but no JSON. `None` when there is nothing to mend,
/// and for a body that is no request.
///
/// Only a string can be broken: `arguments` of another type, and strings of whatever JSON, stay as they are. An escape
/// of half a surrogate pair counts as broken, because servers that keep text as UTF-8 cannot read it.
#[must_use]
pub fn heal(body: &[u8], depth_max: usize) -> Option<Healed> {
    memmem::find(body, b"\"arguments\"")?;
    let text = std::str::from_utf8(body).ok()?;
    let mut healer = Healer {
        text,
        depth_max,
        changes: Vec::new(),
        notes: Vec::new(),
    };
    let messages = serde_json::from_str::<Body<'_>>(text).ok()?.messages?;
    for (index, message) in list(messages).into_iter().enumerate() {
        healer.message(index, message);
    }
    healer.healed()
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

fn list(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

struct Healer<'a> {
    text: &'a str,
    depth_max: usize,
    /// Where a string of the body becomes another one.
    changes: Vec<(Range<usize>, String)>,
    notes: Vec<HealNote>,
}

impl<'a> Healer<'a> {
    fn message(&mut self, index: usize, message: &'a RawValue) {
        // Most of a long history is no call, and need not be read member by member.
        if memmem::find(message.get().as_bytes(), b"\"arguments\"").is_none() {
            return;
        }
        let Ok(message) = serde_json::from_str::<Message<'_>>(message.get()) else {
            return;
        };
        for (call, raw) in message
            .tool_calls
            .map(list)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let function = serde_json::from_str::<Call<'_>>(raw.get())
                .ok()
                .and_then(|c| c.function);
            self.function(index, call, function);
        }
        self.function(index, 0, message.function_call);
    }

    fn function(&mut self, message: usize, call: usize, function: Option<&'a RawValue>) {
        let function = function.and_then(|raw| serde_json::from_str::<Function<'_>>(raw.get()).ok());
        let Some((name, raw)) = function.and_then(|f| Some((f.name, f.arguments?))) else {
            return;
        };
        // Anything else than a string is not for us to judge.
        let Ok(Text(arguments)) = serde_json::from_str(raw.get()) else {
            return;
        };
        let paired = surrogates::paired(&arguments);
        let why = match (fault(&arguments, self.depth_max), &paired) {
            (Some(why), _) => why,
            (None, Cow::Owned(_)) => "half a surrogate pair in a string".to_owned(),
            (None, Cow::Borrowed(_)) => return,
        };
        let (what, mended) = match mend::whole(&paired, self.depth_max) {
            Some(mended) => (Healing::Mended, mended),
            None => (Healing::Emptied, "{}".to_owned()),
        };
        let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
        let quoted = serde_json::Value::String(mended).to_string();
        self.changes.push((start..start + raw.get().len(), quoted));
        if self.notes.len() < HEAL_NOTES_MAX {
            let name = name.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            self.notes.push(HealNote {
                message,
                call,
                name: capped(&name.unwrap_or_default(), TOOL_VALUE_CHARS_MAX),
                what,
                why: capped(&why, TOOL_DETAIL_CHARS_MAX),
            });
        }
    }

    fn healed(mut self) -> Option<Healed> {
        if self.changes.is_empty() {
            return None;
        }
        // Members may stand in any order: a `function_call` before the `tool_calls`, for one.
        self.changes.sort_by_key(|(range, _)| range.start);
        let mut body = Vec::with_capacity(self.text.len());
        let mut done = 0;
        for (range, text) in &self.changes {
            body.extend_from_slice(&self.text.as_bytes()[done..range.start]);
            body.extend_from_slice(text.as_bytes());
            done = range.end;
        }
        body.extend_from_slice(&self.text.as_bytes()[done..]);
        Some(Healed {
            body,
            notes: self.notes,
            calls: self.changes.len(),
        })
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What is wrong with arguments that are no JSON. Nesting beyond the limit is no fault of the text.
fn fault(arguments: &str, depth_max: usize) -> Option<String> {
    let mut automaton = Automaton::new(depth_max);
    match automaton.feed(arguments.as_bytes()) {
        Err(fault) if matches!(fault.reason, Reason::TooDeep(_)) => None,
        Err(fault) => Some(format!(
            "{} at byte {}, {}",
            fault.reason,
            fault.at,
            automaton.standing()
        )),
        Ok(()) if automaton.is_complete() => None,
        Ok(()) if automaton.is_empty() => Some("there is nothing".to_owned()),
        Ok(()) => Some(format!("the text ends {}", automaton.standing())),
    }
}

#[cfg(test)]
mod tests;
