//! One message of a request: text put at its end, the rest byte for byte as the client wrote it.

use crate::request::members::Members;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// JSON text of a string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A new message.
pub(super) fn new(role: &str, content: &str) -> String {
    format!(r#"{{"role":{},"content":{}}}"#, quoted(role), quoted(content))
}

/// The JSON string `raw` with `text` at its end; what stands before it keeps its spelling.
pub(super) fn extended(raw: &str, text: &str) -> Option<String> {
    let open = raw.strip_suffix('"').filter(|open| open.starts_with('"'))?;
    Some(format!("{open}{}", &quoted(text)[1..]))
}

/// A message's content, as its shape.
enum Content<'a> {
    /// Absent or null.
    Nothing,
    /// The raw text of a string.
    Text(&'a str),
    /// The raw texts of an array's parts.
    Parts(Vec<&'a RawValue>),
}

/// A message that is being changed.
pub(super) struct Message(Members);

impl Message {
    /// Reads a message.
    pub(super) fn read(raw: &RawValue) -> Option<Self> {
        Members::read(raw.get().as_bytes()).ok().map(Self)
    }

    /// Who speaks.
    pub(super) fn role(&self) -> Option<String> {
        self.0.read_as("role")
    }

    /// It calls tools.
    pub(super) fn has_calls(&self) -> bool {
        let none = self
            .0
            .read_as::<Option<Vec<IgnoredAny>>>("tool_calls")
            .is_some_and(|calls| calls.is_none_or(|calls| calls.is_empty()));
        self.0.get("tool_calls").is_some() && !none
    }

    /// Its text: the string, or that of all text parts. `None` for shapes that are not understood.
    pub(super) fn text(&self) -> Option<String> {
        match self.content()? {
            Content::Nothing => Some(String::new()),
            Content::Text(raw) => serde_json::from_str(raw).ok(),
            Content::Parts(parts) => Some(parts.into_iter().filter_map(part_text).collect()),
        }
    }

    /// Adds a paragraph of its own: behind an empty line of the string, or as a text part.
    pub(super) fn add_paragraph(&mut self, text: &str) -> Option<()> {
        let content = match self.content()? {
            Content::Nothing | Content::Text("\"\"") => quoted(text),
            Content::Text(raw) => extended(raw, &format!("\n\n{text}"))?,
            Content::Parts(parts) => {
                let part = format!(r#"{{"type":"text","text":{}}}"#, quoted(text));
                array(parts.iter().map(|part| part.get()).chain([part.as_str()]))
            }
        };
        self.set("content", content)
    }

    /// Goes on with the text: at the end of the string, or of the last part, which must be a text part.
    pub(super) fn go_on(&mut self, text: &str) -> Option<()> {
        let content = match self.content()? {
            Content::Nothing => quoted(text),
            Content::Text(raw) => extended(raw, text)?,
            Content::Parts(parts) => {
                let (last, before) = parts.split_last()?;
                part_text(last)?;
                let mut part = Members::read(last.get().as_bytes()).ok()?;
                let longer = extended(part.get("text")?, text)?;
                part.set("text", longer).then_some(())?;
                let part = part.to_json();
                array(before.iter().map(|part| part.get()).chain([part.as_str()]))
            }
        };
        self.set("content", content)
    }

    /// Goes on with the reasoning, in every member that `names` lists: all of them say the same.
    pub(super) fn go_on_thinking(&mut self, names: &[&str], text: &str) -> Option<()> {
        let mut said = names
            .iter()
            .filter_map(|name| self.0.get(name))
            .filter(|raw| *raw != "null");
        let reasoning = match said.next() {
            None => quoted(text),
            Some(raw) => extended(raw, text)?,
        };
        names
            .iter()
            .try_for_each(|name| self.set(name, reasoning.clone()))
    }

    /// Its JSON text.
    pub(super) fn to_json(&self) -> String {
        self.0.to_json()
    }

    fn set(&mut self, name: &str, json: String) -> Option<()> {
        self.0.set(name, json).then_some(())
    }

    fn content(&self) -> Option<Content<'_>> {
        let Some(raw) = self.0.get("content").filter(|raw| *raw != "null") else {
            return Some(Content::Nothing);
        };
        match raw.as_bytes().first() {
            Some(b'"') => Some(Content::Text(raw)),
            Some(b'[') => serde_json::from_str(raw).ok().map(Content::Parts),
            _ => None,
        }
    }
}

/// The text of a text part.
fn part_text(part: &RawValue) -> Option<String> {
    let part = Members::read(part.get().as_bytes()).ok()?;
    (part.read_as::<String>("type")? == "text").then_some(())?;
    part.read_as("text")
}

/// JSON text of an array.
pub(super) fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<&str> = items.collect();
    format!("[{}]", items.join(","))
}
