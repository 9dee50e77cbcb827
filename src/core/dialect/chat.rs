//! Chat completions, streamed (`choices[].delta`) and whole (`choices[].message`).

use super::calls::{Calls, Piece};
use super::text::{Text, error_of};
use crate::event::{Channel, Delta, FinishReason, FrameFacts, LaneId};
use crate::sse::parse::Unreadable;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    /// llama-server's `return_progress`: the prompt is being read, which is not silence.
    #[serde(default)]
    prompt_progress: Option<IgnoredAny>,
    #[serde(default)]
    usage: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    delta: Option<Message<'a>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    role: Option<IgnoredAny>,
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    /// Ollama's and OpenRouter's spelling of `reasoning_content`.
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    /// The form before `tool_calls`; a message has one or the other.
    #[serde(borrow, default)]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// Reads one chunk or one whole answer.
pub(super) fn read<'a>(json: &'a str, calls: &mut Calls) -> Result<FrameFacts<'a>, Unreadable> {
    let chunk: Chunk<'_> =
        serde_json::from_str(json).map_err(|error| Unreadable(format!("not a chat chunk: {error}")))?;
    let mut facts = FrameFacts {
        error: error_of(chunk.error),
        model: chunk.model.map(|m| m.0),
        progress: chunk.prompt_progress.is_some() || chunk.usage.is_some(),
        ..FrameFacts::default()
    };
    for choice in chunk.choices.unwrap_or_default() {
        let index = choice.index.unwrap_or(0);
        if let Some(message) = choice.delta.or(choice.message) {
            read_message(index, message, calls, &mut facts)?;
        }
        // Some servers write an empty reason into every chunk.
        if let Some(reason) = choice.finish_reason.filter(|r| !r.0.is_empty()) {
            facts.finishes.push((index, FinishReason::parse(&reason.0)));
            facts.progress = true;
        }
    }
    Ok(facts)
}

fn read_message<'a>(
    choice: u32,
    message: Message<'a>,
    calls: &mut Calls,
    facts: &mut FrameFacts<'a>,
) -> Result<(), Unreadable> {
    facts.progress |= message.role.is_some();
    // A server that sends both spellings sends the same text twice; one of them is the lane.
    let reasoning = match message.reasoning_content {
        Some(text) if !text.0.is_empty() => Some(text),
        other => message.reasoning.or(other),
    };
    let texts = [
        (Channel::Reasoning, reasoning),
        (Channel::Content, message.content),
        (Channel::Refusal, message.refusal),
    ];
    for (channel, text) in texts {
        if let Some(Text(text)) = text.filter(|t| !t.0.is_empty()) {
            facts.deltas.push(Delta {
                lane: LaneId { choice, channel },
                text,
            });
        }
    }
    let pieces = message.tool_calls.unwrap_or_default();
    for (position, call) in pieces.into_iter().enumerate() {
        let name = call.function.as_ref().and_then(|function| function.name.as_ref());
        let number = calls.number(Piece {
            choice,
            // Whole answers have no index: the position is the index.
            index: call.index.unwrap_or(position as u32),
            id: call.id.as_ref().map_or("", |id| &id.0),
            named: name.is_some_and(|name| !name.0.is_empty()),
        });
        push_call(choice, number, call.function, facts)?;
    }
    if let Some(function) = message.function_call {
        push_call(choice, 0, Some(function), facts)?;
    }
    Ok(())
}

/// The head of a call carries no arguments yet, but it opens the lane: it must be held with the rest of the call.
fn push_call<'a>(
    choice: u32,
    index: u32,
    function: Option<Function<'a>>,
    facts: &mut FrameFacts<'a>,
) -> Result<(), Unreadable> {
    let lane = LaneId {
        choice,
        channel: Channel::ToolArguments(index),
    };
    let (name, arguments) = function.map_or((None, None), |f| (f.name, f.arguments));
    // Some servers write an empty name into every later delta of the call.
    if let Some(Text(name)) = name.filter(|n| !n.0.is_empty()) {
        facts.names.push((lane, name));
    }
    facts.deltas.push(Delta {
        lane,
        text: arguments.map_or(Ok(Cow::Borrowed("")), arguments_text)?,
    });
    facts.progress = true;
    Ok(())
}

/// Arguments are a string. Where a server writes the object itself, its JSON text is what the string would hold.
fn arguments_text(raw: &RawValue) -> Result<Cow<'_, str>, Unreadable> {
    match raw.get() {
        "null" => Ok(Cow::Borrowed("")),
        object if object.starts_with('{') => Ok(Cow::Borrowed(object)),
        string => serde_json::from_str::<Text<'_>>(string)
            .map(|text| text.0)
            .map_err(|error| Unreadable(format!("not a chat chunk: arguments: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<FrameFacts<'_>, Unreadable> {
        super::read(json, &mut Calls::default())
    }

    fn lanes(json: &str) -> Vec<(String, String)> {
        read(json)
            .unwrap()
            .deltas
            .iter()
            .map(|d| (d.lane.to_string(), d.text.to_string()))
            .collect()
    }

    #[test]
    fn deltas_of_every_channel() {
        let json = r#"{"choices":[{"index":0,"finish_reason":null,"delta":{"role":"assistant","content":"a","reasoning_content":"r","refusal":"n",
            "tool_calls":[{"index":1,"id":"x","type":"function","function":{"name":"f","arguments":"{\"a"}}]}}],"created":1}"#;
        let want = [
            ("reasoning", "r"),
            ("content", "a"),
            ("refusal", "n"),
            ("tool_arguments.1", "{\"a"),
        ];
        assert_eq!(lanes(json), want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn plain_content_is_borrowed() {
        let facts = read(r#"{"choices":[{"delta":{"content":"plain"}}]}"#).unwrap();
        assert!(matches!(facts.deltas[0].text, Cow::Borrowed("plain")));
        assert!(!facts.progress, "text speaks for itself");
    }

    #[test]
    fn both_spellings_of_reasoning_are_one_lane() {
        assert_eq!(
            lanes(r#"{"choices":[{"delta":{"reasoning":"x"}}]}"#),
            [("reasoning".into(), "x".into())]
        );
        assert_eq!(
            lanes(r#"{"choices":[{"delta":{"reasoning":"x","reasoning_content":"x"}}]}"#),
            [("reasoning".into(), "x".into())]
        );
    }

    #[test]
    fn finishes_errors_and_progress() {
        let facts =
            read(r#"{"choices":[{"index":1,"finish_reason":"length","delta":{}}],"timings":{}}"#).unwrap();
        assert_eq!(facts.finishes, [(1, FinishReason::Length)]);
        let facts = read(r#"{"error":{"code":500,"message":"boom","type":"server_error"}}"#).unwrap();
        assert_eq!(facts.error.as_deref(), Some("boom"));
        assert!(
            read(r#"{"choices":[],"usage":{"total_tokens":1}}"#)
                .unwrap()
                .progress
        );
        assert!(
            read(r#"{"choices":[],"prompt_progress":{"total":9}}"#)
                .unwrap()
                .progress
        );
        assert_eq!(read(r#"{"error":null,"choices":[]}"#).unwrap().error, None);
    }

    #[test]
    fn a_whole_answer_is_read_like_a_chunk() {
        let json = r#"{"choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,
            "tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}},{"id":"b","function":{"name":"g","arguments":"[]"}}]}}]}"#;
        assert_eq!(
            lanes(json),
            [
                ("tool_arguments.0".into(), "{}".into()),
                ("tool_arguments.1".into(), "[]".into())
            ]
        );
    }

    #[test]
    fn calls_are_named_where_a_frame_names_them() {
        let names = |json: &str| {
            let facts = read(json).unwrap();
            let names = facts.names.iter();
            names
                .map(|(lane, name)| (lane.to_string(), name.to_string()))
                .collect::<Vec<_>>()
        };
        let json = r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":2,"function":{"name":"f","arguments":""}},
            {"index":3,"function":{"name":"","arguments":"{"}},{"index":4,"function":{"name":null}},{"index":5}]}}]}"#;
        assert_eq!(names(json), [("1:tool_arguments.2".into(), "f".into())]);
        let whole = r#"{"choices":[{"message":{"tool_calls":[{"function":{"name":"a"}},{"function":{"name":"b"}}]}}]}"#;
        assert_eq!(
            names(whole),
            [
                ("tool_arguments.0".into(), "a".into()),
                ("tool_arguments.1".into(), "b".into())
            ]
        );
        let legacy = r#"{"choices":[{"delta":{"function_call":{"name":"old","arguments":"{}"}}}]}"#;
        assert_eq!(names(legacy), [("tool_arguments.0".into(), "old".into())]);
    }

    #[test]
    fn arguments_may_be_the_object_itself() {
        let call = |arguments: &str| {
            let function = format!(r#"{{"name":"f","arguments":{arguments}}}"#);
            let json = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"function":{function}}}]}}}}]}}"#);
            lanes(&json)
        };
        let lane = |text: &str| [("tool_arguments.0".to_owned(), text.to_owned())];
        assert_eq!(call(r#"{"a": "b\\n"}"#), lane(r#"{"a": "b\\n"}"#));
        assert_eq!(call("null"), lane(""));
        assert_eq!(call(r#""{\"a""#), lane(r#"{"a"#));
    }

    #[test]
    fn calls_of_one_index_are_told_apart_by_their_ids() {
        let mut calls = Calls::default();
        let mut lane = |id: &str, name: &str| {
            let call =
                format!(r#"{{"index":0,"id":"{id}","function":{{"name":"{name}","arguments":"{{}}"}}}}"#);
            let json = format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{call}]}}}}]}}"#);
            super::read(&json, &mut calls).unwrap().deltas[0].lane.to_string()
        };
        assert_eq!(
            [lane("a", "f"), lane("b", "f"), lane("c", "")],
            ["tool_arguments.0", "tool_arguments.1", "tool_arguments.1"]
        );
    }

    #[test]
    fn foreign_shapes_are_errors_not_panics() {
        for bad in [
            "",
            "[]x",
            "{\"choices\":3}",
            "{\"choices\":[{\"delta\":{\"content\":5}}]}",
            "null",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
