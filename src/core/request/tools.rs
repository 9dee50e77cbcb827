//! The tools that a request offers, and whether a call fits them.
//!
//! Nothing is read before a call comes: a request keeps the text of its `tools`, and only the schema of a tool that is
//! really called is compiled.

mod cost;
mod keywords;
mod schema;
mod spelling;

use crate::limits::{TOOLS_BYTES_MAX, TOOLS_MAX};
use schema::Schema;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The tools of one request. Two are equal when their texts are.
#[derive(Default)]
pub struct Tools {
    /// `tools`, as the client wrote it; empty when nothing is offered there.
    tools: Box<str>,
    /// `functions`, the form before `tools`.
    functions: Box<str>,
    /// `tool_choice: "none"`.
    forbidden: bool,
    list: OnceLock<List>,
}

/// What the texts say.
#[derive(Default)]
struct List {
    tools: Vec<Arc<Tool>>,
    /// The list has entries that are no functions, or too many: a name that is not in it may be theirs.
    open: bool,
}

/// What is known of a call's name.
#[derive(Debug, Clone)]
pub enum Offer {
    /// The request offers this function.
    Tool(Arc<Tool>),
    /// The request lists its tools, and this is none of them.
    Missing,
    /// The request lists no tools, or some whose names it does not say.
    Unknown,
}

/// A function that a request offers.
pub struct Tool {
    name: Box<str>,
    /// Its `parameters`, as the client wrote them; `None` where it has none.
    parameters: Option<Box<str>>,
    schema: OnceLock<Result<Schema, String>>,
}

impl Tools {
    /// Keeps what the members `tools`, `functions` and `tool_choice` (or `function_call`) of a request say. Lists larger
    /// than [`TOOLS_BYTES_MAX`] are not kept: nothing is known of their tools then.
    #[must_use]
    pub fn read(tools: Option<&str>, functions: Option<&str>, choice: Option<&str>) -> Self {
        let keep = |list: Option<&str>| {
            list.filter(|text| text.starts_with('[') && text.len() <= TOOLS_BYTES_MAX)
                .unwrap_or_default()
                .into()
        };
        Self {
            tools: keep(tools),
            functions: keep(functions),
            forbidden: choice == Some("\"none\""),
            list: OnceLock::new(),
        }
    }

    /// What is known of the tool `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Offer {
        let list = self.list();
        let listed = list.tools.iter().find(|tool| &*tool.name == name);
        match listed {
            _ if self.forbidden && !list.open && !list.tools.is_empty() => Offer::Missing,
            Some(tool) => Offer::Tool(Arc::clone(tool)),
            None if list.open || list.tools.is_empty() => Offer::Unknown,
            None => Offer::Missing,
        }
    }

    /// The names of the functions, in the request's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.list().tools.iter().map(|tool| &*tool.name)
    }

    /// Whether the request says that no tool may be called.
    #[must_use]
    pub const fn forbidden(&self) -> bool {
        self.forbidden
    }

    fn list(&self) -> &List {
        self.list.get_or_init(|| {
            let mut list = List::default();
            for entry in entries(&self.tools) {
                list.add(function_of(entry));
            }
            for entry in entries(&self.functions) {
                list.add(serde_json::from_str(entry.get()).ok());
            }
            list
        })
    }
}

impl List {
    fn add(&mut self, function: Option<Function<'_>>) {
        let named = function.and_then(|f| Some((f.name?, f.parameters)));
        let Some((name, parameters)) = named.filter(|_| self.tools.len() < TOOLS_MAX) else {
            self.open = true;
            return;
        };
        self.tools.push(Arc::new(Tool {
            name: name.into(),
            parameters: parameters.map(|raw| raw.get().into()),
            schema: OnceLock::new(),
        }));
    }
}

fn entries(list: &str) -> Vec<&RawValue> {
    serde_json::from_str(list).unwrap_or_default()
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

/// The function of an entry of `tools`: `{"type":"function","function":{…}}`, or flat, as some clients write it.
fn function_of(entry: &RawValue) -> Option<Function<'_>> {
    #[derive(Deserialize)]
    struct Entry<'a> {
        #[serde(borrow, rename = "type", default)]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        function: Option<&'a RawValue>,
    }
    let read: Entry<'_> = serde_json::from_str(entry.get()).ok()?;
    let function = read.kind.as_deref().is_none_or(|kind| kind == "function");
    let raw = read.function.unwrap_or(entry);
    function.then(|| serde_json::from_str(raw.get()).ok())?
}

impl Tool {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why its arguments are only checked to be a JSON object: the schema cannot be compiled, is larger than
    /// [`TOOL_SCHEMA_BYTES_MAX`](crate::limits::TOOL_SCHEMA_BYTES_MAX), or could cost too much to check.
    #[must_use]
    pub fn unchecked(&self) -> Option<&str> {
        self.schema().err()
    }

    /// Checks arguments that are a JSON object against the tool's `parameters`.
    ///
    /// What cannot be decided counts as right: a schema that does not compile, a number or an escape that cannot be
    /// held in memory, a pattern that takes too long, a check that could take more than
    /// [`SCHEMA_STEPS_MAX`](crate::limits::SCHEMA_STEPS_MAX) steps. `format` is an annotation and not checked, in every
    /// draft.
    ///
    /// # Errors
    /// Where the arguments do not fit and why, in one line of at most
    /// [`TOOL_DETAIL_CHARS_MAX`](crate::limits::TOOL_DETAIL_CHARS_MAX) characters.
    pub fn check(&self, arguments: &str) -> Result<(), String> {
        let Ok(Some(schema)) = self.schema() else {
            return Ok(());
        };
        let Ok(value) = serde_json::from_str::<Value>(arguments) else {
            return Ok(());
        };
        schema.check(&value)
    }

    /// The compiled schema; `None` for a tool without parameters, which any object fits.
    fn schema(&self) -> Result<Option<&Schema>, &str> {
        let Some(parameters) = self.parameters.as_deref() else {
            return Ok(None);
        };
        let compiled = self.schema.get_or_init(|| Schema::compile(parameters));
        compiled.as_ref().map(Some).map_err(String::as_str)
    }
}

/// The text, or its first characters and an ellipsis.
pub(crate) fn capped(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(chars_max.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// The text in one line: what ends a line, or does not show, as its escape.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

impl PartialEq for Tools {
    fn eq(&self, other: &Self) -> bool {
        (&self.tools, &self.functions, self.forbidden) == (&other.tools, &other.functions, other.forbidden)
    }
}

impl Eq for Tools {}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools")
            .field("tools", &self.tools)
            .field("functions", &self.functions)
            .field("forbidden", &self.forbidden)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool")
            .field("name", &self.name)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
