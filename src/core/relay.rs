//! The relay of one streamed answer: upstream bytes in, released bytes out, and everything decided in between.
//!
//! Sans-IO. The caller hands in what happened ([`Relay::on_bytes`], [`Relay::on_end`], [`Relay::on_time`],
//! [`Relay::on_heartbeat`]) and then takes what follows: bytes for the client, a heartbeat to send, incidents to
//! record, and at last the end. One task per stream drives it; no frame waits for another task.

mod frames;
mod guard;
#[cfg(test)]
mod tests;

pub use guard::Guard;

use crate::decide::{Finding, Mode, decide};
use crate::dialect::{Dialect, Template};
use crate::error::Code;
use crate::incident::Incident;
use crate::limits::{FINDINGS_MAX, OUTPUT_BYTES_MAX};
use crate::request::RequestFacts;
use crate::ring::Ring;
use crate::sentinel::{Mark, Sentinel};
use crate::sse::framer::Framer;
use crate::sse::write::cut_frames;
use crate::stall::{Heartbeat, StallClock};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// How the upstream's body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamEnd {
    /// Properly, by its framing.
    Eof,
    /// The connection broke; why.
    Broken(String),
}

/// How the client's body has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Properly: everything that had to be said was said.
    Clean,
    /// By breaking the connection, as the upstream did. Only where the policy forbids an error event.
    Broken,
}

/// A ruled frame that may not leave yet.
struct HeldFrame {
    end: u64,
    marks: Box<[Mark]>,
}

/// State of one streamed answer.
pub struct Relay {
    guard: Arc<Guard>,
    dialect: Dialect,
    template: Template,
    framer: Framer,
    ring: Ring,
    sentinel: Sentinel,
    clock: Option<StallClock>,
    held: VecDeque<HeldFrame>,
    out: VecDeque<Bytes>,
    incidents: Vec<Incident>,
    /// Incidents so far.
    recorded: usize,
    heartbeat_wanted: bool,
    end: Option<End>,
    /// `[DONE]` was seen.
    done: bool,
    /// The upstream reported an error of its own in a form that clients see.
    error_seen: bool,
    silent_error: Option<String>,
    /// A204 was raised; in shadow mode the stream goes on after it.
    lost_noted: bool,
    /// A frame could not be read.
    unreadable: bool,
    /// Nothing is held any more: shadow mode, or a failure under `on_failure = "open"`.
    holds_off: bool,
    /// Frames can no longer be told apart; bytes pass as they come.
    unframed: bool,
    model: Option<String>,
    // Scratch of one call, kept for its memory.
    ends: Vec<u64>,
    findings: Vec<Finding>,
    marks: Vec<Mark>,
}

impl Relay {
    /// A relay for the answer to `request`. `clock` has been running since the request was sent.
    #[must_use]
    pub fn new(
        guard: Arc<Guard>,
        dialect: Dialect,
        request: Arc<RequestFacts>,
        clock: Option<StallClock>,
    ) -> Self {
        let sentinel = Sentinel::new(Arc::clone(&guard.rulebook), request, guard.policy.on_failure);
        Self {
            framer: Framer::new(guard.limits.frame_bytes_max),
            holds_off: guard.policy.mode == Mode::Shadow,
            guard,
            dialect,
            template: Template::default(),
            ring: Ring::default(),
            sentinel,
            clock,
            held: VecDeque::new(),
            out: VecDeque::new(),
            incidents: Vec::new(),
            recorded: 0,
            heartbeat_wanted: false,
            end: None,
            done: false,
            error_seen: false,
            silent_error: None,
            lost_noted: false,
            unreadable: false,
            unframed: false,
            model: None,
            ends: Vec::new(),
            findings: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The upstream sent bytes.
    pub fn on_bytes(&mut self, now: Instant, chunk: Bytes) {
        if self.end.is_some() {
            return;
        }
        if self.unframed {
            self.ring.write(chunk);
            return self.pass_all();
        }
        let mut ends = std::mem::take(&mut self.ends);
        let mut start = self.framer.frame_start();
        let scanned = self.framer.scan(&chunk, &mut ends);
        self.ring.write(chunk);
        for end in ends.drain(..) {
            let bytes = self.ring.bytes(start, end);
            self.on_frame(now, &bytes, start, end);
            start = end;
            if self.end.is_some() {
                break;
            }
        }
        self.ends = ends;
        if self.end.is_some() {
            return;
        }
        if let Err(error) = scanned {
            let finding = self.stream_finding(Code::FrameTooLarge, error.to_string());
            if !self.settle(finding) {
                self.unframed = true;
                // Neither tokens nor the finish can be seen from here on.
                self.clock = None;
                self.lost_noted = true;
                self.pass_all();
            }
        } else if !self.held.is_empty() && self.ring.held_bytes() > self.guard.limits.ring_bytes_max as u64 {
            self.on_hold_exhausted();
        }
    }

    /// The upstream's body is over.
    pub fn on_end(&mut self, now: Instant, how: &UpstreamEnd) {
        if self.end.is_some() {
            return;
        }
        self.on_tail(now);
        if self.end.is_some() {
            return;
        }
        let broken = matches!(how, UpstreamEnd::Broken(_)) && !self.done;
        let complete = self.complete() && !broken;
        let mut findings = Vec::new();
        if complete {
            self.sentinel.close(&mut findings);
        } else {
            self.sentinel.lost(&mut findings);
        }
        if findings.into_iter().any(|finding| self.settle(finding)) {
            return;
        }
        if complete || self.error_seen {
            self.pass_all();
            self.end = Some(End::Clean);
            return;
        }
        let lost = self.lost(self.how_lost(how));
        let disabled = lost.is_none() && !self.lost_noted;
        if !lost.is_some_and(|finding| self.settle(finding)) {
            // Not ours to change: what is left passes, and the stream ends as the upstream ended it.
            self.pass_all();
            self.end = Some(if *how == UpstreamEnd::Eof && !disabled {
                End::Clean
            } else {
                End::Broken
            });
        }
    }

    /// Time passed. Call when [`Self::deadline`] is reached.
    pub fn on_time(&mut self, now: Instant) {
        if self.end.is_none() {
            self.heartbeat_wanted |= self.clock.as_mut().is_some_and(|clock| clock.due(now));
        }
    }

    /// The upstream's answer to the heartbeat that [`Self::take_heartbeat_request`] asked for.
    pub fn on_heartbeat(&mut self, now: Instant, answer: &Heartbeat) {
        if self.end.is_some() {
            return;
        }
        let Some(stalled) = self.clock.as_mut().and_then(|clock| clock.heartbeat(now, answer)) else {
            return;
        };
        // Noted or shadowed: once is enough.
        self.clock = None;
        if self.guard.rulebook.policy(stalled.code).enabled {
            let finding = self.stream_finding(stalled.code, stalled.detail);
            self.settle(finding);
        }
    }

    /// Aegis itself must end this stream (shutdown).
    pub fn on_abort(&mut self, code: Code, detail: &str) {
        if self.end.is_none() {
            let finding = self.stream_finding(code, detail.to_owned());
            if !self.settle(finding) {
                self.end = Some(End::Broken);
            }
        }
    }

    /// The next bytes for the client, at most [`OUTPUT_BYTES_MAX`] where they come in several pieces: what was
    /// released together leaves in one write.
    pub fn take_output(&mut self) -> Option<Bytes> {
        let first = self.out.pop_front()?;
        let Some(second) = self.out.front() else {
            return Some(first);
        };
        if first.len() + second.len() > OUTPUT_BYTES_MAX {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(OUTPUT_BYTES_MAX);
        joined.extend_from_slice(&first);
        while let Some(next) = self
            .out
            .pop_front_if(|next| joined.len() + next.len() <= OUTPUT_BYTES_MAX)
        {
            joined.extend_from_slice(&next);
        }
        Some(joined.freeze())
    }

    /// Bytes that are ready for the client.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.out.iter().map(Bytes::len).sum()
    }

    /// How the client's body must end; `None` while the stream is open. Output may still be waiting.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// When [`Self::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.end.is_some() {
            None
        } else {
            self.clock.as_ref().and_then(StallClock::deadline)
        }
    }

    /// Whether the upstream must be asked for a sign of life now.
    pub fn take_heartbeat_request(&mut self) -> bool {
        std::mem::take(&mut self.heartbeat_wanted)
    }

    /// Incidents to record, oldest first.
    pub fn take_incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.incidents)
    }

    /// Whether there are incidents to record.
    #[must_use]
    pub fn has_incidents(&self) -> bool {
        !self.incidents.is_empty()
    }

    /// The model's name as the upstream gave it.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Bytes of the upstream's answer handed out so far.
    #[must_use]
    pub fn bytes_released(&self) -> u64 {
        self.ring.released()
    }

    fn pass_all(&mut self) {
        self.held.clear();
        self.ring.mark_ruled(self.ring.written());
        self.ring.release(self.ring.written(), &mut self.out);
    }

    fn stream_finding(&self, code: Code, detail: String) -> Finding {
        self.guard
            .rulebook
            .stream_finding(code, self.ring.ruled(), detail)
    }

    /// The finding that the answer is lost, unless that is switched off or was said before.
    fn lost(&mut self, detail: String) -> Option<Finding> {
        let wanted = self.guard.rulebook.policy(Code::UpstreamLost).enabled && !self.lost_noted;
        self.lost_noted |= wanted;
        wanted.then(|| self.stream_finding(Code::UpstreamLost, detail))
    }

    /// Whether the answer came to its end. A finish that stood in a frame which could not be read, and which the policy
    /// let pass, shows only by the `[DONE]` after it.
    fn complete(&self) -> bool {
        self.sentinel.finished() || self.done && self.unreadable
    }

    fn how_lost(&self, how: &UpstreamEnd) -> String {
        match (&self.silent_error, how) {
            (Some(message), _) => format!("the upstream reported: {message}"),
            (None, UpstreamEnd::Broken(why)) => format!("the connection to the upstream broke: {why}"),
            (None, UpstreamEnd::Eof) if self.done => {
                "the upstream said [DONE] without a finish reason".into()
            }
            (None, UpstreamEnd::Eof) => {
                "the upstream closed the stream before the answer was finished".into()
            }
        }
    }

    /// Decides on a finding and records it. Returns whether the stream was cut.
    fn settle(&mut self, finding: Finding) -> bool {
        let outcome = decide(&finding, &self.guard.policy);
        let message = format!("Aegis ended this answer: {} ({}).", finding.detail, finding.code);
        let code = finding.code;
        // What changes the stream is always recorded; what does not could otherwise go on without end.
        if outcome.takes_effect() || self.recorded < FINDINGS_MAX {
            self.recorded += 1;
            self.incidents
                .push(Incident::new(finding, outcome, self.ring.released()));
        }
        if outcome.takes_effect() {
            self.held.clear();
            self.ring.discard();
            self.out.push_back(cut_frames(code, &message));
            self.end = Some(End::Clean);
        }
        outcome.takes_effect()
    }
}
