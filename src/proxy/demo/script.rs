//! What the primary will generate for a request: the pieces of each choice, the pace, and how it ends.

use super::answers::{choice, is_endless};
use super::model::Model;
use super::request::Ask;
use std::time::Duration;

/// How fast the primary works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    /// Between two tokens.
    pub(super) token: Duration,
    /// Between two tokens of a loop; loops are quick, as a cached model's are.
    pub(super) loop_token: Duration,
    /// For an ordinary prompt.
    pub(super) prompt: Duration,
    /// For the long prompt of `demo-slow-start`.
    pub(super) slow_prompt: Duration,
}

impl Tempo {
    /// About what a mid-range graphics card does.
    pub(super) const DEMO: Self = Self {
        token: Duration::from_millis(12),
        loop_token: Duration::from_millis(4),
        prompt: Duration::from_millis(40),
        slow_prompt: Duration::from_millis(3_000),
    };
}

/// The pace of the tests: quick, with a prompt long enough to be seen at work.
#[cfg(test)]
pub(super) const FAST: Tempo = Tempo {
    token: Duration::from_millis(1),
    loop_token: Duration::from_millis(1),
    prompt: Duration::ZERO,
    slow_prompt: Duration::from_millis(800),
};

/// One token of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Reasoning(String),
    Content(String),
    /// Opens the tool call; llama-server sends the first brace with the name.
    ToolOpen {
        name: String,
        arguments: String,
    },
    ToolArguments(String),
}

impl Piece {
    /// Its text where it is content.
    pub(super) fn content(&self) -> Option<&str> {
        match self {
            Self::Content(text) => Some(text),
            _ => None,
        }
    }
}

/// What comes after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// `finish_reason: stop`
    Stop,
    /// `finish_reason: length`
    Length,
    /// `finish_reason: tool_calls`
    ToolCalls,
    /// Nothing ever again, and the connection stays open.
    Wedge,
    /// The connection drops.
    Die,
}

impl Ending {
    /// The wire's `finish_reason`; none for an answer that has no end.
    pub(super) const fn finish_reason(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some("stop"),
            Self::Length => Some("length"),
            Self::ToolCalls => Some("tool_calls"),
            Self::Wedge | Self::Die => None,
        }
    }
}

/// One choice of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) pieces: Vec<Piece>,
    pub(super) ending: Ending,
}

/// A whole answer, not yet played.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) choices: Vec<Choice>,
    pub(super) prompt_tokens: u64,
    pub(super) prompt_time: Duration,
    pub(super) pace: Duration,
}

impl Script {
    /// What the primary will answer to `ask`.
    pub(super) fn of(ask: &Ask, tempo: &Tempo) -> Self {
        let model = Model::named(&ask.model);
        let slow = model == Model::SlowStart;
        let pace = if is_endless(model, ask) {
            tempo.loop_token
        } else {
            tempo.token
        };
        Self {
            choices: (0..ask.n)
                .map(|variant| limited(choice(model, ask, variant), ask))
                .collect(),
            // The slow start stands for a long document in the context, which the demo's request does not really carry.
            prompt_tokens: if slow { 24_576 } else { ask.prompt_tokens },
            prompt_time: if slow { tempo.slow_prompt } else { tempo.prompt },
            pace,
        }
    }
}

/// Applies the request's `stop` and `max_tokens` to a choice.
fn limited(mut choice: Choice, ask: &Ask) -> Choice {
    if let Some(end) = stop_position(&choice.pieces, &ask.stop) {
        cut_content(&mut choice.pieces, end);
        choice.ending = Ending::Stop;
    }
    if let Some(most) = ask.max_tokens.filter(|most| *most < choice.pieces.len()) {
        choice.pieces.truncate(most);
        choice.ending = Ending::Length;
    }
    choice
}

/// Where, in bytes of the content, the first stop string begins.
fn stop_position(pieces: &[Piece], stop: &[String]) -> Option<usize> {
    if stop.is_empty() {
        return None;
    }
    let text: String = pieces.iter().filter_map(Piece::content).collect();
    stop.iter().filter_map(|s| text.find(s.as_str())).min()
}

/// Keeps the first `keep` bytes of the content and drops all that comes after them.
fn cut_content(pieces: &mut Vec<Piece>, mut keep: usize) {
    for index in 0..pieces.len() {
        let Piece::Content(text) = &mut pieces[index] else {
            continue;
        };
        if keep < text.len() {
            text.truncate(keep);
            let whole = index + usize::from(keep > 0);
            pieces.truncate(whole);
            return;
        }
        keep -= text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Endpoint, parse};
    use super::*;
    use serde_json::{Value, json};

    fn text(choice: &Choice) -> String {
        choice.pieces.iter().filter_map(Piece::content).collect()
    }

    fn script(model: &str, mut more: Value) -> Script {
        more["model"] = json!(model);
        more["messages"] = json!([{"role": "user", "content": "Why is the sea salty?"}]);
        let ask = parse(Endpoint::Chat, more.to_string().as_bytes()).expect("a readable request");
        Script::of(&ask, &Tempo::DEMO)
    }

    #[test]
    fn limits_end_an_answer() {
        let whole = script("demo", json!({}));
        let stopped = script("demo", json!({"stop": ["the sea bed", "rivers"]}));
        let full = text(&whole.choices[0]);
        assert_eq!(
            text(&stopped.choices[0]),
            full[..full.find("rivers").expect("the text has rivers")]
        );
        assert_eq!(stopped.choices[0].ending, Ending::Stop);
        let short = script("demo-death", json!({"max_tokens": 3, "n": 2}));
        assert_eq!(short.choices.len(), 2);
        assert!(
            short
                .choices
                .iter()
                .all(|c| c.pieces.len() == 3 && c.ending == Ending::Length)
        );
    }
}
