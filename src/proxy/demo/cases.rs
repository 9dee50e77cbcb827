//! The tour's cases: what is asked, what the primary does, and what the client behind Aegis must get. Whether it did is
//! `check`'s to say.

use super::answers::{
    BEFORE_PHRASE, JSON_CLOSERS, JSON_MEANT, JSON_TRUNCATED, before_loss, looped, thinking,
};
use super::model::Model;
use super::prose;
use serde_json::{Value, json};
use std::time::Duration;

/// What the primary is expected to do to a client without a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    /// An answer that looks complete, faulty or not.
    Complete,
    /// Tokens until the client leaves.
    Endless,
    /// Some tokens, then nothing until the client leaves.
    Silent,
    /// The connection drops.
    Dropped,
}

/// What the client behind Aegis must get.
#[derive(Debug, Clone, Copy)]
pub(super) enum Guarded {
    /// The same as without Aegis, byte for byte.
    Same,
    /// One whole answer with exactly this text.
    Whole(fn() -> Answer),
    /// A cut with this code, and before it exactly this text; where there is none, the beginning of the primary's.
    Cut {
        code: &'static str,
        left: Option<fn() -> String>,
    },
}

/// The text of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// What the client may have of the reasoning at most.
    pub(super) reasoning: String,
    pub(super) content: String,
    /// Name and arguments of each tool call.
    pub(super) calls: Vec<(String, String)>,
    pub(super) finish: &'static str,
}

impl Answer {
    fn says(content: impl Into<String>) -> Self {
        Self {
            reasoning: String::new(),
            content: content.into(),
            calls: Vec::new(),
            finish: "stop",
        }
    }
}

/// One row of the tour.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) model: Model,
    /// What it shows, in a few words.
    pub(super) about: &'static str,
    pub(super) question: &'static str,
    /// Members added to the request.
    pub(super) more: fn() -> Value,
    pub(super) direct: Direct,
    pub(super) guarded: Guarded,
    /// What the incident log must say of the answer: code and decision of each line, and of a hidden request how the
    /// answer was asked for again and what became of that.
    pub(super) records: &'static [&'static str],
    /// How long the direct client waits before it leaves.
    pub(super) direct_limit: Duration,
}

/// How long the client behind Aegis waits. Reaching it is a mismatch.
pub(super) const GUARDED_LIMIT: Duration = Duration::from_secs(8);

const PATIENT: Duration = Duration::from_secs(8);
const SEA: &str = "Why is the sea salty?";

fn nothing() -> Value {
    json!({})
}

fn json_object() -> Value {
    json!({"response_format": {"type": "json_object"}})
}

pub(super) fn weather_tool() -> Value {
    json!({"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}}, "required": ["city"]}}}]})
}

/// Rounds that a loop of running text has when it is found.
const ROUNDS: usize = 4;

/// How long the direct client looks at something endless.
const LONG_ENOUGH: Duration = Duration::from_millis(1_500);

/// A row whose answer passes as it is.
const PASSED: Case = Case {
    model: Model::Healthy,
    about: "a healthy answer",
    question: SEA,
    more: nothing,
    direct: Direct::Complete,
    guarded: Guarded::Same,
    records: &[],
    direct_limit: PATIENT,
};

/// All rows, the healthy ones first.
pub(super) const CASES: &[Case] = &[
    PASSED,
    Case {
        model: Model::ToolCall,
        about: "a healthy tool call",
        question: "What is the weather in Lisbon?",
        more: weather_tool,
        ..PASSED
    },
    Case {
        model: Model::SlowStart,
        about: "a long prompt, 3 s of silence: no stall",
        more: || json!({"max_tokens": 24}),
        ..PASSED
    },
    Case {
        model: Model::Loop,
        about: "the answer goes in circles",
        direct: Direct::Endless,
        guarded: Guarded::Whole(|| Answer::says(looped(SEA, ROUNDS))),
        records: &["A201_token_loop correct resume joined"],
        direct_limit: LONG_ENOUGH,
        ..PASSED
    },
    Case {
        model: Model::ReasoningLoop,
        about: "the reasoning goes in circles",
        direct: Direct::Endless,
        guarded: Guarded::Whole(|| Answer {
            reasoning: thinking(SEA, ROUNDS),
            ..Answer::says(prose::answer(SEA, 0))
        }),
        records: &["A201_token_loop correct resume joined"],
        direct_limit: LONG_ENOUGH,
        ..PASSED
    },
    Case {
        model: Model::BrokenJson,
        about: "JSON with a comma missing",
        question: "Describe Lisbon as JSON.",
        more: json_object,
        guarded: Guarded::Whole(|| Answer::says(JSON_MEANT)),
        records: &["A101_broken_json correct resume joined"],
        ..PASSED
    },
    Case {
        model: Model::TruncatedJson,
        about: "JSON that is not closed",
        question: "Describe Lisbon as JSON.",
        more: json_object,
        guarded: Guarded::Whole(|| Answer::says(format!("{JSON_TRUNCATED}{JSON_CLOSERS}"))),
        records: &["A103_truncated_json repair"],
        ..PASSED
    },
    Case {
        model: Model::BrokenCall,
        about: "a tool call that stops inside a string",
        question: "What is the weather in Lisbon?",
        more: weather_tool,
        guarded: Guarded::Whole(|| Answer {
            calls: vec![("get_weather".to_owned(), WEATHER_CALL.to_owned())],
            finish: "tool_calls",
            ..Answer::says("")
        }),
        records: &["A104_tool_arguments correct redo joined"],
        ..PASSED
    },
    Case {
        model: Model::Death,
        about: "the connection drops in the middle",
        direct: Direct::Dropped,
        guarded: Guarded::Whole(|| Answer::says(prose::answer(SEA, 0))),
        records: &["A204_upstream_lost correct resume joined"],
        ..PASSED
    },
    Case {
        model: Model::Stubborn,
        about: "goes in circles however it is asked",
        direct: Direct::Endless,
        guarded: Guarded::Cut {
            code: "A201_token_loop",
            left: None,
        },
        records: &["A201_token_loop correct resume joined", "A201_token_loop cut"],
        direct_limit: LONG_ENOUGH,
        ..PASSED
    },
    Case {
        model: Model::Forbidden,
        about: "a phrase the config forbids",
        question: "What is the launch code?",
        guarded: Guarded::Cut {
            code: "A403_forbidden_phrase",
            left: Some(|| BEFORE_PHRASE.to_owned()),
        },
        records: &["A403_forbidden_phrase cut"],
        ..PASSED
    },
    Case {
        model: Model::Stall,
        about: "tokens stop, the connection stays",
        direct: Direct::Silent,
        guarded: Guarded::Cut {
            code: "A203_stall",
            left: Some(|| before_loss(SEA)),
        },
        records: &["A203_stall cut"],
        direct_limit: Duration::from_millis(2_500),
        ..PASSED
    },
];

/// What the weather tool is called with.
const WEATHER_CALL: &str = r#"{"city":"Lisbon","unit":"celsius"}"#;

impl Case {
    /// The request, the same for both sides.
    pub(super) fn request(&self) -> Value {
        let mut body = json!({
            "model": self.model.name(),
            "stream": true,
            "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": self.question}],
        });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, (self.more)()) {
            body.extend(more);
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_one_row() {
        let rows: Vec<Model> = CASES.iter().map(|c| c.model).collect();
        assert_eq!(rows, Model::ALL);
    }
}
