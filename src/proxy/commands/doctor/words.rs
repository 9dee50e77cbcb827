//! Capabilities in words. Pure.

use crate::limits::HEALTH;
use aegis_core::capabilities::{Capabilities, Prefill, ThinkingOff};
use aegis_core::decide::Mode;
use aegis_core::relay::Guard;
use aegis_core::release::Release;
use http::StatusCode;
use serde::Serialize;
use std::time::Duration;

/// Whether one way of asking again is open, and when it is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Correction {
    pub(super) plan: &'static str,
    pub(super) possible: bool,
    pub(super) when: &'static str,
}

/// How `/health` was answered.
pub(super) enum Health {
    /// With this, after this time.
    Said(StatusCode, Duration),
    /// Not within this time, though the server took the connection.
    Late(Duration),
}

/// What `/health` said.
pub(super) fn health(health: &Health) -> String {
    let (status, took) = match health {
        Health::Said(status, took) => (*status, *took),
        Health::Late(limit) => return format!("no answer within {} s (busy?)", limit.as_secs_f64()),
    };
    let mut words = match status {
        StatusCode::OK => "ok".to_owned(),
        StatusCode::NOT_FOUND => "alive, without /health".to_owned(),
        StatusCode::SERVICE_UNAVAILABLE => "alive, but not ready (loading its model?)".to_owned(),
        other => format!("alive, {other}"),
    };
    // Later than a heartbeat waits.
    if took > HEALTH {
        words += &format!(", but slow: it took {:.1} s (busy?)", took.as_secs_f64());
    }
    words
}

/// How a begun answer is continued.
pub(super) fn prefill(capabilities: &Capabilities) -> &'static str {
    match (capabilities.prefill, capabilities.prefill_needs_thinking_off) {
        (Prefill::No, _) => "no",
        (Prefill::Trailing, true) => "a trailing assistant message, with thinking switched off",
        (Prefill::Trailing, false) => "a trailing assistant message",
        (Prefill::BothFlags, _) => {
            "a trailing assistant message, continue_final_message and add_generation_prompt: false"
        }
        (Prefill::OneFlag, _) => "a trailing assistant message and continue_final_message",
    }
}

/// Each capability with its words.
pub(super) fn capabilities(capabilities: &Capabilities, switch: Option<bool>) -> [(&'static str, String); 5] {
    let prefills = capabilities.prefill != Prefill::No;
    let echo = match (prefills, capabilities.echoes) {
        (false, _) => "-",
        (true, true) => "the reply may repeat the prefill, which is dropped then",
        (true, false) => "the reply begins behind the prefill",
    };
    let schema = match (prefills, capabilities.schema_after_prefill) {
        (false, _) => "-",
        (true, true) => "goes on where the prefill ends; a raw grammar starts again",
        (true, false) => "starts again behind the prefill",
    };
    let reasoning = if capabilities.closes_reasoning {
        "a thought can be closed from outside, and the answer begins"
    } else {
        "a thought cannot be closed from outside"
    };
    let off = match capabilities.thinking_off {
        ThinkingOff::Unknown => "no way is known".to_owned(),
        ThinkingOff::ReasoningEffort => "reasoning_effort: \"none\"".to_owned(),
        ThinkingOff::TemplateKwargs => {
            let template = match switch {
                Some(true) => ", which the model's template heeds",
                Some(false) => ", which the model's template does not mention",
                None => "",
            };
            format!("chat_template_kwargs.enable_thinking: false{template}")
        }
    };
    [
        ("Prefill", prefill(capabilities).to_owned()),
        ("Echo", echo.to_owned()),
        ("Schema", schema.to_owned()),
        ("Reasoning", reasoning.to_owned()),
        ("Thinking off", off),
    ]
}

/// The ways of asking again.
pub(super) fn corrections(capabilities: Option<&Capabilities>, guard: &Guard) -> [Correction; 3] {
    let on = guard.corrections.corrections_max > 0 && guard.policy.mode == Mode::Enforce;
    let prefills = capabilities.is_some_and(|capabilities| capabilities.prefill != Prefill::No);
    [
        Correction {
            plan: "redo",
            possible: on,
            when: "no content is out: the same request with the correction",
        },
        Correction {
            plan: "resume",
            possible: on && prefills,
            when: "content is out: the answer goes on where it ends, also after the upstream died",
        },
        Correction {
            plan: "append",
            possible: on,
            when: "content is out that cannot be resumed: it becomes a turn, and the next is asked to go on",
        },
    ]
}

/// What no way is open for.
pub(super) fn cannot(capabilities: Option<&Capabilities>, guard: &Guard) -> Vec<String> {
    let mut cannot = Vec::new();
    if guard.policy.mode == Mode::Shadow {
        cannot.push("anything: policy.mode = \"shadow\" only records".to_owned());
    }
    if guard.corrections.corrections_max == 0 {
        cannot.push("anything but certain mends: corrections.corrections_max = 0".to_owned());
    }
    cannot.push("answers with several choices (n > 1) or logprobs".to_owned());
    if guard.release.tool_arguments == Release::Rules {
        cannot.push("a tool call of which a part is out: release.tool_arguments = \"rules\"".to_owned());
    }
    let unknown = Capabilities::default();
    let capabilities = capabilities.unwrap_or(&unknown);
    cannot.push(
        if capabilities.schema_after_prefill && capabilities.prefill != Prefill::No {
            "content under a raw grammar of which a part is out".to_owned()
        } else {
            "content under a JSON schema or a grammar of which a part is out".to_owned()
        },
    );
    if capabilities.thinking_off == ThinkingOff::Unknown && !capabilities.closes_reasoning {
        cannot.push("a loop while it thinks, other than by asking again and hoping".to_owned());
    }
    cannot
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_core::capabilities::Flavour;
    use aegis_core::correction::Corrections;

    #[test]
    fn a_late_answer_is_said_to_be_late() {
        let said = |ms| health(&Health::Said(StatusCode::OK, Duration::from_millis(ms)));
        assert_eq!(said(1999), "ok");
        assert_eq!(said(3400), "ok, but slow: it took 3.4 s (busy?)");
        let late = health(&Health::Late(Duration::from_secs(10)));
        assert_eq!(late, "no answer within 10 s (busy?)");
    }

    #[test]
    fn what_cannot_be_follows_from_what_the_server_can() {
        let guard = Guard::default();
        let new = Capabilities::from(Flavour::LlamaServer);
        assert!(corrections(Some(&new), &guard).iter().all(|c| c.possible));
        assert!(
            !cannot(Some(&new), &guard)
                .iter()
                .any(|line| line.contains("schema"))
        );
        let none = Capabilities::from(Flavour::None);
        let possible: Vec<_> = corrections(Some(&none), &guard).map(|c| c.possible).into();
        assert_eq!(possible, [true, false, true]);
        assert!(
            cannot(Some(&none), &guard)
                .iter()
                .any(|line| line.contains("thinks"))
        );
        assert_eq!(cannot(None, &guard), cannot(Some(&none), &guard));
    }

    #[test]
    fn what_is_switched_off_is_not_possible() {
        let off = Guard {
            corrections: Corrections {
                corrections_max: 0,
                ..Corrections::default()
            },
            ..Guard::default()
        };
        let new = Capabilities::from(Flavour::LlamaServer);
        assert!(corrections(Some(&new), &off).iter().all(|c| !c.possible));
        assert!(cannot(Some(&new), &off)[0].contains("corrections_max"));
    }
}
