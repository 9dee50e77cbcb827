//! A104 and A105 on calls that are written as text in the content: `<tool_call>{"name":…,"arguments":…}</tool_call>`,
//! the form of Hermes and Qwen.
//!
//! An element is held from its tag on until it is closed, so a client that reads such calls never sees a broken one. A
//! tag that is not followed by `{` is none of this form (Qwen3-Coder's `<function=…>`, a sentence about the tag) and
//! goes; so does one in a code fence or behind a backtick, where the form is only shown.

mod code;

use super::tool_arguments::{Settings, unknown_tool};
use crate::error::Code;
use crate::event::FinishReason;
use crate::json;
use crate::json::mend::mended;
use crate::limits::{TOOL_ARGUMENTS_BYTES_MAX, TOOL_DETAIL_CHARS_MAX, TOOL_VALUE_CHARS_MAX};
use crate::request::members::Members;
use crate::request::tools::{Offer, Tools, capped};
use crate::rule::{LaneContext, LaneEnd, Mend, Raised, Rule};
use code::Code as Shown;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

const OPEN: &[u8] = b"<tool_call>";
const CLOSE: &[u8] = b"</tool_call>";

#[derive(Debug, Clone)]
enum State {
    /// In plain text, with this many bytes of the opening tag read.
    Outside { tag: usize },
    /// After the opening tag that begins at `start`, in the white space behind it.
    Opened { start: u64 },
    /// In the text of the element, with this many bytes of the closing tag read.
    Inside {
        start: u64,
        /// Where `body` begins.
        from: u64,
        body: Vec<u8>,
        tag: usize,
    },
}

const PLAIN: State = State::Outside { tag: 0 };

/// The rule on a content lane.
#[derive(Debug)]
pub struct TextCall {
    tools: Arc<Tools>,
    schema: bool,
    depth_max: usize,
    state: State,
    /// What the text outside of elements shows as code.
    shown: Shown,
    /// Bytes of the lane seen so far.
    seen: u64,
}

/// An element: its bytes of the lane, its JSON, and whether its closing tag is there.
struct Element<'a> {
    span: Range<u64>,
    from: u64,
    body: &'a str,
    closed: bool,
}

impl TextCall {
    /// The rule for a content lane. `depth_max` is the number of brackets that may be open at once.
    #[must_use]
    pub fn new(settings: &Settings, depth_max: usize, context: &LaneContext<'_>) -> Self {
        Self {
            tools: Arc::clone(&context.request.offered),
            schema: settings.schema,
            depth_max,
            state: PLAIN,
            shown: Shown::default(),
            seen: 0,
        }
    }

    /// Reads on from `bytes[0]`, byte `at` of the lane, and says how many bytes were read.
    fn step(&mut self, at: u64, bytes: &[u8], raised: &mut Vec<Raised>) -> usize {
        match &mut self.state {
            State::Outside { tag: 0 } => {
                let plain = memchr::memchr(b'<', bytes).unwrap_or(bytes.len());
                self.shown.feed(&bytes[..plain]);
                if plain == bytes.len() {
                    return plain;
                }
                if !self.shown.is_code() {
                    self.state = State::Outside { tag: 1 };
                }
                self.shown.feed(b"<");
                plain + 1
            }
            State::Outside { tag } if bytes[0] == OPEN[*tag] => {
                *tag += 1;
                if *tag == OPEN.len() {
                    self.state = State::Opened {
                        start: at + 1 - OPEN.len() as u64,
                    };
                }
                1
            }
            State::Opened { .. } if bytes[0].is_ascii_whitespace() => {
                self.shown.feed(&bytes[..1]);
                1
            }
            State::Opened { start } if bytes[0] == b'{' => {
                self.state = State::Inside {
                    start: *start,
                    from: at,
                    body: Vec::new(),
                    tag: 0,
                };
                0
            }
            State::Outside { .. } | State::Opened { .. } => {
                self.state = PLAIN;
                0
            }
            State::Inside { body, tag, .. } => {
                let read = inside(body, tag, bytes);
                let (whole, full) = (*tag == CLOSE.len(), body.len() > TOOL_ARGUMENTS_BYTES_MAX);
                if whole || full {
                    raised.extend(self.close(at + read as u64, whole.then_some(FinishReason::ToolCalls)));
                }
                read
            }
        }
    }

    /// The element is over at byte `at`: closed by its tag, or by the end of the lane for the reason given; `None` when
    /// it is too long.
    fn close(&mut self, at: u64, reason: Option<FinishReason>) -> Option<Raised> {
        let State::Inside {
            start,
            from,
            body,
            tag,
        } = std::mem::replace(&mut self.state, PLAIN)
        else {
            return None;
        };
        let Some(reason) = reason else {
            let detail = format!("a tool call in the text is longer than {TOOL_ARGUMENTS_BYTES_MAX} bytes");
            return Some(Raised::new(Code::ToolArguments, at, start..at, detail));
        };
        let closed = tag == CLOSE.len();
        // The parts of a text were joined at its own borders, so this is a text again.
        let body = String::from_utf8_lossy(&body);
        let element = Element {
            span: start..at,
            from,
            body: body.trim_end(),
            closed,
        };
        self.judge(&element, reason)
    }

    fn judge(&self, element: &Element<'_>, reason: FinishReason) -> Option<Raised> {
        let raise = |code: Code, detail: &str, mend: Option<Mend>| {
            let detail = capped(detail, TOOL_DETAIL_CHARS_MAX);
            let (at, span) = (element.span.end, element.span.clone());
            Some(Raised {
                mend,
                ..Raised::new(code, at, span, detail)
            })
        };
        let Some(whole) = mended(element.body, self.depth_max, reason) else {
            let (at, why) = json::check(element.body.as_bytes(), self.depth_max)
                .err()
                .unwrap_or_default();
            let detail = format!("a tool call in the text is not JSON at its byte {at}: {why}");
            return raise(Code::ToolArguments, &detail, None);
        };
        match self.check(&whole) {
            Err((code, detail)) => raise(code, &detail, None),
            Ok(()) if matches!(whole, Cow::Borrowed(_)) && element.closed => None,
            Ok(()) => {
                let (what, until, tag) = if element.closed {
                    let until = element.from + element.body.len() as u64;
                    ("a tool call in the text is not quite JSON", until, "")
                } else {
                    // What stands behind the JSON is white space and at most a part of the tag.
                    let what = "a tool call in the text does not end";
                    (what, element.span.end, "</tool_call>")
                };
                let mend = Mend::Replace {
                    span: element.from..until,
                    text: format!("{whole}{tag}"),
                };
                // Of a call that was cut, nobody knows which arguments were still to come.
                let guessed = reason.is_cut()
                    && !element.closed
                    && json::check(element.body.as_bytes(), self.depth_max).is_err();
                raise(Code::ToolArguments, what, Some(mend).filter(|_| !guessed))
            }
        }
    }

    /// What is wrong with a call that is JSON.
    fn check(&self, call: &str) -> Result<(), (Code, String)> {
        let wrong = |what: String| (Code::ToolArguments, what);
        let lacks = |what: &str| wrong(format!("a tool call in the text is incomplete: it has no {what}"));
        // Of a name that stands there twice every client takes the last.
        let call = Members::read(call.as_bytes()).map_err(|_| lacks("members"))?;
        let name: String = call.read_as("name").ok_or_else(|| lacks("name"))?;
        let arguments = call.get("arguments").ok_or_else(|| lacks("arguments"))?;
        let whose = format!("the arguments of {:?}", capped(&name, TOOL_VALUE_CHARS_MAX));
        if !arguments.starts_with('{') {
            return Err(wrong(format!("{whose}: they are no object")));
        }
        match self.tools.find(&name) {
            Offer::Missing => Err((Code::UnknownTool, unknown_tool(&self.tools, &name))),
            Offer::Tool(tool) if self.schema => tool
                .check(arguments)
                .map_err(|why| wrong(format!("{whose}: {why}"))),
            Offer::Tool(_) | Offer::Unknown => Ok(()),
        }
    }
}

/// Reads on inside an element: up to the end of its closing tag, or to a byte that is not the tag's.
fn inside(body: &mut Vec<u8>, tag: &mut usize, bytes: &[u8]) -> usize {
    if *tag == 0 {
        let plain = memchr::memchr(b'<', bytes).unwrap_or(bytes.len());
        // One byte beyond the bound is enough to know; how much comes at once must not matter.
        let plain = plain.min(TOOL_ARGUMENTS_BYTES_MAX + 1 - body.len());
        body.extend_from_slice(&bytes[..plain]);
        if bytes.get(plain) == Some(&b'<') && body.len() <= TOOL_ARGUMENTS_BYTES_MAX {
            *tag = 1;
            return plain + 1;
        }
        return plain;
    }
    if bytes[0] == CLOSE[*tag] {
        *tag += 1;
        return 1;
    }
    body.extend_from_slice(&CLOSE[..*tag]);
    *tag = 0;
    0
}

impl Rule for TextCall {
    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>) {
        let bytes = text.as_bytes();
        let mut next = 0;
        while next < bytes.len() {
            next += self.step(at + next as u64, &bytes[next..], raised);
        }
        self.seen = at + bytes.len() as u64;
    }

    fn end(&mut self, at: u64, end: LaneEnd, raised: &mut Vec<Raised>) {
        let LaneEnd::Finished(reason) = end else { return };
        // An answer that stopped by itself right behind the tag wrote about it; one that was cut off was about to call.
        if let State::Opened { start } = self.state
            && reason != FinishReason::Stop
        {
            let detail = "a tool call in the text ends after its tag".to_owned();
            raised.push(Raised::new(Code::ToolArguments, at, start..at, detail));
        }
        raised.extend(self.close(at, Some(reason)));
        self.state = PLAIN;
    }

    fn held_from(&self) -> Option<u64> {
        match self.state {
            State::Outside { tag: 0 } => None,
            State::Outside { tag } => Some(self.seen - tag as u64),
            State::Opened { start } | State::Inside { start, .. } => Some(start),
        }
    }
}

#[cfg(test)]
mod tests;
