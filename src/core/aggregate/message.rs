//! The message of a chat choice, from its deltas.

use super::joined::Joined;
use super::object::{Kept, Writer, list};
use super::{object, objects, text, unreadable};
use crate::dialect::calls::{Calls, Piece};
use crate::limits::LANES_MAX;
use crate::request::members::Members;
use crate::sse::parse::Unreadable;
use std::collections::BTreeMap;

/// Members of a delta whose values are pieces of a text, beside `content`.
const TEXTS: [&str; 3] = ["reasoning_content", "reasoning", "refusal"];

/// A message as it grows.
///
/// Only the texts that are known to come in pieces are joined. Of any other member the last value counts: what it
/// means is not known, and a value that was sent twice must not stand there twice.
#[derive(Debug, Default)]
pub(super) struct Message {
    content: Joined,
    /// In the order and the spelling in which they came.
    texts: Vec<(&'static str, Joined)>,
    calls: BTreeMap<u32, Call>,
    numbers: Calls,
    function_call: Option<Function>,
    /// The role, and all that is not known.
    others: Kept,
}

impl Message {
    /// Takes one delta.
    pub(super) fn take(&mut self, delta: &Members) -> Result<(), Unreadable> {
        for (name, json) in delta.iter() {
            if let Some(known) = TEXTS.into_iter().find(|known| *known == name) {
                text(name, json, self.text(known))?;
                continue;
            }
            match name {
                "content" => text(name, json, &mut self.content)?,
                "tool_calls" => self.take_calls(&objects(name, json)?)?,
                "function_call" => {
                    if let Some(function) = object(name, json)? {
                        self.function_call.get_or_insert_default().take(&function)?;
                    }
                }
                "role" => self.others.first(name, json),
                _ => self.others.last(name, json),
            }
        }
        Ok(())
    }

    fn text(&mut self, name: &'static str) -> &mut Joined {
        let at = self.texts.iter().position(|(n, _)| *n == name);
        let at = at.unwrap_or_else(|| {
            self.texts.push((name, Joined::default()));
            self.texts.len() - 1
        });
        &mut self.texts[at].1
    }

    fn take_calls(&mut self, calls: &[Members]) -> Result<(), Unreadable> {
        for (position, call) in calls.iter().enumerate() {
            // A call without an index is read as everywhere else: its position is the index.
            let function = call
                .get("function")
                .and_then(|raw| Members::read(raw.as_bytes()).ok());
            let name = function.and_then(|function| function.read_as::<String>("name"));
            let index = self.numbers.number(Piece {
                choice: 0,
                index: call.read_as("index").unwrap_or(position as u32),
                id: &call.read_as::<String>("id").unwrap_or_default(),
                named: name.is_some_and(|name| !name.is_empty()),
            });
            if self.calls.len() >= LANES_MAX && !self.calls.contains_key(&index) {
                return Err(unreadable(format_args!("more than {LANES_MAX} tool calls")));
            }
            self.calls.entry(index).or_default().take(call)?;
        }
        Ok(())
    }

    /// Writes the message. Its content is a text even when none came: that is what llama-server writes beside tool calls
    /// and beside reasoning, and its streams begin with a null that says nothing.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut message = Writer::open(out);
        message.member("role", self.others.get("role").unwrap_or("\"assistant\""));
        let content = match &self.content {
            Joined::Text(_) => self.content.to_json(),
            _ => None,
        };
        message.member("content", content.as_deref().unwrap_or("\"\""));
        for (name, text) in &self.texts {
            message.maybe(name, text.to_json().as_deref());
        }
        if !self.calls.is_empty() {
            list(message.name("tool_calls"), self.calls.values(), Call::write);
        }
        if let Some(function) = &self.function_call {
            function.write(message.name("function_call"));
        }
        message.all(self.others.except(&["role"]));
        message.close();
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        let texts: usize = self.texts.iter().map(|(_, text)| text.len()).sum();
        let calls: usize = self.calls.values().map(Call::len).sum();
        let function = self.function_call.as_ref().map_or(0, Function::len);
        self.content.len() + texts + calls + function + self.others.len()
    }
}

/// One tool call: id and type come once, the arguments in pieces.
#[derive(Debug, Default)]
struct Call {
    function: Function,
    others: Kept,
}

impl Call {
    fn take(&mut self, call: &Members) -> Result<(), Unreadable> {
        for (name, json) in call.iter() {
            match name {
                "index" => {}
                "function" => {
                    if let Some(function) = object(name, json)? {
                        self.function.take(&function)?;
                    }
                }
                "id" | "type" => self.others.first(name, json),
                _ => self.others.last(name, json),
            }
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut call = Writer::open(out);
        call.member("type", self.others.get("type").unwrap_or("\"function\""));
        self.function.write(call.name("function"));
        call.maybe("id", self.others.get("id"));
        call.all(self.others.except(&["type", "id"]));
        call.close();
    }

    fn len(&self) -> usize {
        self.function.len() + self.others.len()
    }
}

#[derive(Debug, Default)]
struct Function {
    arguments: Joined,
    /// The name, and all that is not known.
    others: Kept,
}

impl Function {
    fn take(&mut self, function: &Members) -> Result<(), Unreadable> {
        for (name, json) in function.iter() {
            match name {
                // Where a server writes the object itself, its JSON text is what the string would hold.
                "arguments" if json.starts_with('{') => {
                    let quoted = serde_json::Value::from(json).to_string();
                    text(name, &quoted, &mut self.arguments)?;
                }
                "arguments" => text(name, json, &mut self.arguments)?,
                "name" => self.others.first(name, json),
                _ => self.others.last(name, json),
            }
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut function = Writer::open(out);
        function.maybe("name", self.others.get("name"));
        let arguments = match &self.arguments {
            Joined::Text(_) => self.arguments.to_json(),
            _ => None,
        };
        function.member("arguments", arguments.as_deref().unwrap_or("\"\""));
        function.all(self.others.except(&["name"]));
        function.close();
    }

    fn len(&self) -> usize {
        self.arguments.len() + self.others.len()
    }
}
