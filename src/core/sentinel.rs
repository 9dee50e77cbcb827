//! The sentinel of one answer: its lanes, the rules on each, and what they found.
//!
//! Pure: text in, findings out. The [`crate::relay`] feeds it frames of a live stream, `aegis scan` feeds it texts.

use crate::decide::{Finding, OnFailure};
use crate::error::Code;
use crate::event::{Channel, FinishReason, LaneId};
use crate::limits::{FINDINGS_MAX, LANES_MAX};
use crate::release::{Release, ReleasePolicy};
use crate::request::RequestFacts;
use crate::rule::{Action, LaneContext, LaneEnd, Raised, Rule, Severity};
use crate::rules::Rulebook;
use crate::window::Window;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A piece of a lane: bytes `from..at` of lane number `lane`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    lane: usize,
    /// Where the piece begins.
    pub from: u64,
    /// The position after it.
    pub at: u64,
}

struct Lane {
    id: LaneId,
    at: u64,
    rules: Vec<Box<dyn Rule>>,
    window: Window,
    ended: bool,
}

/// All lanes of one answer.
pub struct Sentinel {
    rulebook: Arc<Rulebook>,
    request: Arc<RequestFacts>,
    on_failure: OnFailure,
    lanes: Vec<Lane>,
    finishes: Vec<(u32, FinishReason)>,
    raised: Vec<Raised>,
    findings: usize,
    lanes_refused: bool,
}

impl Sentinel {
    /// A sentinel for the answer to `request`.
    #[must_use]
    pub fn new(rulebook: Arc<Rulebook>, request: Arc<RequestFacts>, on_failure: OnFailure) -> Self {
        Self {
            rulebook,
            request,
            on_failure,
            lanes: Vec::new(),
            finishes: Vec::new(),
            raised: Vec::new(),
            findings: 0,
            lanes_refused: false,
        }
    }

    /// A lane goes on. Appends what the rules found, ordered by offset, and returns the position after the text.
    /// `None` when there are more lanes than [`LANES_MAX`]; the first time, a finding says so.
    pub fn feed(&mut self, id: LaneId, text: &str, findings: &mut Vec<Finding>) -> Option<Mark> {
        let Some(index) = self.lane(id) else {
            if !std::mem::replace(&mut self.lanes_refused, true) {
                let detail = format!("the answer has more than {LANES_MAX} lanes; {id} is not checked");
                findings.push(self.failure(Code::RuleFailed, Some(id), 0, detail));
            }
            return None;
        };
        let lane = &mut self.lanes[index];
        // Text after the finish opens the lane again: it is ruled like any other.
        lane.ended = false;
        let at = lane.at;
        let broken = run(&mut lane.rules, |rule| rule.feed(at, text, &mut self.raised));
        lane.at += text.len() as u64;
        let mark = Mark {
            lane: index,
            from: at,
            at: lane.at,
        };
        if broken || !self.raised.is_empty() {
            self.collect(index, text, broken, findings);
        }
        let keep = 4 * self.rulebook.quoted_chars_max();
        self.lanes[index].window.push(text, keep);
        Some(mark)
    }

    /// The call of a tool arguments lane is named.
    pub fn name(&mut self, id: LaneId, name: &str, findings: &mut Vec<Finding>) {
        let Some(index) = self.lane(id) else { return };
        let broken = run(&mut self.lanes[index].rules, |rule| {
            rule.named(name, &mut self.raised);
        });
        if broken || !self.raised.is_empty() {
            self.collect(index, "", broken, findings);
        }
    }

    /// The answer was asked for again and goes on from the text fed so far.
    pub fn resumed(&mut self, findings: &mut Vec<Finding>) {
        for index in 0..self.lanes.len() {
            if run(&mut self.lanes[index].rules, |rule| rule.resumed()) {
                self.collect(index, "", true, findings);
            }
        }
    }

    /// A choice is finished: all its lanes end.
    pub fn finish(&mut self, choice: u32, reason: FinishReason, findings: &mut Vec<Finding>) {
        if self.finishes.len() >= LANES_MAX || self.finishes.iter().any(|(c, _)| *c == choice) {
            return;
        }
        self.finishes.push((choice, reason));
        // An answer without any text can still be faulty: a demanded JSON value that never came.
        if !self
            .lanes
            .iter()
            .any(|l| l.id.choice == choice && l.id.channel != Channel::Reasoning)
        {
            self.lane(LaneId {
                choice,
                channel: Channel::Content,
            });
        }
        for index in 0..self.lanes.len() {
            if self.lanes[index].id.choice == choice {
                self.end(index, LaneEnd::Finished(reason), findings);
            }
        }
    }

    /// The stream ended properly: lanes that went on after their choice had finished end now.
    pub fn close(&mut self, findings: &mut Vec<Finding>) {
        for index in 0..self.lanes.len() {
            self.end(index, LaneEnd::Finished(FinishReason::Other), findings);
        }
    }

    /// The stream broke off: the lanes that did not finish end as lost.
    pub fn lost(&mut self, findings: &mut Vec<Finding>) {
        for index in 0..self.lanes.len() {
            self.end(index, LaneEnd::Lost, findings);
        }
    }

    /// Whether the answer came to its end: at least one choice finished, and every choice that said anything.
    #[must_use]
    pub fn finished(&self) -> bool {
        !self.finishes.is_empty()
            && self
                .lanes
                .iter()
                .all(|l| self.finishes.iter().any(|(choice, _)| *choice == l.id.choice))
    }

    /// The lane of a mark.
    #[must_use]
    pub fn id(&self, mark: Mark) -> LaneId {
        self.lanes[mark.lane].id
    }

    /// Whether everything before `mark` may be released under `policy`.
    #[must_use]
    pub fn cleared(&self, mark: Mark, policy: &ReleasePolicy) -> bool {
        let lane = &self.lanes[mark.lane];
        if lane.ended {
            return true;
        }
        if policy.of(lane.id.channel) == Release::Complete {
            return false;
        }
        lane.rules
            .iter()
            .all(|rule| rule.held_from().is_none_or(|held| mark.at <= held))
    }

    /// A finding about the sentinel's own failure to judge, treated as `on_failure` says.
    #[must_use]
    pub fn failure(&self, code: Code, lane: Option<LaneId>, offset: u64, detail: String) -> Finding {
        let action = match self.on_failure {
            OnFailure::Open => Action::Note,
            OnFailure::Closed => Action::Cut,
        };
        Finding {
            lane,
            offset,
            span: offset..offset,
            detail,
            sound_to: offset,
            ..Finding::bare(code, Severity::Critical, action)
        }
    }

    fn lane(&mut self, id: LaneId) -> Option<usize> {
        // Tokens come in runs of one lane: look at the newest first.
        if let Some(index) = self.lanes.iter().rposition(|l| l.id == id) {
            return Some(index);
        }
        if self.lanes.len() >= LANES_MAX {
            return None;
        }
        let rules = self.rulebook.rules_for(&LaneContext {
            lane: id,
            request: &self.request,
        });
        self.lanes.push(Lane {
            id,
            at: 0,
            rules,
            window: Window::default(),
            ended: false,
        });
        Some(self.lanes.len() - 1)
    }

    fn end(&mut self, index: usize, end: LaneEnd, findings: &mut Vec<Finding>) {
        let lane = &mut self.lanes[index];
        if lane.ended {
            return;
        }
        // What is whole is not held: nothing can complete any more. What is lost stays held, for it is not whole.
        lane.ended = end != LaneEnd::Lost;
        let at = lane.at;
        let broken = run(&mut lane.rules, |rule| rule.end(at, end, &mut self.raised));
        self.collect(index, "", broken, findings);
    }

    /// Turns what the rules raised into findings.
    fn collect(&mut self, index: usize, fresh: &str, broken: bool, findings: &mut Vec<Finding>) {
        let mut raised = std::mem::take(&mut self.raised);
        raised.sort_by_key(|r| (r.offset, r.code));
        let lane = &self.lanes[index];
        for r in raised.drain(..) {
            let policy = self.rulebook.policy(r.code);
            // Only what changes nothing may be dropped for its number: a cut after many notes is still a cut.
            let surplus = policy.action == Action::Note && self.findings >= FINDINGS_MAX;
            if !policy.enabled || surplus {
                continue;
            }
            self.findings += 1;
            let excerpt =
                lane.window
                    .excerpt(fresh, r.span.start..r.span.end, self.rulebook.quoted_chars_max());
            findings.push(Finding {
                code: r.code,
                severity: policy.severity,
                action: policy.action,
                lane: Some(lane.id),
                offset: r.offset,
                span: r.span,
                detail: r.detail,
                excerpt,
                sound_to: r.sound_to,
                mend: r.mend,
            });
        }
        if broken {
            let detail = "a rule failed inside and was taken off this lane".to_owned();
            findings.push(self.failure(Code::RuleFailed, Some(lane.id), lane.at, detail));
        }
        self.raised = raised;
    }
}

/// Runs every rule; one that panics is taken off the lane. Returns whether that happened.
fn run(rules: &mut Vec<Box<dyn Rule>>, mut call: impl FnMut(&mut Box<dyn Rule>)) -> bool {
    let mut broken = false;
    rules.retain_mut(|rule| {
        // A rule owns its state and is dropped right after a panic, so nobody sees it half-changed.
        let ok = catch_unwind(AssertUnwindSafe(|| call(rule))).is_ok();
        broken |= !ok;
        ok
    });
    broken
}

#[cfg(test)]
mod tests;
