//! The tour's cases: what is asked, what the primary does, and what the client behind Aegis must get.

use super::client::{End, Received};
use super::model::Model;
use super::script::{BEFORE_PHRASE, JSON_BEFORE_FAULT, JSON_TRUNCATED};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guarded {
    /// The same as without Aegis.
    Same,
    /// A cut with this code. What came before it is the beginning of the primary's answer, and where `at_most` is
    /// given, the beginning of that.
    Cut {
        code: &'static str,
        at_most: Option<&'static str>,
    },
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

const fn cut(code: &'static str, at_most: Option<&'static str>) -> Guarded {
    Guarded::Cut { code, at_most }
}

/// All rows, the healthy ones first.
pub(super) const CASES: &[Case] = &[
    Case {
        model: Model::Healthy,
        about: "a healthy answer",
        question: SEA,
        more: nothing,
        direct: Direct::Complete,
        guarded: Guarded::Same,
        direct_limit: PATIENT,
    },
    Case {
        model: Model::ToolCall,
        about: "a healthy tool call",
        question: "What is the weather in Lisbon?",
        more: weather_tool,
        direct: Direct::Complete,
        guarded: Guarded::Same,
        direct_limit: PATIENT,
    },
    Case {
        model: Model::SlowStart,
        about: "a long prompt, 3 s of silence: no stall",
        question: SEA,
        more: || json!({"max_tokens": 24}),
        direct: Direct::Complete,
        guarded: Guarded::Same,
        direct_limit: PATIENT,
    },
    Case {
        model: Model::Loop,
        about: "the answer goes in circles",
        question: SEA,
        more: nothing,
        direct: Direct::Endless,
        guarded: cut("A201_token_loop", None),
        direct_limit: Duration::from_millis(2_500),
    },
    Case {
        model: Model::ReasoningLoop,
        about: "the reasoning goes in circles",
        question: SEA,
        more: nothing,
        direct: Direct::Endless,
        guarded: cut("A201_token_loop", None),
        direct_limit: Duration::from_millis(2_500),
    },
    Case {
        model: Model::BrokenJson,
        about: "JSON with a comma missing",
        question: "Describe Lisbon as JSON.",
        more: json_object,
        direct: Direct::Complete,
        guarded: cut("A101_broken_json", Some(JSON_BEFORE_FAULT)),
        direct_limit: PATIENT,
    },
    Case {
        model: Model::TruncatedJson,
        about: "JSON that stops half way",
        question: "Describe Lisbon as JSON.",
        more: json_object,
        direct: Direct::Complete,
        guarded: cut("A103_truncated_json", Some(JSON_TRUNCATED)),
        direct_limit: PATIENT,
    },
    Case {
        model: Model::Forbidden,
        about: "a phrase the config forbids",
        question: "What is the launch code?",
        more: nothing,
        direct: Direct::Complete,
        guarded: cut("A403_forbidden_phrase", Some(BEFORE_PHRASE)),
        direct_limit: PATIENT,
    },
    Case {
        model: Model::Stall,
        about: "tokens stop, the connection stays",
        question: SEA,
        more: nothing,
        direct: Direct::Silent,
        guarded: cut("A203_stall", None),
        direct_limit: Duration::from_secs(4),
    },
    Case {
        model: Model::Death,
        about: "the connection drops",
        question: SEA,
        more: nothing,
        direct: Direct::Dropped,
        guarded: cut("A204_upstream_lost", None),
        direct_limit: PATIENT,
    },
];

impl Case {
    /// The request, the same for both sides.
    pub(super) fn request(&self) -> Value {
        let mut body = json!({
            "model": self.model.name(),
            "stream": true,
            "messages": [{"role": "user", "content": self.question}],
        });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, (self.more)()) {
            body.extend(more);
        }
        body
    }

    /// What is not as expected, one sentence each.
    pub(super) fn mismatches(&self, direct: &Received, guarded: &Received) -> Vec<String> {
        let mut wrong = Vec::new();
        let as_meant = match self.direct {
            Direct::Complete => direct.looks_complete(),
            Direct::Endless | Direct::Silent => {
                direct.end == End::Left && direct.finish.is_none() && !direct.text().is_empty()
            }
            Direct::Dropped => matches!(direct.end, End::Broken(_)) && direct.finish.is_none(),
        };
        if !as_meant {
            wrong.push(format!(
                "the primary should have been {:?}, but: {}",
                self.direct,
                direct.ending()
            ));
        }
        if guarded.garbled > 0 {
            wrong.push(format!("{} frames through Aegis cannot be read", guarded.garbled));
        }
        match self.guarded {
            Guarded::Same => same(direct, guarded, &mut wrong),
            Guarded::Cut { code, at_most } => was_cut(code, at_most, direct, guarded, &mut wrong),
        }
        wrong
    }
}

fn same(direct: &Received, guarded: &Received, wrong: &mut Vec<String>) {
    if !guarded.looks_complete() {
        wrong.push(format!(
            "a complete answer was expected through Aegis, but: {}",
            guarded.ending()
        ));
    }
    let parts = |r: &Received| {
        (
            r.content.clone(),
            r.reasoning.clone(),
            r.calls.clone(),
            r.finish.clone(),
        )
    };
    if parts(direct) != parts(guarded) {
        wrong.push("the answer through Aegis differs from the primary's".to_owned());
    }
}

fn was_cut(
    code: &str,
    at_most: Option<&str>,
    direct: &Received,
    guarded: &Received,
    wrong: &mut Vec<String>,
) {
    match &guarded.error {
        Some(error) if error.code == code => {}
        Some(error) => wrong.push(format!("{code} was expected, but the error is {}", error.code)),
        None => wrong.push(format!("{code} was expected, but: {}", guarded.ending())),
    }
    if guarded.status == 200 && guarded.error.is_some() && (!guarded.done || guarded.end != End::Whole) {
        wrong.push("the cut stream lacks its [DONE] or its proper end".to_owned());
    }
    if guarded.finish.is_some() && guarded.error.is_some() {
        wrong.push("the cut stream also has a finish_reason".to_owned());
    }
    // Either side may have left first, so one text is the beginning of the other.
    for (ours, theirs) in [
        (&guarded.content, &direct.content),
        (&guarded.reasoning, &direct.reasoning),
    ] {
        if !theirs.starts_with(ours.as_str()) && !ours.starts_with(theirs.as_str()) {
            wrong.push("what came through Aegis is not the beginning of the primary's answer".to_owned());
        }
    }
    if at_most.is_some_and(|most| !most.starts_with(&guarded.content)) {
        wrong.push("text behind the fault reached the client".to_owned());
    }
}

impl Received {
    /// The lane to show: the content, or else the tool calls, or else the reasoning.
    pub(super) fn text(&self) -> String {
        let calls = self
            .calls
            .iter()
            .map(|(name, arguments)| format!("{name}({arguments})"))
            .collect::<Vec<_>>();
        let said = [self.content.clone(), calls.join(" ")];
        let said = said
            .iter()
            .filter(|s| !s.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        if said.is_empty() {
            self.reasoning.clone()
        } else {
            said
        }
    }

    /// How it ended, in a few words.
    pub(super) fn ending(&self) -> String {
        let characters = self.text().chars().count();
        match (&self.end, &self.error, &self.finish) {
            (_, Some(error), _) => format!("error {}: {}", error.code, error.message),
            (End::Broken(why), None, _) => format!("the connection broke off: {why}"),
            (End::Left, None, _) => format!(
                "not over after {:.1} s and {characters} characters",
                self.took.as_secs_f64()
            ),
            (End::Whole, None, Some(reason)) => format!("finish {reason}"),
            (End::Whole, None, None) => format!("ended without a finish, status {}", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::WireError;
    use super::*;

    fn case(model: Model) -> &'static Case {
        CASES
            .iter()
            .find(|c| c.model == model)
            .expect("every model has a row")
    }

    fn complete(content: &str) -> Received {
        let finish = Some("stop".to_owned());
        Received {
            status: 200,
            content: content.to_owned(),
            finish,
            done: true,
            ..Received::new()
        }
    }

    fn cut_off(content: &str, code: &str) -> Received {
        let error = Some(WireError {
            code: code.to_owned(),
            message: "m".to_owned(),
        });
        Received {
            finish: None,
            error,
            ..complete(content)
        }
    }

    #[test]
    fn every_model_has_one_row() {
        let rows: Vec<Model> = CASES.iter().map(|c| c.model).collect();
        assert_eq!(rows, Model::ALL);
    }

    #[test]
    fn a_good_cut_is_as_expected_and_each_flaw_is_named() {
        let case = case(Model::BrokenJson);
        let direct = complete(r#"{"city": "Lisbon", "districts": ["Alfama", "Baixa" "Chiado"]}"#);
        let code = "A101_broken_json";
        let good = cut_off(JSON_BEFORE_FAULT, code);
        assert_eq!(case.mismatches(&direct, &good), Vec::<String>::new());
        let flaws = [
            (
                cut_off(JSON_BEFORE_FAULT, "A203_stall"),
                "A101_broken_json was expected, but the error is A203_stall",
            ),
            (cut_off(&direct.content, code), "behind the fault"),
            (cut_off("Lisbon", code), "not the beginning"),
            (
                Received {
                    done: false,
                    ..good.clone()
                },
                "[DONE]",
            ),
            (
                Received {
                    finish: Some("stop".into()),
                    ..good.clone()
                },
                "finish_reason",
            ),
            (Received { garbled: 1, ..good }, "cannot be read"),
            (direct.clone(), "A101_broken_json was expected, but: finish stop"),
        ];
        for (guarded, named) in flaws {
            let wrong = case.mismatches(&direct, &guarded).join("; ");
            assert!(wrong.contains(named), "{named:?} is not in {wrong:?}");
        }
    }

    #[test]
    fn a_healthy_answer_must_pass_unchanged() {
        let case = case(Model::Healthy);
        assert_eq!(
            case.mismatches(&complete("salt"), &complete("salt")),
            Vec::<String>::new()
        );
        assert_eq!(case.mismatches(&complete("salt"), &complete("sal")).len(), 1);
        assert_eq!(
            case.mismatches(&complete("salt"), &cut_off("salt", "A201_token_loop"))
                .len(),
            2
        );
    }
}
