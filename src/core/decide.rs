//! From finding to decision. Pure: the same finding under the same policy always decides the same.

use crate::error::Code;
use crate::event::LaneId;
use crate::rule::{Action, Severity};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Whether decisions take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decisions change the stream.
    #[default]
    Enforce,
    /// Decisions are recorded; the stream passes unchanged.
    Shadow,
}

/// What happens when something could not be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The text passes unchecked and an incident says so.
    #[default]
    Open,
    /// The stream is cut.
    Closed,
}

/// What a finding becomes whose action cannot be taken (a correction where no hidden request is possible).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnavailable {
    /// End the stream.
    #[default]
    Cut,
    /// Record it and go on.
    Note,
}

/// `[policy]` of the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Enforce or shadow.
    pub mode: Mode,
    /// Open or closed.
    pub on_failure: OnFailure,
    /// Cut or note.
    pub on_unavailable: OnUnavailable,
}

/// A fault, with everything needed to decide on it and to record it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of fault.
    pub code: Code,
    /// How bad, after the config had its say.
    pub severity: Severity,
    /// What the config wants done.
    pub action: Action,
    /// Where; `None` for faults of the stream as a whole.
    pub lane: Option<LaneId>,
    /// Bytes of the lane seen when it was raised.
    pub offset: u64,
    /// The faulty region, in bytes of the lane.
    pub span: Range<u64>,
    /// One sentence for people.
    pub detail: String,
    /// The end of the faulty text, capped; empty when there is none.
    pub excerpt: String,
}

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It goes on.
    Pass,
    /// Bytes wait until more is known.
    Hold,
    /// It is mended deterministically.
    Repair,
    /// The primary is asked again, hidden from the client.
    Correct,
    /// It ends with an error event.
    Cut,
}

/// The action of a code whose rule has no `action` in the config.
#[must_use]
pub fn default_action(severity: Severity) -> Action {
    match severity {
        Severity::Minor => Action::Correct,
        Severity::Critical => Action::Cut,
    }
}

/// What the policy wants for a finding, were every action available and the mode `enforce`.
#[must_use]
pub fn wanted(finding: &Finding) -> Decision {
    match finding.action {
        Action::Note => Decision::Pass,
        Action::Repair => Decision::Repair,
        Action::Correct => Decision::Correct,
        Action::Cut => Decision::Cut,
    }
}

/// What is really done, and what was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The decision that takes effect; in shadow mode, the one that would have.
    pub decision: Decision,
    /// The policy's wish; differs from `decision` when its action is not available.
    pub wanted: Decision,
    /// Recorded only; the stream goes on.
    pub shadow: bool,
}

impl Outcome {
    /// Whether the stream changes because of it.
    #[must_use]
    pub fn takes_effect(self) -> bool {
        !self.shadow && self.decision != Decision::Pass
    }
}

/// Decides on a finding. Repair and Correct are not available in this build, so they become what `on_unavailable` says.
#[must_use]
pub fn decide(finding: &Finding, policy: &Policy) -> Outcome {
    let wanted = wanted(finding);
    let decision = match (wanted, policy.on_unavailable) {
        // A stream that broke off cannot go on: passing over it would make it look whole.
        (Decision::Repair | Decision::Correct, _) if finding.code == Code::UpstreamLost => Decision::Cut,
        (Decision::Repair | Decision::Correct, OnUnavailable::Cut) => Decision::Cut,
        (Decision::Repair | Decision::Correct, OnUnavailable::Note) => Decision::Pass,
        (other, _) => other,
    };
    Outcome {
        decision,
        wanted,
        shadow: policy.mode == Mode::Shadow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(action: Action) -> Finding {
        Finding {
            code: Code::TokenLoop,
            severity: Severity::Minor,
            action,
            lane: None,
            offset: 0,
            span: 0..0,
            detail: String::new(),
            excerpt: String::new(),
        }
    }

    #[test]
    fn a_lost_stream_is_never_passed_over() {
        let policy = Policy {
            on_unavailable: OnUnavailable::Note,
            ..Policy::default()
        };
        let lost = Finding {
            code: Code::UpstreamLost,
            ..finding(Action::Correct)
        };
        assert_eq!(decide(&lost, &policy).decision, Decision::Cut);
    }

    #[test]
    fn the_whole_table() {
        use Decision::{Correct, Cut, Pass, Repair};
        for (action, unavailable, decision, wanted) in [
            (Action::Note, OnUnavailable::Cut, Pass, Pass),
            (Action::Repair, OnUnavailable::Cut, Cut, Repair),
            (Action::Repair, OnUnavailable::Note, Pass, Repair),
            (Action::Correct, OnUnavailable::Cut, Cut, Correct),
            (Action::Correct, OnUnavailable::Note, Pass, Correct),
            (Action::Cut, OnUnavailable::Note, Cut, Cut),
        ] {
            let policy = Policy {
                on_unavailable: unavailable,
                ..Policy::default()
            };
            let outcome = decide(&finding(action), &policy);
            assert_eq!(
                (outcome.decision, outcome.wanted, outcome.shadow),
                (decision, wanted, false)
            );
            assert_eq!(outcome.takes_effect(), decision != Pass);
            let shadowed = decide(
                &finding(action),
                &Policy {
                    mode: Mode::Shadow,
                    ..policy
                },
            );
            assert_eq!((shadowed.decision, shadowed.takes_effect()), (decision, false));
        }
    }
}
