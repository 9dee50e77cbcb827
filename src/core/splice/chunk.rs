//! One chunk taken apart, so that parts of it can be changed. What is not changed keeps its order and its value.

use crate::dialect::Dialect;
use crate::event::{Channel, LaneId};
use crate::request::members::Members;
use crate::sse::parse::parse;
use bytes::Bytes;
use serde_json::{Map, Value};

/// The two spellings of a text of reasoning.
const REASONING: [&str; 2] = ["reasoning_content", "reasoning"];

/// A chunk of a streamed answer.
#[derive(Debug)]
pub(super) struct Chunk {
    dialect: Dialect,
    /// The `event:` name of its frame; empty where it has none.
    name: String,
    /// The top of the object. `choices` is out of date once those below were changed.
    members: Members,
    choices: Option<Vec<Value>>,
    /// Something differs from the frame.
    changed: bool,
    choices_changed: bool,
    /// Something was taken out.
    lost: bool,
}

impl Chunk {
    /// Reads a frame. `None` for comments, `[DONE]` and what is no object.
    pub(super) fn read(dialect: Dialect, frame: &[u8]) -> Option<Self> {
        let event = parse(frame).ok()??;
        let members = Members::read(event.data.as_bytes()).ok()?;
        let choices = match members.get("choices") {
            None | Some("null") => None,
            Some(raw) => Some(serde_json::from_str(raw).ok()?),
        };
        Some(Self {
            dialect,
            name: event.name.into_owned(),
            members,
            choices,
            changed: false,
            choices_changed: false,
            lost: false,
        })
    }

    /// Something differs from the frame that was read.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// Something was taken out of it.
    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// Its frame.
    pub(super) fn write(mut self) -> Bytes {
        if let Some(choices) = self.choices.filter(|_| self.choices_changed) {
            self.members.set("choices", Value::Array(choices).to_string());
        }
        let event = match self.name.as_str() {
            "" => String::new(),
            name => format!("event: {name}\n"),
        };
        // Data of several lines has line ends between its members, where any white space will do.
        let json = self.members.to_json().replace('\n', " ");
        Bytes::from(format!("{event}data: {json}\n\n"))
    }

    /// The members at the top, whose values are JSON text. `choices` is not to be read here.
    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// Sets a member at the top, which must not be `choices`.
    pub(super) fn set(&mut self, name: &str, value: &Value) {
        self.changed |= self.members.set(name, value.to_string());
    }

    /// The choices; `None` where the chunk has no such list.
    pub(super) fn choices(&self) -> Option<&[Value]> {
        self.choices.as_deref()
    }

    /// Shows `change` each text of the lane and puts what it returns in the text's place. Returns how many there are: in
    /// what servers send, one at most. Two equal spellings of reasoning are one text.
    pub(super) fn texts(&mut self, lane: LaneId, change: &mut dyn FnMut(&str) -> Option<String>) -> usize {
        let mut changed = false;
        let change = &mut |text: &str| {
            let new = change(text);
            changed |= new.is_some();
            new
        };
        let seen = match (self.dialect, &mut self.choices) {
            (Dialect::Completions, None) => native_text(&mut self.members, lane, change),
            (_, None) => 0,
            (dialect, Some(choices)) => choices
                .iter_mut()
                .filter(|choice| index_of(choice) == lane.choice)
                .map(|choice| match dialect {
                    Dialect::Chat => body(choice).map_or(0, |body| chat_texts(body, lane.channel, change)),
                    Dialect::Completions if lane.channel == Channel::Content => {
                        usize::from(text_at(choice.get_mut("text"), change))
                    }
                    Dialect::Completions => 0,
                })
                .sum(),
        };
        self.changed |= changed;
        self.choices_changed |= changed && self.choices.is_some();
        seen
    }

    /// All text of the lane.
    pub(super) fn text(&mut self, lane: LaneId) -> String {
        let mut whole = String::new();
        self.texts(lane, &mut |text| {
            whole.push_str(text);
            None
        });
        whole
    }

    /// Cuts bytes off the front of the lane's text, at a character's border.
    pub(super) fn cut(&mut self, lane: LaneId, bytes: usize) {
        let mut left = bytes;
        self.texts(lane, &mut |text| {
            let here = left.min(text.len());
            left -= here;
            text.get(here..).filter(|_| here > 0).map(str::to_owned)
        });
        self.lost |= bytes > 0;
    }

    /// Puts text in front of the lane's.
    pub(super) fn prepend(&mut self, lane: LaneId, before: &str) {
        let mut before = Some(before);
        self.texts(lane, &mut |text| {
            before.take().map(|before| format!("{before}{text}"))
        });
    }

    /// Takes out all reasoning of a choice, in every spelling.
    pub(super) fn remove_reasoning(&mut self, choice: u32) {
        self.remove(|at, body| {
            if at == choice {
                // OpenRouter says the same once more, in parts.
                let spellings = REASONING.iter().chain(&["reasoning_details"]);
                spellings.fold(false, |removed, name| {
                    body.shift_remove(*name).is_some() | removed
                })
            } else {
                false
            }
        });
    }

    /// Takes out who speaks, and the empty content that says it.
    pub(super) fn remove_roles(&mut self) {
        self.remove(|_, body| {
            let removed = body.shift_remove("role").is_some();
            if removed && body.get("content").is_some_and(|content| !informs(content)) {
                body.shift_remove("content");
            }
            removed
        });
    }

    fn remove(&mut self, mut from: impl FnMut(u32, &mut Map<String, Value>) -> bool) {
        if self.dialect != Dialect::Chat {
            return;
        }
        let mut removed = false;
        for choice in self.choices.iter_mut().flatten() {
            let index = index_of(choice);
            removed |= body(choice).is_some_and(|body| from(index, body));
        }
        self.changed |= removed;
        self.choices_changed |= removed;
        self.lost |= removed;
    }

    /// Takes the finish of a choice back.
    pub(super) fn remove_finish(&mut self, choice: u32) {
        let choices = self.choices.iter_mut().flatten();
        for reason in choices
            .filter(|value| index_of(value) == choice)
            .filter_map(|value| value.get_mut("finish_reason"))
            .filter(|reason| informs(reason))
        {
            *reason = Value::Null;
            self.changed = true;
            self.choices_changed = true;
            self.lost = true;
        }
    }

    /// It finishes a choice.
    pub(super) fn finishes(&self, choice: u32) -> bool {
        let Some(choices) = &self.choices else {
            return self.members.get("stop") == Some("true");
        };
        choices
            .iter()
            .any(|value| index_of(value) == choice && value.get("finish_reason").is_some_and(informs))
    }

    /// It has a part of a tool call.
    pub(super) fn calls(&self) -> bool {
        let bodies = self.choices.iter().flatten().filter_map(|choice| {
            let key = body_key(choice);
            choice.get(key)
        });
        bodies
            .flat_map(|body| [body.get("tool_calls"), body.get("function_call")])
            .flatten()
            .any(informs)
    }
}

/// Whether a value says anything: it is neither null nor false nor empty.
pub(super) fn informs(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn index_of(choice: &Value) -> u32 {
    let index = choice.get("index").and_then(Value::as_u64);
    index.and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
}

/// Where the texts of a chat's choice stand: in a chunk, or in a whole answer.
pub(super) fn body_key(choice: &Value) -> &'static str {
    match choice.get("delta") {
        None | Some(Value::Null) => "message",
        Some(_) => "delta",
    }
}

fn body(choice: &mut Value) -> Option<&mut Map<String, Value>> {
    let key = body_key(choice);
    choice.get_mut(key)?.as_object_mut()
}

type Change<'a> = dyn FnMut(&str) -> Option<String> + 'a;

fn chat_texts(body: &mut Map<String, Value>, channel: Channel, change: &mut Change<'_>) -> usize {
    match channel {
        Channel::Content => usize::from(text_at(body.get_mut("content"), change)),
        Channel::Refusal => usize::from(text_at(body.get_mut("refusal"), change)),
        Channel::Reasoning => usize::from(reasoning_text(body, change)),
        Channel::ToolArguments(call) => call_texts(body, call, change),
    }
}

fn text_at(slot: Option<&mut Value>, change: &mut Change<'_>) -> bool {
    let Some(slot) = slot else { return false };
    let Some(text) = slot.as_str() else { return false };
    if let Some(new) = change(text) {
        *slot = Value::String(new);
    }
    true
}

/// As the dialect reads it: of two spellings the first counts, unless it is empty. The other one changes with it where it
/// says the same.
fn reasoning_text(body: &mut Map<String, Value>, change: &mut Change<'_>) -> bool {
    let said = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let [first, second] = REASONING.map(said);
    let Some(text) = first
        .filter(|text| !text.is_empty() || second.is_none())
        .or(second)
    else {
        return false;
    };
    if let Some(new) = change(&text) {
        for name in REASONING {
            if let Some(slot) = body.get_mut(name).filter(|slot| slot.as_str() == Some(&text)) {
                *slot = Value::String(new.clone());
            }
        }
    }
    true
}

fn call_texts(body: &mut Map<String, Value>, number: u32, change: &mut Change<'_>) -> usize {
    let mut seen = 0;
    let calls = body.get_mut("tool_calls").and_then(Value::as_array_mut);
    for (position, call) in calls.into_iter().flatten().enumerate() {
        let index = call
            .get("index")
            .and_then(Value::as_u64)
            .unwrap_or(position as u64);
        if index == u64::from(number) {
            seen += usize::from(arguments(call.get_mut("function"), change));
        }
    }
    if number == 0 {
        seen += usize::from(arguments(body.get_mut("function_call"), change));
    }
    seen
}

/// A call that has no arguments yet has an empty text.
fn arguments(function: Option<&mut Value>, change: &mut Change<'_>) -> bool {
    let Some(function) = function.and_then(Value::as_object_mut) else {
        return false;
    };
    if function.get("arguments").is_some_and(|slot| !slot.is_null()) {
        return text_at(function.get_mut("arguments"), change);
    }
    if let Some(new) = change("") {
        function.insert("arguments".to_owned(), Value::String(new));
    }
    true
}

/// llama-server's own format has the text at the top.
fn native_text(members: &mut Members, lane: LaneId, change: &mut Change<'_>) -> usize {
    let index = members.read_as("index").unwrap_or(0);
    let text = members.read_as::<String>("content");
    let Some(text) = text.filter(|_| {
        lane == LaneId {
            choice: index,
            channel: Channel::Content,
        }
    }) else {
        return 0;
    };
    if let Some(new) = change(&text) {
        members.set("content", Value::String(new).to_string());
    }
    1
}
