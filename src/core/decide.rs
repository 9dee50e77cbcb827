//! From finding to decision. Pure: the same finding under the same policy always decides the same.

use crate::error::Code;
use crate::event::LaneId;
use crate::rule::{Action, Mend, Severity};
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
pub enum Fallback {
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
    /// The lane's text before this byte is sound.
    pub sound_to: u64,
    /// The certain mend, where there is one.
    pub mend: Option<Mend>,
}

impl Finding {
    /// A finding about the stream as a whole, without place or text.
    #[must_use]
    pub fn bare(code: Code, severity: Severity, action: Action) -> Self {
        Self {
            code,
            severity,
            action,
            lane: None,
            offset: 0,
            span: 0..0,
            detail: String::new(),
            excerpt: String::new(),
            sound_to: 0,
            mend: None,
        }
    }
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

/// Why a hidden request is not possible, and what the config wants instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// A504 or A505.
    pub code: Code,
    /// A sentence fragment for people.
    pub why: String,
    /// Cut or note.
    pub fallback: Fallback,
}

/// What can be done about a finding where it came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// A certain mend can still be made.
    pub mend: bool,
    /// A hidden request is possible, or why not.
    pub correct: Result<(), Unavailable>,
}

/// What is really done, and what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The decision that takes effect; in shadow mode, the one that would have.
    pub decision: Decision,
    /// The policy's wish; differs from `decision` when its action is not available.
    pub wanted: Decision,
    /// Recorded only; the stream goes on.
    pub shadow: bool,
    /// Why the wish could not be met.
    pub unavailable: Option<Unavailable>,
}

impl Outcome {
    /// Whether the stream changes because of it.
    #[must_use]
    pub fn takes_effect(&self) -> bool {
        !self.shadow && self.decision != Decision::Pass
    }
}

/// Decides on a finding. A certain mend comes before a hidden request, a hidden request before its fallback.
#[must_use]
pub fn decide(finding: &Finding, policy: &Policy, means: Means) -> Outcome {
    let wanted = wanted(finding);
    let mut unavailable = None;
    let decision = match wanted {
        Decision::Repair | Decision::Correct if means.mend => Decision::Repair,
        Decision::Repair | Decision::Correct => match means.correct {
            Ok(()) => Decision::Correct,
            Err(why) => {
                // A stream that broke off cannot go on: passing over it would make it look whole.
                let pass = why.fallback == Fallback::Note && finding.code != Code::UpstreamLost;
                unavailable = Some(why);
                if pass { Decision::Pass } else { Decision::Cut }
            }
        },
        other => other,
    };
    Outcome {
        decision,
        wanted,
        shadow: policy.mode == Mode::Shadow,
        unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(action: Action) -> Finding {
        Finding::bare(Code::TokenLoop, Severity::Minor, action)
    }

    fn means(mend: bool, fallback: Option<Fallback>) -> Means {
        let unavailable = |fallback| Unavailable {
            code: Code::NotInjectable,
            why: "n is 2".into(),
            fallback,
        };
        Means {
            mend,
            correct: fallback.map_or(Ok(()), |fallback| Err(unavailable(fallback))),
        }
    }

    #[test]
    fn a_lost_stream_is_never_passed_over() {
        let lost = Finding {
            code: Code::UpstreamLost,
            ..finding(Action::Correct)
        };
        let outcome = decide(&lost, &Policy::default(), means(false, Some(Fallback::Note)));
        assert_eq!(outcome.decision, Decision::Cut);
    }

    #[test]
    fn the_whole_table() {
        use Decision::{Correct, Cut, Pass, Repair};
        let (cut, note) = (Some(Fallback::Cut), Some(Fallback::Note));
        for (action, mend, fallback, decision, wanted) in [
            (Action::Note, true, None, Pass, Pass),
            (Action::Repair, true, cut, Repair, Repair),
            (Action::Repair, false, None, Correct, Repair),
            (Action::Correct, true, None, Repair, Correct),
            (Action::Correct, false, None, Correct, Correct),
            (Action::Correct, false, cut, Cut, Correct),
            (Action::Correct, false, note, Pass, Correct),
            (Action::Cut, true, None, Cut, Cut),
        ] {
            let outcome = decide(&finding(action), &Policy::default(), means(mend, fallback));
            assert_eq!(
                (outcome.decision, outcome.wanted, outcome.shadow),
                (decision, wanted, false)
            );
            assert_eq!(outcome.takes_effect(), decision != Pass);
            let shadow = Policy {
                mode: Mode::Shadow,
                ..Policy::default()
            };
            let shadowed = decide(&finding(action), &shadow, means(mend, fallback));
            assert_eq!((shadowed.decision, shadowed.takes_effect()), (decision, false));
        }
    }
}
