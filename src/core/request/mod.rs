//! What Aegis reads of a request: just enough to guard its answer. The body itself is never rewritten here.

pub mod repeats;

use crate::json::Automaton;
use crate::limits::{JSON_DEPTH_MAX, PROMPT_HINT_BYTES_MAX};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

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
    /// The user asked for something to be repeated this many times; `u32::MAX` for "without end".
    pub repeats_asked: Option<u32>,
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
    Ok(RequestFacts {
        stream: raw.boolean("stream", raw.stream)?,
        model: raw
            .model
            .and_then(|m| serde_json::from_str::<String>(m.get()).ok()),
        choices: raw.count("n", raw.n)?,
        json: raw.wants_json()?,
        tools: raw.has_tools()?,
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
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
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

    fn wants_json(&self) -> Result<bool, BadRequest> {
        #[derive(Deserialize)]
        struct Format<'a> {
            #[serde(borrow, rename = "type", default)]
            kind: Option<Cow<'a, str>>,
        }
        let Some(raw) = self.response_format.filter(|r| r.get() != "null") else {
            return Ok(false);
        };
        let format: Format<'_> = serde_json::from_str(raw.get()).map_err(|_| {
            wrong_type(
                "response_format",
                raw,
                "an object whose type is a string",
                "Send {\"type\":\"json_object\"}, {\"type\":\"json_schema\",…} or {\"type\":\"text\"}.",
            )
        })?;
        Ok(matches!(
            format.kind.as_deref(),
            Some("json_object" | "json_schema")
        ))
    }

    fn has_tools(&self) -> Result<bool, BadRequest> {
        let Some(raw) = self.tools.filter(|r| r.get() != "null") else {
            return Ok(false);
        };
        serde_json::from_str::<Vec<IgnoredAny>>(raw.get())
            .map(|tools| !tools.is_empty())
            .map_err(|_| wrong_type("tools", raw, "an array", "Leave it out when there are no tools."))
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

fn last_user_text(messages: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow, default)]
        role: Option<Cow<'a, str>>,
    }
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
mod tests {
    use super::*;

    fn facts(body: &str) -> RequestFacts {
        read(body.as_bytes(), JSON_DEPTH_MAX).unwrap()
    }

    fn error(body: &[u8]) -> String {
        read(body, 128).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_request_has_defaults() {
        let f = facts(r#"{"messages":[{"role":"user","content":"hi"}]}"#);
        assert_eq!(
            f,
            RequestFacts {
                choices: 1,
                ..RequestFacts::default()
            }
        );
    }

    #[test]
    fn everything_that_matters_is_read() {
        let f = facts(
            r#"{"stream":true,"model":"m","n":2,"response_format":{"type":"json_schema","json_schema":{}},
                "tools":[{"type":"function"}],"unknown":{"deep":[1,2]},
                "messages":[{"role":"user","content":[{"type":"text","text":"repeat it 40 times"}]},{"role":"assistant","content":null}]}"#,
        );
        assert!(f.stream && f.json && f.tools);
        assert_eq!(
            (f.choices, f.model.as_deref(), f.repeats_asked),
            (2, Some("m"), Some(40))
        );
    }

    #[test]
    fn nulls_and_text_formats_ask_for_nothing() {
        let f =
            facts(r#"{"stream":null,"n":null,"tools":null,"response_format":{"type":"text"},"messages":3}"#);
        assert_eq!(
            f,
            RequestFacts {
                choices: 1,
                ..RequestFacts::default()
            }
        );
    }

    #[test]
    fn errors_name_field_value_reason_and_remedy() {
        for (body, wanted) in [
            (
                r#"{"stream":"yes"}"#,
                "stream: must be true or false (found `\"yes\"`). Write the word without quotes.",
            ),
            (
                r#"{"n":0}"#,
                "n: must be a whole number of at least 1 (found `0`).",
            ),
            (
                r#"{"response_format":"json"}"#,
                "response_format: must be an object",
            ),
            (r#"{"tools":{}}"#, "tools: must be an array"),
            ("[1]", "body: the JSON value is not an object"),
            ("", "body: the body is empty"),
            (r#"{"a":1"#, "body: the JSON text ends too early"),
            (r#"{"a":1,}"#, "not JSON at byte 7"),
            (r#"{"stream":true,"stream":true}"#, "duplicate field `stream`"),
        ] {
            assert!(
                error(body.as_bytes()).contains(wanted),
                "{body}: {}",
                error(body.as_bytes())
            );
        }
        assert!(error(b"{\"a\":\"\xff\"}").contains("not UTF-8 at byte 6"));
        assert!(error("[".repeat(100_000).as_bytes()).contains("nested deeper than 128"));
    }
}
