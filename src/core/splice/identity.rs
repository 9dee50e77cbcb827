//! What all frames of one answer have in common.

use super::chunk::{Chunk, body_key, informs};
use super::usage::reject;
use crate::dialect::Dialect;
use crate::event::{Channel, FinishReason};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Members that say which answer a frame belongs to.
const NAMES: [&str; 5] = ["id", "object", "created", "model", "system_fingerprint"];

/// Members that speak of one frame only. Those of the text keep their place, for the frames that are made.
const OF_ONE_FRAME: [&str; 14] = [
    "usage",
    "timings",
    "prompt_progress",
    "error",
    "obfuscation",
    "stop_type",
    "stopping_word",
    "tokens_predicted",
    "tokens_evaluated",
    "tokens_cached",
    "generation_settings",
    "has_new_line",
    "truncated",
    "completion_probabilities",
];

/// Members that say nothing that a client would miss in a frame that has lost its text.
const SAY_NOTHING: [&str; 8] = [
    "service_tier",
    "provider",
    "obfuscation",
    "index",
    "id_slot",
    "tokens",
    "tokens_predicted",
    "tokens_evaluated",
];

/// What the client has been told about the answer: taken from its first frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// `id`, `object`, `created`, `model`, `system_fingerprint` and whatever else stands at the top, in the frame's order,
    /// without `usage`, `timings` and the like. What holds the text is null.
    members: Map<String, Value>,
    shape: Shape,
    /// How the server spells reasoning.
    reasoning: &'static str,
}

/// How frames say text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Chat,
    Completions,
    /// llama-server's own format: the text stands at the top.
    Native,
}

impl Identity {
    /// Reads the first frame of an answer that has choices. `None` for comments and for frames that are no chunk.
    #[must_use]
    pub fn read(dialect: Dialect, frame: &[u8]) -> Option<Self> {
        let chunk = Chunk::read(dialect, frame)?;
        let has = |name: &str| chunk.members().get(name).is_some_and(|raw| raw != "null");
        let shape = match (dialect, chunk.choices()) {
            _ if has("error") => return None,
            (Dialect::Chat, Some(_)) => Shape::Chat,
            (Dialect::Completions, Some(_)) => Shape::Completions,
            (Dialect::Completions, None) if has("content") || has("index") => Shape::Native,
            (_, None) => return None,
        };
        let reasoning = chunk
            .choices()
            .and_then(<[Value]>::first)
            .map_or(Value::Null, |choice| choice[body_key(choice)].clone());
        let mut members = Map::new();
        for (name, raw) in chunk
            .members()
            .iter()
            .filter(|(name, _)| !OF_ONE_FRAME.contains(name))
        {
            let value = match name {
                "choices" | "content" | "tokens" | "stop" => Value::Null,
                _ => serde_json::from_str(raw).unwrap_or(Value::Null),
            };
            members.insert(name.to_owned(), value);
        }
        Some(Self {
            members,
            shape,
            reasoning: if reasoning.get("reasoning").is_some() && reasoning.get("reasoning_content").is_none()
            {
                "reasoning"
            } else {
                "reasoning_content"
            },
        })
    }

    /// A frame with text of choice 0.
    #[must_use]
    pub fn text(&self, channel: Channel, text: &str) -> Bytes {
        match self.shape {
            Shape::Chat => {
                let delta = match channel {
                    Channel::Content => json!({"content": text}),
                    Channel::Reasoning => json!({self.reasoning: text}),
                    Channel::Refusal => json!({"refusal": text}),
                    Channel::ToolArguments(call) => {
                        json!({"tool_calls": [{"index": call, "function": {"arguments": text}}]})
                    }
                };
                self.choice(json!({"index": 0, "delta": delta, "finish_reason": null}))
            }
            Shape::Completions => {
                self.choice(json!({"text": text, "index": 0, "logprobs": null, "finish_reason": null}))
            }
            Shape::Native => self.frame([("content", text.into()), ("stop", false.into())]),
        }
    }

    /// The frame that finishes choice 0.
    #[must_use]
    pub fn finish(&self, reason: FinishReason) -> Bytes {
        let word = match reason {
            FinishReason::Stop | FinishReason::Other => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::ContentFilter => "content_filter",
        };
        match self.shape {
            Shape::Chat => self.choice(json!({"index": 0, "delta": {}, "finish_reason": word})),
            Shape::Completions => {
                self.choice(json!({"text": "", "index": 0, "logprobs": null, "finish_reason": word}))
            }
            Shape::Native => {
                let kind = if reason == FinishReason::Length {
                    "limit"
                } else {
                    "eos"
                };
                self.frame([
                    ("content", "".into()),
                    ("stop", true.into()),
                    ("stop_type", kind.into()),
                    ("stopping_word", "".into()),
                ])
            }
        }
    }

    /// The usage frame, for requests with `stream_options.include_usage`, of an answer that Aegis ends itself.
    /// `prompt` is 0 where it is not known, `completion` are the tokens whose text the client has, and `discarded` those
    /// that were thrown away, which count as completion tokens too. A comment in llama-server's own format, which has no
    /// such frame.
    #[must_use]
    pub fn usage(&self, prompt: u64, completion: u64, discarded: u64) -> Bytes {
        if self.shape == Shape::Native {
            return Bytes::from_static(b":\n\n");
        }
        let completion = completion.saturating_add(discarded);
        let mut usage = Map::new();
        usage.insert("completion_tokens".to_owned(), completion.into());
        usage.insert("prompt_tokens".to_owned(), prompt.into());
        usage.insert(
            "total_tokens".to_owned(),
            completion.saturating_add(prompt).into(),
        );
        reject(&mut usage, discarded);
        self.frame([
            ("choices", Value::Array(Vec::new())),
            ("usage", Value::Object(usage)),
        ])
    }

    /// What follows the last frame of an answer: `[DONE]`, and nothing in llama-server's own format.
    #[must_use]
    pub fn end(&self) -> Bytes {
        match self.shape {
            Shape::Chat | Shape::Completions => Bytes::from_static(b"data: [DONE]\n\n"),
            Shape::Native => Bytes::new(),
        }
    }

    /// Has a chunk of another answer say that it belongs to this one.
    pub(super) fn dress(&self, chunk: &mut Chunk) {
        for name in NAMES {
            if let Some(value) = self.members.get(name)
                && let Some(raw) = chunk.members().get(name)
                && serde_json::from_str::<Value>(raw).ok().as_ref() != Some(value)
            {
                chunk.set(name, value);
            }
        }
    }

    fn choice(&self, choice: Value) -> Bytes {
        self.frame([("choices", Value::Array(vec![choice]))])
    }

    fn frame<const N: usize>(&self, changed: [(&str, Value); N]) -> Bytes {
        let mut members = self.members.clone();
        if let Some(tokens) = members.get_mut("tokens") {
            *tokens = Value::Array(Vec::new());
        }
        for (name, value) in changed {
            members.insert(name.to_owned(), value);
        }
        Bytes::from(format!("data: {}\n\n", Value::Object(members)))
    }
}

/// Whether a chunk says anything beside what `identity` has said: a text, a finish, usage, or what nobody here knows.
pub(super) fn says_anything(chunk: &Chunk, identity: Option<&Identity>) -> bool {
    let known = |name: &str, value: &Value| {
        NAMES.contains(&name)
            || SAY_NOTHING.contains(&name)
            || identity.is_some_and(|identity| identity.members.get(name) == Some(value))
    };
    let at_top = chunk.members().iter().any(|(name, raw)| {
        let value: Value = serde_json::from_str(raw).unwrap_or(Value::Null);
        name != "choices" && informs(&value) && !known(name, &value)
    });
    let mut choices = chunk
        .choices()
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_object);
    at_top
        || choices.any(|choice| {
            choice.iter().any(|(name, value)| match (name.as_str(), value) {
                ("index", _) => false,
                ("delta" | "message", Value::Object(body)) => body.values().any(informs),
                _ => informs(value),
            })
        })
}
