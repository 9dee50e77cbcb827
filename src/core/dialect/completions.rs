//! Legacy completions: `choices[].text`, the same object streamed and whole.

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
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
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
    for choice in chunk.choices.unwrap_or_default() {
        if let Some(Text(text)) = choice.text.filter(|t| !t.0.is_empty()) {
            let lane = LaneId {
                choice: choice.index,
                channel: Channel::Content,
            };
            facts.deltas.push(Delta { lane, text });
        }
        // Some servers write an empty reason into every chunk.
        if let Some(reason) = choice.finish_reason.filter(|r| !r.0.is_empty()) {
            facts
                .finishes
                .push((choice.index, FinishReason::parse(&reason.0)));
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
    fn errors_and_foreign_shapes() {
        assert_eq!(read(r#"{"error":"bad"}"#).unwrap().error.as_deref(), Some("bad"));
        assert!(read("{\"choices\":[{\"text\":{}}]}").is_err());
    }
}
