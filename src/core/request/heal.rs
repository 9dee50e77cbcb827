//! Mends what a client's history has of broken tool calls, so that one bad answer does not lock a session.
//!
//! A server that reads `arguments` while it renders the prompt refuses the whole request over a single one that is no
//! JSON, and the client sends it again with every turn. A string of JSON that is an object is the only form that the
//! OpenAI schema has and that no server refuses: some want a string (Ollama), and templates go through the members
//! (Qwen3-Coder's), so llama-server refuses `[]` or `5` with one model and takes them with another.

mod surrogates;

use super::tools::capped;
use crate::json::mend;
use crate::json::{Automaton, Reason};
use crate::limits::{HEAL_NOTES_MAX, TOOL_DETAIL_CHARS_MAX, TOOL_VALUE_CHARS_MAX};
use memchr::memmem;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Calls that the sentence for people names.
const NOTES_SHOWN: usize = 3;

/// A request's body after its history was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// The body. Every byte outside the mended arguments is as it was.
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

/// What became of arguments that were no string with a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healing {
    /// A certain mend made them one.
    Mended,
    /// They became `{}`.
    Emptied,
}

/// Mends the `arguments` of all calls in `messages` that are neither an object nor a string with one in it. `None` when
/// there is nothing to mend, and for a body that is no request.
///
/// An object in place of its text stays: llama-server takes it, and some clients send nothing else. An escape of half a surrogate pair counts as broken, in the
/// arguments as in the body's own string around them, because servers that keep text as UTF-8 cannot read it.
#[must_use]
pub fn heal(body: &[u8], depth_max: usize) -> Option<Healed> {
    calls_in(body).then_some(())?;
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
    /// A null is not the same as nothing here.
    #[serde(borrow, default, deserialize_with = "present")]
    arguments: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Whether there may be calls in this text.
fn calls_in(json: &[u8]) -> bool {
    memmem::find(json, b"\"tool_calls\"").is_some() || memmem::find(json, b"\"function_call\"").is_some()
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
        if !calls_in(message.get().as_bytes()) {
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
            self.function(index, call, function, true);
        }
        // llama-server looks for the arguments of `tool_calls` only.
        self.function(index, 0, message.function_call, false);
    }

    fn function(&mut self, message: usize, call: usize, raw: Option<&'a RawValue>, needed: bool) {
        let function = raw.and_then(|raw| Some((raw, serde_json::from_str::<Function<'_>>(raw.get()).ok()?)));
        let Some((raw, function)) = function else {
            return;
        };
        let (what, range, text, why) = match function.arguments {
            Some(arguments) => {
                let Some((what, mended, why)) = mended(arguments.get(), self.depth_max) else {
                    return;
                };
                let start = self.offset(arguments);
                let quoted = serde_json::Value::String(mended).to_string();
                (what, start..start + arguments.get().len(), quoted, why)
            }
            None if needed && raw.get().starts_with('{') => {
                let at = self.offset(raw) + 1;
                let empty = raw.get()[1..].trim_start().starts_with('}');
                let member = format!("\"arguments\":\"{{}}\"{}", if empty { "" } else { "," });
                (Healing::Emptied, at..at, member, "there are none".to_owned())
            }
            None => return,
        };
        self.changes.push((range, text));
        if self.notes.len() < HEAL_NOTES_MAX {
            let name = function
                .name
                .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
            self.notes.push(HealNote {
                message,
                call,
                name: capped(&name.unwrap_or_default(), TOOL_VALUE_CHARS_MAX),
                what,
                why: capped(&why, TOOL_DETAIL_CHARS_MAX),
            });
        }
    }

    /// Where a value stands in the body.
    fn offset(&self, raw: &RawValue) -> usize {
        raw.get().as_ptr() as usize - self.text.as_ptr() as usize
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

/// What the JSON of a member `arguments` has to become, and why. `None` when it may stay.
fn mended(json: &str, depth_max: usize) -> Option<(Healing, String, String)> {
    // A string of the body that holds half a pair cannot even be read.
    let outer = surrogates::paired(json);
    let text = match serde_json::from_str(&outer) {
        Ok(Text(text)) => text,
        Err(_) if outer.starts_with('{') => {
            let halved = matches!(outer, Cow::Owned(_));
            let why = "half a surrogate pair in a string".to_owned();
            return halved.then(|| (Healing::Mended, outer.into_owned(), why));
        }
        Err(_) => {
            let why = format!("{} in place of a text", kind(&outer));
            return Some((Healing::Emptied, "{}".to_owned(), why));
        }
    };
    let paired = surrogates::paired(&text);
    let halved = matches!(outer, Cow::Owned(_)) || matches!(paired, Cow::Owned(_));
    let why = match fault(&text, depth_max) {
        Err(why) => why,
        Ok(()) if halved => "half a surrogate pair in a string".to_owned(),
        Ok(()) if is_object(&text) => return None,
        Ok(()) => format!("{} in place of an object", kind(&text)),
    };
    // White space is all there may be around the object.
    match mend::whole(&paired, depth_max).filter(|whole| is_object(whole)) {
        Some(whole) => Some((Healing::Mended, whole, why)),
        None => Some((Healing::Emptied, "{}".to_owned(), why)),
    }
}

fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

/// What kind of value a JSON text is.
fn kind(json: &str) -> &'static str {
    match json.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a truth value",
        _ => "a number",
    }
}

/// What is wrong with arguments that are no JSON. Nesting beyond the limit is no fault of the text.
fn fault(arguments: &str, depth_max: usize) -> Result<(), String> {
    let mut automaton = Automaton::new(depth_max);
    match automaton.feed(arguments.as_bytes()) {
        Err(fault) if matches!(fault.reason, Reason::TooDeep(_)) => Ok(()),
        Err(fault) => Err(format!(
            "{} at byte {}, {}",
            fault.reason,
            fault.at,
            automaton.standing()
        )),
        Ok(()) if automaton.is_complete() => Ok(()),
        Ok(()) if automaton.is_empty() => Err("there is nothing".to_owned()),
        Ok(()) => Err(format!("the text ends {}", automaton.standing())),
    }
}

#[cfg(test)]
mod tests;
