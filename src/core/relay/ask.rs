//! The hidden request: what it keeps, and how the stream waits for its answer.

use super::Relay;
use super::held::with;
use super::joined::Join;
use super::plan::Planned;
use crate::continuation::{Ask, Plan};
use crate::decide::{Decision, Finding, Outcome};
use crate::dialect::Template;
use crate::dialect::calls::Calls;
use crate::error::Code;
use crate::event::{Channel, LaneId};
use crate::incident::{Correction, CorrectionEnd, Incident};
use crate::limits::DISCARDED_CHARS_MAX;
use crate::sentinel::Sentinel;
use crate::splice::{Spent, Splice};
use crate::sse::framer::Framer;
use crate::stall::StallClock;
use std::sync::Arc;
use std::time::Instant;

/// A hidden request whose answer is awaited.
pub(super) struct Asking {
    finding: Finding,
    /// For the driver to take.
    ask: Option<Ask>,
    plan: Plan,
    /// It ends inside the content.
    begins_content: bool,
    spent: Spent,
    joint: crate::continuation::Joint,
}

/// The incident of a hidden request, until its answer says something.
pub(super) struct Pending {
    incident: Incident,
    since: Instant,
}

impl Relay {
    /// Stops listening to the upstream and has the driver ask again.
    pub(super) fn ask(&mut self, now: Instant, finding: Finding, outcome: Outcome, planned: Planned) {
        self.close_correction(now);
        self.attempt += 1;
        self.corrected.push((finding.code, finding.lane));
        let incident = Incident::new(finding.clone(), outcome, self.ring.released())
            .quoting(self.guard.rulebook.excerpt_chars_max);
        self.pending = Some(Pending { incident, since: now });
        self.recorded += 1;
        self.start_asking(finding, planned);
    }

    fn start_asking(&mut self, finding: Finding, planned: Planned) {
        let Planned {
            ask,
            correction,
            keep,
        } = planned;
        let keep = if ask.keeps_sound { keep } else { 0 };
        let (discarded, tokens_discarded) = self.discard_from(keep);
        self.discarded += tokens_discarded;
        let kept = self
            .told
            .draft()
            .map_or(0, |told| with(told, self.held.iter()).tokens);
        if let Some(pending) = &mut self.pending {
            let before = pending.incident.correction.take();
            let earlier = before.as_ref().map_or(0, |c| c.tokens_discarded);
            let text = before.map_or(discarded, |c| c.discarded);
            pending.incident.correction = Some(Correction {
                plan: ask.plan,
                outcome: CorrectionEnd::Failed,
                attempt: self.attempt,
                hidden_request_id: None,
                why: None,
                discarded: text,
                tokens_discarded: earlier + tokens_discarded,
                tokens_kept: kept,
                waited_ms: 0,
            });
        }
        self.has_hidden_turn = correction.is_some() || ask.plan == Plan::Append;
        self.correction = correction;
        self.listen_afresh();
        self.replay(ask.plan);
        self.asking = Some(Asking {
            finding,
            plan: ask.plan,
            spent: Spent {
                kept,
                discarded: self.discarded,
                prefilled: ask.prefilled,
            },
            begins_content: ask.begins_content,
            joint: ask.joint.clone(),
            ask: Some(ask),
        });
    }

    /// Throws away the held frames from number `keep` on; gives their text, capped, and how many tokens it took.
    fn discard_from(&mut self, keep: usize) -> (String, u64) {
        let frames = self.held.split_off(keep.min(self.held.len()));
        let mut text = String::new();
        for (_, said) in frames.iter().flat_map(|frame| &frame.said) {
            text.push_str(said);
        }
        let chars_max = if self.guard.rulebook.excerpt_chars_max == 0 {
            0
        } else {
            DISCARDED_CHARS_MAX
        };
        let end = text
            .char_indices()
            .nth(chars_max)
            .map_or(text.len(), |(at, _)| at);
        text.truncate(end);
        let tokens = frames.iter().filter(|frame| frame.token).count() as u64;
        let end = self.held.back().map_or(self.ring.released(), |frame| frame.end);
        self.ring.truncate(end);
        if self.first.as_ref().is_some_and(|(first, _)| *first > end) {
            // The client never saw it: the next answer shows itself.
            self.first = None;
        }
        (text, tokens)
    }

    /// Forgets what was said by the attempt that is over.
    fn listen_afresh(&mut self) {
        self.clock = None;
        self.framer = Framer::new(self.guard.limits.frame_bytes_max);
        self.template = Template::default();
        self.calls = Calls::default();
        self.join = None;
        self.heartbeat_wanted = false;
        (self.done, self.error_seen, self.unreadable) = (false, false, false);
        (self.lost_noted, self.unspeakable) = (false, false);
        self.silent_error = None;
    }

    /// Shows the rules the text that stays, so that they stand where the next answer begins.
    fn replay(&mut self, plan: Plan) {
        let policy = self.guard.policy.on_failure;
        self.sentinel = Sentinel::new(
            Arc::clone(&self.guard.rulebook),
            Arc::clone(&self.request),
            policy,
        );
        // What they find was settled when it was found.
        let mut settled = Vec::new();
        let told = self.told.draft().cloned().unwrap_or_default();
        let lanes = [
            (Channel::Reasoning, &told.reasoning),
            (Channel::Content, &told.content),
        ];
        for (channel, text) in lanes {
            // A redone answer thinks anew; that thought is a lane of its own to the rules.
            if !text.is_empty() && (plan != Plan::Redo || channel == Channel::Content) {
                self.sentinel.feed(LaneId::first(channel), text, &mut settled);
            }
        }
        for frame in &mut self.held {
            for held in &mut frame.marks {
                let text = frame
                    .said
                    .iter()
                    .find(|(channel, _)| *channel == held.lane.channel)
                    .map_or("", |(_, text)| text);
                if let Some(mark) = self.sentinel.feed(held.lane, text, &mut settled) {
                    held.mark = mark;
                    held.grown = 0;
                }
            }
        }
        self.sentinel.resumed(&mut settled);
        settled.retain(|finding| finding.code == Code::RuleFailed);
        self.failed_rules = settled;
    }

    /// The hidden request that is to be made now. Taken once.
    pub fn take_ask(&mut self) -> Option<Ask> {
        self.asking.as_mut()?.ask.take()
    }

    /// Hidden requests so far: the number of the one that is under way, or was last.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether what comes in is the answer to a hidden request, of which the client may see nothing for a while.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.end.is_none() && self.join.is_some()
    }

    /// Whether the stream waits for the answer to a hidden request.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.end.is_none() && self.asking.is_some()
    }

    /// The answer to the hidden request begins. `clock` has been running since it was sent.
    pub fn on_answer(&mut self, now: Instant, clock: Option<StallClock>) {
        let Some(asking) = self.asking.take().filter(|_| self.end.is_none()) else {
            return;
        };
        let identity = self.identity();
        let splice = Splice::new(self.dialect, identity, asking.joint, asking.spent);
        // Behind a beginning of the content no thought can come.
        let doubt = asking.begins_content.then_some(asking.finding);
        self.join = Some(Join::new(splice, self.guard.limits.frame_bytes_max, doubt));
        self.clock = clock;
        // The wait was nothing that they waited for.
        for frame in &mut self.held {
            frame.since = now;
        }
        for finding in std::mem::take(&mut self.failed_rules) {
            self.settle(now, finding);
            if !self.is_open() {
                return;
            }
        }
    }

    /// More is known of the upstream now than when the hidden request was planned, and it has not been taken yet: it is
    /// planned again.
    pub fn replan(&mut self, now: Instant) {
        let Some(asking) = self.asking.take_if(|asking| asking.ask.is_some()) else {
            return;
        };
        match self.planned_anew(&asking.finding) {
            Ok(planned) => self.start_asking(asking.finding, planned),
            Err(reason) => self.give_up(now, &asking.finding, &reason.to_string()),
        }
    }

    /// Whether what the upstream can do is still unknown.
    #[must_use]
    pub fn is_upstream_unknown(&self) -> bool {
        self.source
            .as_ref()
            .is_some_and(|source| source.known.get().is_none())
    }

    /// The upstream refused the hidden request: another plan is tried where it was the prefill that was refused.
    pub fn on_refused(&mut self, now: Instant, why: &str) {
        let Some(asking) = self.asking.take().filter(|_| self.end.is_none()) else {
            return;
        };
        if asking.plan != Plan::Resume || self.prefill_refused {
            return self.give_up(now, &asking.finding, why);
        }
        self.ask_without_prefill(now, asking.finding, why);
    }

    /// The upstream cannot go on from a prefill after all: it is asked in another way, as part of the same attempt.
    pub(super) fn ask_without_prefill(&mut self, now: Instant, finding: Finding, why: &str) {
        self.prefill_refused = true;
        match self.planned_anew(&finding) {
            Ok(planned) => self.start_asking(finding, planned),
            Err(reason) => self.give_up(now, &finding, &format!("{why}; {reason}")),
        }
    }

    /// No answer came to the hidden request.
    pub fn on_no_answer(&mut self, now: Instant, why: &str) {
        if let Some(asking) = self.asking.take().filter(|_| self.end.is_none()) {
            self.give_up(now, &asking.finding, why);
        }
    }

    fn give_up(&mut self, now: Instant, finding: &Finding, why: &str) {
        if let Some(pending) = &mut self.pending {
            pending.incident.decision = Decision::Cut;
            if let Some(correction) = &mut pending.incident.correction {
                correction.outcome = CorrectionEnd::Failed;
                correction.why = Some(why.to_owned());
            }
        }
        self.close_correction(now);
        let code = finding.code;
        let message = format!(
            "Aegis ended this answer: {} ({code}). It was asked for again in vain: {why}.",
            finding.detail
        );
        self.end_with_error(code, &message);
    }

    /// The client has heard nothing of a hidden request for a while: a comment keeps its connection alive.
    pub fn on_waiting(&mut self) {
        if self.end.is_none() {
            self.out.push_back(bytes::Bytes::from_static(b":\n\n"));
        }
    }

    /// The client has gone. What is known of a hidden request is an incident all the same.
    pub fn on_client_left(&mut self, now: Instant) {
        if let Some(pending) = self.pending.as_mut()
            && let Some(correction) = &mut pending.incident.correction
        {
            correction.outcome = CorrectionEnd::Abandoned;
        }
        self.close_correction(now);
    }

    /// The new answer said its first word.
    pub(super) fn join_correction(&mut self, now: Instant) {
        let pending = self.pending.as_mut();
        if let Some(correction) = pending.and_then(|pending| pending.incident.correction.as_mut()) {
            correction.outcome = CorrectionEnd::Joined;
            self.close_correction(now);
        }
    }

    /// The new answer said its first word, or it never will: the incident is complete.
    pub(super) fn close_correction(&mut self, now: Instant) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        if let Some(correction) = &mut pending.incident.correction {
            correction.waited_ms = now.saturating_duration_since(pending.since).as_millis() as u64;
        }
        self.incidents.push(pending.incident);
    }
}
