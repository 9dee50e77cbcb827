//! From a finding to what is done about it: decide, record, act.

use super::{End, Relay};
use crate::decide::{Decision, Finding, Means, Mode, Outcome, decide};
use crate::error::Code;
use crate::incident::Incident;
use crate::limits::{FINDINGS_MAX, MENDS_MAX};
use crate::rule::{Action, Severity};
use crate::sse::write::cut_frames;
use std::time::Instant;

impl Relay {
    /// Decides on a finding, records it and acts. Afterwards the stream may be over, or waiting for a hidden request:
    /// [`Self::is_open`] tells.
    pub(super) fn settle(&mut self, now: Instant, mut finding: Finding) {
        let shadow = self.guard.policy.mode == Mode::Shadow;
        if shadow && self.recorded >= FINDINGS_MAX {
            // Nothing would come of it, not even a record.
            return;
        }
        let asks = matches!(finding.action, Action::Correct | Action::Repair);
        let mend = asks && self.mends < MENDS_MAX && self.can_mend(&finding);
        if !mend {
            self.escalate(&mut finding);
        }
        let asks = matches!(finding.action, Action::Correct | Action::Repair);
        let (planned, correct) = if asks && !mend {
            match self.planned(&finding) {
                Ok(planned) => (Some(planned), Ok(())),
                Err(unavailable) => (None, Err(unavailable)),
            }
        } else {
            (None, Ok(()))
        };
        let outcome = decide(&finding, &self.guard.policy, Means { mend, correct });
        if !outcome.takes_effect() {
            return self.note(finding, outcome);
        }
        match (outcome.decision, planned) {
            (Decision::Repair, _) => {
                self.mends += 1;
                let mend = finding.mend.clone();
                let lane = finding.lane;
                self.record(finding, outcome);
                if let (Some(mend), Some(lane)) = (mend, lane) {
                    self.mend(now, lane, &mend);
                }
            }
            (Decision::Correct, Some(planned)) => self.ask(now, finding, outcome, planned),
            _ => self.cut(now, finding, outcome),
        }
    }

    /// A loop that comes back in its lane after it was corrected will come back again, unless the config wants it tried.
    fn escalate(&self, finding: &mut Finding) {
        let corrected = self.corrected.contains(&(finding.code, finding.lane));
        let again = finding.code == Code::TokenLoop && corrected;
        if again && finding.action == Action::Correct && !self.guard.rulebook.policy(finding.code).chosen {
            finding.severity = Severity::Critical;
            finding.action = Action::Cut;
            finding.detail.push_str(", again after it had been corrected");
        }
    }

    /// Records what changes nothing. It could otherwise go on without end, so there is a bound.
    fn note(&mut self, finding: Finding, outcome: Outcome) {
        if self.recorded < FINDINGS_MAX {
            self.record(finding, outcome);
        }
    }

    fn record(&mut self, finding: Finding, outcome: Outcome) {
        self.recorded += 1;
        let incident = Incident::new(finding, outcome, self.ring.released());
        let chars_max = self.guard.rulebook.excerpt_chars_max;
        self.incidents.push(incident.quoting(chars_max));
    }

    /// Ends the answer with an error event. Nothing that is held ever leaves.
    fn cut(&mut self, now: Instant, finding: Finding, outcome: Outcome) {
        self.close_correction(now);
        let code = finding.code;
        let mut message = format!("Aegis ended this answer: {} ({code}).", finding.detail);
        if let Some(why) = &outcome.unavailable {
            message.push_str(&format!(" It was not corrected: {} ({}).", why.why, why.code));
        }
        self.record(finding, outcome);
        self.end_with_error(code, &message);
    }

    pub(super) fn end_with_error(&mut self, code: Code, message: &str) {
        self.held.clear();
        self.ring.discard();
        self.out.push_back(cut_frames(code, message));
        self.end = Some(End::Clean);
    }
}
