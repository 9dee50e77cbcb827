//! Legacy completions: `choices[].text`, the same object streamed and whole.
//!
//! llama-server answers `/completions` without a prefix in its own format, a top-level `content` and a last object with
//! `stop: true`; that is read here too.

use super::text::{Text, error_of};
use crate::event::{Channel, Delta, FinishReason, FrameFacts, LaneId};
use crate::sse::parse::Unreadable;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(default)]
    prompt_progress: Option<IgnoredAny>,
    #[serde(default)]
    usage: Option<IgnoredAny>,
    /// llama-server's own format: the text.
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    /// llama-server's own format: this is the last object.
    #[serde(borrow, default)]
    stop: Option<&'a RawValue>,
    /// llama-server's own format: why it was the last.
    #[serde(borrow, default)]
    stop_type: Option<Text<'a>>,
    /// llama-server's own format: the number of the prompt, where there are several.
    #[serde(default)]
    index: Option<u32>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
}

/// Reads one chunk or one whole answer.
pub(super) fn read(json: &str) -> Result<FrameFacts<'_>, Unreadable> {
    let chunk: Chunk<'_> =
        serde_json::from_str(json).map_err(|error| Unreadable(format!("not a completion chunk: {error}")))?;
    let mut facts = FrameFacts {
        error: error_of(chunk.error),
        model: chunk.model.map(|m| m.0),
        progress: chunk.prompt_progress.is_some() || chunk.usage.is_some(),
        ..FrameFacts::default()
    };
    let Some(choices) = chunk.choices else {
        let choice = chunk.index.unwrap_or(0);
        if let Some(Text(text)) = chunk.content.filter(|t| !t.0.is_empty()) {
            let lane = LaneId {
                choice,
                channel: Channel::Content,
            };
            facts.deltas.push(Delta { lane, text });
        }
        if chunk.stop.is_some_and(|stop| stop.get() == "true") {
            let length = chunk.stop_type.is_some_and(|kind| kind.0 == "limit");
            let reason = if length {
                FinishReason::Length
            } else {
                FinishReason::Stop
            };
            facts.finishes.push((choice, reason));
            facts.progress = true;
        }
        return Ok(facts);
    };
    for choice in choices {
        if let Some(Text(text)) = choice.text.filter(|t| !t.0.is_empty()) {
            let lane = LaneId {
                choice: choice.index.unwrap_or(0),
                channel: Channel::Content,
            };
            facts.deltas.push(Delta { lane, text });
        }
        // Some servers write an empty reason into every chunk.
        if let Some(reason) = choice.finish_reason.filter(|r| !r.0.is_empty()) {
            facts
                .finishes
                .push((choice.index.unwrap_or(0), FinishReason::parse(&reason.0)));
            facts.progress = true;
        }
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_finish() {
        let facts =
            read(r#"{"choices":[{"text":" a\n","index":0,"logprobs":null,"finish_reason":null}]}"#).unwrap();
        assert_eq!(facts.deltas[0].text, " a\n");
        assert!(facts.finishes.is_empty());
        let facts = read(r#"{"choices":[{"text":"","index":0,"finish_reason":"stop"}]}"#).unwrap();
        assert_eq!(facts.finishes, [(0, FinishReason::Stop)]);
    }

    #[test]
    fn the_servers_own_format_is_read_too() {
        let facts = read(r#"{"index":0,"content":" a","tokens":[],"stop":false,"id_slot":-1}"#).unwrap();
        assert_eq!((facts.deltas[0].text.as_ref(), facts.finishes.len()), (" a", 0));
        let facts = read(r#"{"index":0,"content":"","stop":true,"stop_type":"limit"}"#).unwrap();
        assert_eq!(facts.finishes, [(0, FinishReason::Length)]);
    }

    #[test]
    fn errors_and_foreign_shapes() {
        assert_eq!(read(r#"{"error":"bad"}"#).unwrap().error.as_deref(), Some("bad"));
        assert!(read("{\"choices\":[{\"text\":{}}]}").is_err());
    }
}
