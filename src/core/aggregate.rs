//! One JSON body from a stream: the answer that a client gets who asked for no stream, while the upstream was asked for
//! one so that its text could be checked as it came.
//!
//! The body is the one that the upstream would have sent: its members and their order are those of llama-server, every
//! value is the text that stood in a chunk, and what is not known is kept. Texts and lists that come in pieces are joined
//! (`joined`), of everything else one value counts (`object`).
//!
//! What the server leaves out of its streams cannot be rebuilt. Of llama-server that is the text of a tool call that the
//! token limit cut off, which its whole answers show as content, and the log probabilities of tokens that never show,
//! such as the end of a think block.

mod choice;
mod joined;
mod message;
mod native;
mod object;
#[cfg(test)]
mod tests;

use crate::dialect::Dialect;
use crate::limits::{FRAME_BYTES_MAX, LANES_MAX};
use crate::request::members::Members;
use crate::sse::framer::Framer;
use crate::sse::parse::{self, Unreadable};
use choice::Choice;
use joined::Joined;
use native::Native;
use object::{Kept, Writer, list};
use std::collections::BTreeMap;
use std::fmt;

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whole {
    /// The body of the answer.
    Body(Vec<u8>),
    /// The stream reported an error. The client can be told with this body.
    Error {
        /// The JSON text of an object with an `error` member, as the stream had it.
        json: String,
    },
    /// Nothing came that could be an answer.
    Empty,
}

/// Members that only a stream has: progress of the prompt, and padding.
const STREAM_ONLY: [&str; 2] = ["prompt_progress", "obfuscation"];

/// Members of a whole answer, in llama-server's order, between `choices` and those that it does not know.
const HEAD: [&str; 4] = ["created", "model", "system_fingerprint", "object"];

/// Rebuilds the whole answer from the frames of a streamed one.
#[derive(Debug)]
pub struct Aggregate {
    dialect: Dialect,
    framer: Framer,
    /// Bytes of the frame that is not finished yet.
    pending: Vec<u8>,
    /// A frame was too large: nothing after it can be framed.
    unframed: Option<Unreadable>,
    head: Kept,
    usage: Figures,
    timings: Figures,
    choices: BTreeMap<u32, Choice>,
    /// The choice that ended last.
    ended: u32,
    natives: BTreeMap<u32, Native>,
    error: Option<String>,
    done: bool,
}

impl Aggregate {
    /// An aggregate of nothing, for frames of at most [`FRAME_BYTES_MAX`] bytes.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            framer: Framer::new(FRAME_BYTES_MAX),
            pending: Vec::new(),
            unframed: None,
            head: Kept::default(),
            usage: Figures::default(),
            timings: Figures::default(),
            choices: BTreeMap::new(),
            ended: 0,
            natives: BTreeMap::new(),
            error: None,
            done: false,
        }
    }

    /// Another limit on the length of a frame.
    #[must_use]
    pub fn with_frame_bytes_max(mut self, frame_bytes_max: usize) -> Self {
        self.framer = Framer::new(frame_bytes_max);
        self
    }

    /// Takes the next bytes of the stream, cut anywhere.
    ///
    /// # Errors
    /// [`Unreadable`] for the first frame in them that cannot be read. It is left out, and the rest is taken all the same;
    /// only after a frame over the limit nothing more is: [`Self::is_unframed`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if let Some(unframed) = &self.unframed {
            return Err(unframed.clone());
        }
        let base = self.framer.scanned();
        let mut ends = Vec::new();
        let scanned = self.framer.scan(bytes, &mut ends);
        let mut result = Ok(());
        let mut start = 0;
        for end in ends {
            let end = (end - base) as usize;
            let read = if self.pending.is_empty() {
                self.frame(&bytes[start..end])
            } else {
                let mut frame = std::mem::take(&mut self.pending);
                frame.extend_from_slice(&bytes[start..end]);
                self.frame(&frame)
            };
            result = result.and(read);
            start = end;
        }
        if let Err(error) = scanned {
            let unframed = Unreadable(error.to_string());
            self.unframed = Some(unframed.clone());
            self.pending = Vec::new();
            return result.and(Err(unframed));
        }
        self.pending.extend_from_slice(&bytes[start..]);
        result
    }

    /// Takes one whole frame, as the framer cut it. Frames after the end or after an error count for nothing.
    ///
    /// # Errors
    /// [`Unreadable`] when the frame is no chunk of this dialect; what was read of it before the fault stays.
    pub fn frame(&mut self, frame: &[u8]) -> Result<(), Unreadable> {
        let Some(event) = parse::parse(frame)? else {
            return Ok(());
        };
        if self.done || self.error.is_some() {
            return Ok(());
        }
        match event.data.as_ref() {
            "[DONE]" => self.done = true,
            // llama-server opens the answer to several prompts with it.
            "null" => {}
            data => {
                let chunk = Members::read(data.as_bytes())
                    .map_err(|error| unreadable(format_args!("not a chunk: {error}")))?;
                if chunk.get("error").is_some_and(says) {
                    self.error = Some(data.to_owned());
                } else if event.name == "error" {
                    self.error = Some(["{\"error\":", data, "}"].concat());
                } else {
                    self.chunk(chunk)?;
                }
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: Members) -> Result<(), Unreadable> {
        let Some(choices) = chunk.get("choices") else {
            return self.native(chunk);
        };
        let choices = objects("choices", choices)?;
        let mut indices = Vec::with_capacity(choices.len());
        for choice in &choices {
            let index = choice.read_as::<u32>("index").unwrap_or(0);
            room(&self.choices, index)?;
            if self.choices.entry(index).or_default().take(choice)? {
                self.ended = index;
            }
            indices.push(index);
        }
        let first = indices.contains(&0) || (indices.is_empty() && self.ended == 0);
        let standing = Standing {
            alone: indices.is_empty(),
            first,
        };
        for (name, json) in chunk.iter() {
            match name {
                "choices" | "error" => {}
                "usage" => self.usage.take(json, standing),
                "timings" => self.timings.take(json, standing),
                "id" | "created" => self.head.first(name, json),
                name if STREAM_ONLY.contains(&name) => {}
                name => self.head.last(name, json),
            }
        }
        Ok(())
    }

    fn native(&mut self, object: Members) -> Result<(), Unreadable> {
        if object.get("content").is_none() && object.get("stop").is_none() {
            // Neither form; a ping of some server, perhaps.
            return Ok(());
        }
        let index = object.read_as::<u32>("index").unwrap_or(0);
        room(&self.natives, index)?;
        self.natives.entry(index).or_default().take(object)
    }

    /// Whether a frame was longer than the limit, so that nothing after it can be told apart.
    #[must_use]
    pub fn is_unframed(&self) -> bool {
        self.unframed.is_some()
    }

    /// Whether any choice came to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.choices.values().any(Choice::is_finished) || self.natives.values().any(Native::is_finished)
    }

    /// Bytes held, for the caller to bound.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let choices: usize = self.choices.values().map(Choice::len).sum();
        let natives: usize = self.natives.values().map(Native::len).sum();
        self.pending.len() + self.head.len() + choices + natives
    }

    /// The stream is over: a last frame without its blank line counts.
    pub fn close(&mut self) {
        if !self.pending.is_empty() {
            let mut frame = std::mem::take(&mut self.pending);
            frame.extend_from_slice(b"\n\n");
            // A frame that broke off is no frame; that the stream broke off is for the caller to know.
            let _torn = self.frame(&frame);
        }
    }

    /// The answer, whether it [came to its end](Self::is_finished) or not.
    #[must_use]
    pub fn finish(mut self) -> Whole {
        self.close();
        if let Some(json) = self.error.take() {
            return Whole::Error { json };
        }
        if !self.choices.is_empty() {
            return Whole::Body(self.write());
        }
        let mut out = Vec::with_capacity(self.bytes() + 4096);
        let many = self.natives.len() > 1;
        let mut natives = self.natives.into_values();
        match natives.next() {
            None => return Whole::Empty,
            Some(only) if !many => only.write(&mut out),
            Some(first) => list(&mut out, std::iter::once(first).chain(natives), Native::write),
        }
        Whole::Body(out)
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes() + 4096);
        let mut body = Writer::open(&mut out);
        list(
            body.name("choices"),
            self.choices.iter(),
            |(index, choice), out| {
                choice.write(self.dialect, *index, out);
            },
        );
        for name in HEAD {
            let json = match (name, self.head.get(name)) {
                ("object", Some("\"chat.completion.chunk\"")) => Some("\"chat.completion\""),
                (_, json) => json,
            };
            body.maybe(name, json);
        }
        body.maybe("usage", self.usage.json.as_deref());
        body.maybe("id", self.head.get("id"));
        body.maybe("timings", self.timings.json.as_deref());
        let named = [&HEAD[..], &["id"]].concat();
        body.all(self.head.except(&named));
        body.close();
        out
    }
}

/// The usage or the timings of an answer. Several chunks may have them; with several choices, llama-server ends each
/// with its own and shows those of the first one in a whole answer.
#[derive(Debug, Default)]
struct Figures {
    json: Option<String>,
    standing: Standing,
}

/// How much figures of a chunk count: those of a chunk without choices say it of the whole answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    /// The chunk has no choices.
    alone: bool,
    /// It is about the first choice, or comes right after its end.
    first: bool,
}

impl Figures {
    fn take(&mut self, json: &str, standing: Standing) {
        if json != "null" && standing >= self.standing {
            self.json = Some(json.to_owned());
            self.standing = standing;
        }
    }
}

/// What the SDKs do not take for an error is none here either.
fn says(json: &str) -> bool {
    !matches!(json, "null" | "false" | "0" | "\"\"" | "[]" | "{}")
}

fn room<T>(map: &BTreeMap<u32, T>, index: u32) -> Result<(), Unreadable> {
    if map.len() < LANES_MAX || map.contains_key(&index) {
        return Ok(());
    }
    Err(unreadable(format_args!("more than {LANES_MAX} choices")))
}

fn unreadable(what: fmt::Arguments<'_>) -> Unreadable {
    Unreadable(what.to_string())
}

/// The objects of a list, or none where it is null.
fn objects(name: &str, json: &str) -> Result<Vec<Members>, Unreadable> {
    serde_json::from_str::<Option<Vec<Members>>>(json)
        .map(Option::unwrap_or_default)
        .map_err(|error| unreadable(format_args!("{name} is not a list of objects: {error}")))
}

/// An object, or none where it is null.
fn object(name: &str, json: &str) -> Result<Option<Members>, Unreadable> {
    serde_json::from_str(json).map_err(|error| unreadable(format_args!("{name} is not an object: {error}")))
}

/// Appends a piece of a text.
fn text(name: &str, json: &str, to: &mut Joined) -> Result<(), Unreadable> {
    if to.push_text(json) {
        return Ok(());
    }
    Err(unreadable(format_args!("{name} is not a text")))
}
