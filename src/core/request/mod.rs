//! What Aegis reads of a request: just enough to guard its answer. The body itself is never rewritten here.

pub mod heal;
pub mod members;
pub mod repeats;
pub mod streamed;
pub mod tools;

use crate::json::Automaton;
use crate::limits::{JSON_DEPTH_MAX, PROMPT_HINT_BYTES_MAX};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use tools::Tools;

/// Facts of one request that the rules and the relay need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// `stream: true`.
    pub stream: bool,
    /// `model`, as the client wrote it.
    pub model: Option<String>,
    /// `n`, at least 1.
    pub choices: u32,
    /// The content must be JSON (`response_format` of type `json_object` or `json_schema`).
    pub json: bool,
    /// The request offers tools, so an answer may have no content at all.
    pub tools: bool,
    /// Those tools.
    pub offered: Arc<Tools>,
    /// The client wants log probabilities (`logprobs`, `top_logprobs`, `n_probs`).
    pub logprobs: bool,
    /// What the upstream is told to force the text into.
    pub constraint: Constraint,
    /// `stream_options.include_usage`.
    pub usage: bool,
    /// The last message is the assistant's own: the client itself prefills the answer.
    pub prefilled: bool,
    /// The user asked for something to be repeated this many times; `u32::MAX` for "without end".
    pub repeats_asked: Option<u32>,
}

/// What the upstream is told to force the text into while it samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Constraint {
    /// Nothing.
    #[default]
    None,
    /// JSON, with a schema or without (`response_format`, `json_schema`).
    Json,
    /// A grammar or another constraint that only the upstream understands (`grammar`, `guided_*`, `structured_outputs`,
    /// `regex`, `ebnf`, `regex_pattern`, `grammar_string`, a `response_format` of any other type, a call that must come).
    Grammar,
}

/// The request cannot be read. Displays as one sentence with field, value, reason and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// The field at fault, as a path, or `body`.
    pub field: String,
    /// What stands there, shortened.
    pub value: String,
    /// Why it cannot be used.
    pub reason: String,
    /// What to send instead.
    pub remedy: &'static str,
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} (found {}). {}",
            self.field, self.reason, self.value, self.remedy
        )
    }
}

impl std::error::Error for BadRequest {}

/// Reads the body of a guarded call.
///
/// Only the fields that decide how the answer is guarded must be well-formed; everything else is the upstream's
/// business and passes untouched.
///
/// # Errors
/// [`BadRequest`] when the body is not one JSON object, is nested deeper than `depth_max`, or a field that Aegis
/// needs has the wrong type.
pub fn read(body: &[u8], depth_max: usize) -> Result<RequestFacts, BadRequest> {
    check_text(body, depth_max.min(JSON_DEPTH_MAX))?;
    let raw: Fields<'_> = serde_json::from_slice(body).map_err(|error| BadRequest {
        field: "body".into(),
        value: excerpt(body),
        reason: error.to_string(),
        remedy: "Send one JSON object with each field once.",
    })?;
    let hint = raw.prompt_hint();
    let format = raw.format()?;
    let json = format == Constraint::Json;
    Ok(RequestFacts {
        stream: raw.boolean("stream", raw.stream)?,
        model: raw
            .model
            .and_then(|m| serde_json::from_str::<String>(m.get()).ok()),
        choices: raw.count("n", raw.n)?,
        json,
        tools: raw.has_tools()?,
        offered: Arc::new(raw.offered()),
        logprobs: raw.wants_logprobs(),
        constraint: raw.constraint(format),
        usage: raw.wants_usage(),
        prefilled: raw.is_prefilled(),
        repeats_asked: hint.as_deref().and_then(repeats::asked),
    })
}

/// One strict pass over the whole text, so that the error names the exact byte and depth is bounded before any
/// recursive parser sees it.
fn check_text(body: &[u8], depth_max: usize) -> Result<(), BadRequest> {
    let bad = |reason: String, at: usize| BadRequest {
        field: "body".into(),
        value: excerpt(&body[at.saturating_sub(20).min(body.len())..]),
        reason,
        remedy: "Send one JSON object as the request body.",
    };
    if let Err(error) = std::str::from_utf8(body) {
        return Err(bad(
            format!("not UTF-8 at byte {}", error.valid_up_to()),
            error.valid_up_to(),
        ));
    }
    let mut automaton = Automaton::new(depth_max);
    if let Err(step) = automaton.feed(body) {
        return Err(bad(
            format!("not JSON at byte {}: {}", step.at, step.reason),
            step.at,
        ));
    }
    if automaton.is_empty() {
        return Err(bad("the body is empty".into(), 0));
    }
    if !automaton.is_complete() {
        return Err(bad(
            format!("the JSON text ends too early, {}", automaton.place()),
            body.len(),
        ));
    }
    if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("the JSON value is not an object".into(), 0));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response_format: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    functions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    top_logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n_probs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    json_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    grammar: Option<&'a RawValue>,
    #[serde(borrow, default)]
    structured_outputs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    guided_json: Option<&'a RawValue>,
    #[serde(borrow, default)]
    guided_regex: Option<&'a RawValue>,
    #[serde(borrow, default)]
    guided_grammar: Option<&'a RawValue>,
    #[serde(borrow, default)]
    guided_choice: Option<&'a RawValue>,
    #[serde(borrow, default)]
    regex: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ebnf: Option<&'a RawValue>,
    #[serde(borrow, default)]
    regex_pattern: Option<&'a RawValue>,
    #[serde(borrow, default)]
    grammar_string: Option<&'a RawValue>,
}

/// A member that is there and says something.
fn says(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|r| !matches!(r.get(), "null" | "false" | "0" | "\"\"" | "{}" | "[]"))
}

fn wrong_type(field: &str, raw: &RawValue, wanted: &'static str, remedy: &'static str) -> BadRequest {
    BadRequest {
        field: field.into(),
        value: excerpt(raw.get().as_bytes()),
        reason: format!("must be {wanted}"),
        remedy,
    }
}

impl Fields<'_> {
    fn boolean(&self, field: &str, raw: Option<&RawValue>) -> Result<bool, BadRequest> {
        match raw.map(|r| (r, r.get())) {
            None | Some((_, "null" | "false")) => Ok(false),
            Some((_, "true")) => Ok(true),
            Some((r, _)) => Err(wrong_type(
                field,
                r,
                "true or false",
                "Write the word without quotes.",
            )),
        }
    }

    fn count(&self, field: &str, raw: Option<&RawValue>) -> Result<u32, BadRequest> {
        match raw {
            None => Ok(1),
            Some(r) if r.get() == "null" => Ok(1),
            Some(r) => serde_json::from_str::<u32>(r.get())
                .ok()
                .filter(|n| *n >= 1)
                .ok_or_else(|| {
                    wrong_type(
                        field,
                        r,
                        "a whole number of at least 1",
                        "Leave it out for one answer.",
                    )
                }),
        }
    }

    /// What `response_format` forces the content into.
    fn format(&self) -> Result<Constraint, BadRequest> {
        #[derive(Deserialize)]
        struct Format<'a> {
            #[serde(borrow, rename = "type", default)]
            kind: Option<Cow<'a, str>>,
        }
        let Some(raw) = self.response_format.filter(|r| r.get() != "null") else {
            return Ok(Constraint::None);
        };
        let format: Format<'_> = serde_json::from_str(raw.get()).map_err(|_| {
            wrong_type(
                "response_format",
                raw,
                "an object whose type is a string",
                "Send {\"type\":\"json_object\"}, {\"type\":\"json_schema\",…} or {\"type\":\"text\"}.",
            )
        })?;
        Ok(match format.kind.as_deref() {
            None | Some("text") => Constraint::None,
            Some("json_object" | "json_schema") => Constraint::Json,
            // `structural_tag`, `regex`, `grammar` and what may come: none of them can be taken up in the middle.
            Some(_) => Constraint::Grammar,
        })
    }

    /// A wrong type is the upstream's to refuse; all that matters here is whether the answer may carry any.
    fn wants_logprobs(&self) -> bool {
        // `logprobs: 0` of a legacy request asks for those of the chosen tokens.
        let zero = self.prompt.is_some() && self.logprobs.is_some_and(|raw| raw.get() == "0");
        zero || says(self.logprobs) || says(self.top_logprobs) || says(self.n_probs)
    }

    fn constraint(&self, format: Constraint) -> Constraint {
        let others = [
            self.grammar,
            self.structured_outputs,
            self.guided_json,
            self.guided_regex,
            self.guided_grammar,
            self.guided_choice,
            self.regex,
            self.ebnf,
            self.regex_pattern,
            self.grammar_string,
        ];
        // A call that must come is forced by a grammar, too.
        let forced = self
            .tool_choice
            .is_some_and(|raw| raw.get() == "\"required\"" || raw.get().starts_with('{'));
        if others.into_iter().any(says) || forced || format == Constraint::Grammar {
            Constraint::Grammar
        } else if format == Constraint::Json || self.json_schema.is_some_and(|raw| raw.get() != "null") {
            Constraint::Json
        } else {
            Constraint::None
        }
    }

    fn wants_usage(&self) -> bool {
        #[derive(Deserialize)]
        struct Options {
            #[serde(default)]
            include_usage: Option<bool>,
        }
        let options = self
            .stream_options
            .and_then(|raw| serde_json::from_str::<Options>(raw.get()).ok());
        options.is_some_and(|o| o.include_usage == Some(true))
    }

    fn is_prefilled(&self) -> bool {
        let messages = self
            .messages
            .and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
        let last = messages.as_deref().and_then(<[_]>::last);
        last.and_then(|raw| serde_json::from_str::<Head<'_>>(raw.get()).ok())
            .is_some_and(|head| head.role.as_deref() == Some("assistant"))
    }

    fn has_tools(&self) -> Result<bool, BadRequest> {
        let Some(raw) = self.tools.filter(|r| r.get() != "null") else {
            return Ok(says(self.functions));
        };
        serde_json::from_str::<Vec<IgnoredAny>>(raw.get())
            .map(|tools| !tools.is_empty() || says(self.functions))
            .map_err(|_| wrong_type("tools", raw, "an array", "Leave it out when there are no tools."))
    }

    fn offered(&self) -> Tools {
        Tools::read(
            self.tools.map(RawValue::get),
            self.functions.map(RawValue::get),
            self.tool_choice.or(self.function_call).map(RawValue::get),
        )
    }

    /// The tail of what the user said last. Never an error: a shape that is not understood is the upstream's to refuse.
    fn prompt_hint(&self) -> Option<String> {
        let text = match (self.messages, self.prompt) {
            (Some(raw), _) => last_user_text(raw)?,
            (None, Some(raw)) => serde_json::from_str::<String>(raw.get()).ok()?,
            (None, None) => return None,
        };
        let mut start = text.len().saturating_sub(PROMPT_HINT_BYTES_MAX);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        Some(text[start..].to_owned())
    }
}

/// A message's text: a string, or the text parts of an array.
struct PlainText(String);

impl<'de> Deserialize<'de> for PlainText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Content {
            Text(String),
            Parts(Vec<Part>),
            Other(IgnoredAny),
        }
        #[derive(Deserialize)]
        struct Part {
            #[serde(default)]
            text: Option<String>,
        }
        Ok(Self(match Content::deserialize(deserializer)? {
            Content::Text(text) => text,
            Content::Parts(parts) => parts
                .into_iter()
                .filter_map(|p| p.text)
                .collect::<Vec<_>>()
                .join("\n"),
            Content::Other(_) => String::new(),
        }))
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
}

fn last_user_text(messages: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        content: Option<PlainText>,
    }
    let messages: Vec<&RawValue> = serde_json::from_str(messages.get()).ok()?;
    let last = messages.iter().rev().find(|raw| {
        serde_json::from_str::<Head<'_>>(raw.get()).is_ok_and(|head| head.role.as_deref() == Some("user"))
    })?;
    serde_json::from_str::<Message>(last.get())
        .ok()?
        .content
        .map(|text| text.0)
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(160)]);
    let mut short: String = text.chars().take(40).collect();
    if short.is_empty() {
        return "nothing".into();
    }
    if short.len() < bytes.len() {
        short.push('…');
    }
    // Only what would not show; the quotes stay as the client wrote them.
    let shown: String = short
        .chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect();
    format!("`{shown}`")
}

#[cfg(test)]
mod tests;
