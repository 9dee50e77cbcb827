//! Guarding an answer that comes as one JSON object instead of a stream.

use crate::decide::{Finding, Means, Unavailable, decide};
use crate::dialect::Dialect;
use crate::error::Code;
use crate::incident::Incident;
use crate::relay::Guard;
use crate::request::RequestFacts;
use crate::rule::{Action, Mend};
use crate::sentinel::Sentinel;
use std::sync::Arc;

/// The verdict on a whole answer.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// What to record.
    pub incidents: Vec<Incident>,
    /// The finding that keeps the answer from the client, if one does.
    pub cut: Option<Finding>,
    /// The model's name as the upstream gave it.
    pub model: Option<String>,
}

/// Runs all rules over the body of a non-streaming answer.
#[must_use]
pub fn judge(guard: &Guard, dialect: Dialect, request: Arc<RequestFacts>, body: &[u8]) -> Judged {
    let mut sentinel = Sentinel::new(Arc::clone(&guard.rulebook), request, guard.policy.on_failure);
    let mut findings = Vec::new();
    let mut judged = Judged::default();
    let facts = std::str::from_utf8(body)
        .map_err(|error| error.to_string())
        .and_then(|json| dialect.object(json).map_err(|error| error.to_string()));
    match facts {
        Ok(facts) => {
            for (lane, name) in &facts.names {
                sentinel.name(*lane, name, &mut findings);
            }
            for delta in &facts.deltas {
                sentinel.feed(delta.lane, &delta.text, &mut findings);
            }
            for (choice, reason) in &facts.finishes {
                sentinel.finish(*choice, *reason, &mut findings);
            }
            sentinel.close(&mut findings);
            judged.model = facts.model.map(std::borrow::Cow::into_owned);
        }
        Err(error) => {
            let detail = format!("the answer cannot be read: {error}");
            findings.push(sentinel.failure(Code::UndecodableFrame, None, 0, detail));
        }
    }
    for mut finding in findings {
        if is_empty_call(&finding) {
            finding.action = Action::Note;
        }
        let unavailable = Unavailable {
            code: Code::NotInjectable,
            why: "the upstream sent the answer as a whole".to_owned(),
            fallback: guard.corrections.on_not_injectable,
        };
        let means = Means {
            mend: false,
            correct: Err(unavailable),
        };
        let outcome = decide(&finding, &guard.policy, means);
        let cut = outcome.takes_effect();
        let incident = Incident::new(finding.clone(), outcome, 0);
        let chars_max = guard.rulebook.excerpt_chars_max;
        judged.incidents.push(incident.quoting(chars_max));
        if cut {
            judged.cut = Some(finding);
            break;
        }
    }
    judged
}

/// A call without arguments of a tool that takes none. A stream would get `{}`; here the client reads it so itself.
fn is_empty_call(finding: &Finding) -> bool {
    let filled = matches!(&finding.mend, Some(Mend::Replace { text, .. }) if text == "{}");
    filled && finding.code == Code::ToolArguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_needs_no_arguments_passes_without() {
        let request = br#"{"messages":[],"tools":[{"type":"function","function":{"name":"now","parameters":{"type":"object"}}}]}"#;
        let facts = Arc::new(crate::request::read(request, 64).unwrap());
        let judged = |name: &str| {
            let call =
                serde_json::json!({"id":"a","type":"function","function":{"name":name,"arguments":""}});
            let body = serde_json::json!({"choices":[{"index":0,"finish_reason":"tool_calls","message":{"tool_calls":[call]}}]});
            let guard = Guard::default();
            judge(
                &guard,
                Dialect::Chat,
                Arc::clone(&facts),
                body.to_string().as_bytes(),
            )
        };
        assert!(judged("now").cut.is_none() && judged("then").cut.is_some());
        assert_eq!(judged("now").incidents[0].decision, crate::decide::Decision::Pass);
    }

    #[test]
    fn a_looping_whole_answer_is_kept_back() {
        let text = "The same sentence again and again, it never ends. ".repeat(40);
        let body = serde_json::json!({"model":"m","choices":[{"index":0,"finish_reason":"length","message":{"role":"assistant","content":text}}]});
        let judged = judge(
            &Guard::default(),
            Dialect::Chat,
            Arc::default(),
            body.to_string().as_bytes(),
        );
        assert_eq!(judged.cut.map(|f| f.code), Some(Code::TokenLoop));
        assert_eq!((judged.incidents.len(), judged.model.as_deref()), (1, Some("m")));
    }

    #[test]
    fn an_unreadable_answer_follows_on_failure() {
        let judged = judge(&Guard::default(), Dialect::Chat, Arc::default(), b"\xff");
        assert!(judged.cut.is_none());
        assert_eq!(judged.incidents[0].code, Code::UndecodableFrame);
    }
}
