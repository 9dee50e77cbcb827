//! The relay of one streamed answer: upstream bytes in, released bytes out, and everything decided in between.
//!
//! Sans-IO. The caller hands in what happened ([`Relay::on_bytes`], [`Relay::on_end`], [`Relay::on_time`],
//! [`Relay::on_heartbeat`]) and then takes what follows: bytes for the client, a heartbeat to send, incidents to
//! record, a hidden request to make, and at last the end. One task per stream drives it; no frame waits for another task.
//!
//! A stream is open, or waits for the answer to a hidden request, or is over:
//!
//! ```text
//!          finding: Correct                    on_answer
//!   open ───────────────────> asking (take_ask) ─────────> open, spliced
//!    │                           │ on_refused: another plan
//!    │ the end, Cut, Repair(End) │ on_no_answer: Cut
//!    └────────────> over <───────┘
//! ```

mod ask;
mod frames;
mod guard;
mod held;
mod joined;
mod mend;
mod outgoing;
mod plan;
mod settle;
#[cfg(test)]
mod tests;
mod time;

pub use guard::Guard;

use crate::capabilities::Known;
use crate::decide::{Finding, Mode};
use crate::dialect::calls::Calls;
use crate::dialect::{Dialect, Template};
use crate::error::Code;
use crate::event::{Channel, LaneId};
use crate::incident::Incident;
use crate::request::RequestFacts;
use crate::ring::Ring;
use crate::sentinel::{Mark, Sentinel};
use crate::sse::framer::{FrameTooLarge, Framer};
use crate::stall::StallClock;
use ask::{Asking, Pending};
use bytes::Bytes;
use held::{HeldFrame, Told};
use joined::Join;
use outgoing::Outgoing;
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

/// What a hidden request is made from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The body of the client's request, as it went upstream.
    pub body: Bytes,
    /// What the upstream can do.
    pub known: Known,
}

/// State of one streamed answer.
pub struct Relay {
    guard: Arc<Guard>,
    dialect: Dialect,
    request: Arc<RequestFacts>,
    /// `None` where nothing is ever asked again.
    source: Option<Source>,
    template: Template,
    calls: Calls,
    framer: Framer,
    ring: Ring,
    sentinel: Sentinel,
    clock: Option<StallClock>,
    held: VecDeque<HeldFrame>,
    told: Told,
    /// The first frame that says anything, and where it ends in the ring: it tells the client what answer this is.
    first: Option<(u64, Bytes)>,
    out: Outgoing,
    incidents: Vec<Incident>,
    /// Incidents so far.
    recorded: usize,
    heartbeat_wanted: bool,
    asking: Option<Asking>,
    /// The splice of the answer that is coming in, from the second on.
    join: Option<Join>,
    /// Hidden requests so far.
    attempt: u32,
    /// What they were made for.
    corrected: Vec<(Code, Option<LaneId>)>,
    pending: Option<Pending>,
    /// Certain mends so far.
    mends: u32,
    /// Where the last frame ended in the ring that something else left in place of.
    replaced_to: Option<u64>,
    /// Tokens thrown away so far.
    discarded: u64,
    /// Text came that could not be read, and may have left.
    blind: bool,
    /// The correction of the last hidden request, and the channel that it speaks of.
    correction: Option<(String, Option<Channel>)>,
    /// The last hidden request had a turn of Aegis's own.
    has_hidden_turn: bool,
    /// The upstream said something that must not leave.
    unspeakable: bool,
    /// Rules that failed while they were shown the text that stays.
    failed_rules: Vec<Finding>,
    /// The upstream does not take a prefill after all.
    prefill_refused: bool,
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
        let sentinel = Sentinel::new(
            Arc::clone(&guard.rulebook),
            Arc::clone(&request),
            guard.policy.on_failure,
        );
        Self {
            framer: Framer::new(guard.limits.frame_bytes_max),
            holds_off: guard.policy.mode == Mode::Shadow,
            guard,
            dialect,
            request,
            source: None,
            template: Template::default(),
            calls: Calls::default(),
            ring: Ring::default(),
            sentinel,
            clock,
            held: VecDeque::new(),
            told: Told::textless(),
            first: None,
            out: Outgoing::default(),
            incidents: Vec::new(),
            recorded: 0,
            heartbeat_wanted: false,
            asking: None,
            join: None,
            attempt: 0,
            corrected: Vec::new(),
            pending: None,
            mends: 0,
            replaced_to: None,
            discarded: 0,
            blind: false,
            correction: None,
            has_hidden_turn: false,
            unspeakable: false,
            failed_rules: Vec::new(),
            prefill_refused: false,
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

    /// Allows hidden requests, made from `source`.
    #[must_use]
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = (self.guard.corrections.corrections_max > 0).then_some(source);
        self.told = match self.source {
            Some(_) => Told::default(),
            None => Told::textless(),
        };
        self
    }

    /// Whether the upstream is listened to: the stream is not over and waits for no hidden request.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.end.is_none() && self.asking.is_none()
    }

    /// The upstream sent bytes.
    pub fn on_bytes(&mut self, now: Instant, chunk: Bytes) {
        if !self.is_open() {
            return;
        }
        if self.unframed {
            self.ring.write(chunk);
            return self.pass_all();
        }
        let scanned = if self.join.is_some() {
            self.on_joined_bytes(now, &chunk)
        } else {
            self.on_first_bytes(now, chunk)
        };
        if !self.is_open() {
            return;
        }
        if let Err(error) = scanned {
            let finding = self.stream_finding(Code::FrameTooLarge, error.to_string());
            self.settle(now, finding);
            if self.is_open() {
                self.unframed = true;
                // Neither tokens nor the finish can be seen from here on.
                self.clock = None;
                self.lost_noted = true;
                self.pass_all();
            }
        } else if !self.held.is_empty() && self.ring.held_bytes() > self.guard.limits.ring_bytes_max as u64 {
            let (held, most) = (self.ring.held_bytes(), self.guard.limits.ring_bytes_max);
            self.on_hold_exhausted(now, format!("{held} bytes are held back, the limit is {most}"));
        }
    }

    /// Bytes of the first attempt: they stay where they are until they leave.
    fn on_first_bytes(&mut self, now: Instant, chunk: Bytes) -> Result<(), FrameTooLarge> {
        let mut ends = std::mem::take(&mut self.ends);
        let mut start = self.framer.frame_start();
        let scanned = self.framer.scan(&chunk, &mut ends);
        self.ring.write(chunk);
        for end in ends.drain(..) {
            let bytes = self.ring.bytes(start, end);
            self.on_frame(now, &bytes, start, end);
            start = end;
            if !self.is_open() {
                break;
            }
        }
        self.ends = ends;
        scanned
    }

    /// The upstream's body is over.
    pub fn on_end(&mut self, now: Instant, how: &UpstreamEnd) {
        if !self.is_open() {
            return;
        }
        self.on_tail(now);
        if !self.is_open() {
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
        for finding in findings {
            self.settle(now, finding);
            if !self.is_open() {
                return;
            }
        }
        if complete || self.error_seen {
            self.pass_all();
            self.close_correction(now);
            self.end = Some(End::Clean);
            return;
        }
        let lost = self.lost(self.how_lost(how));
        let disabled = lost.is_none() && !self.lost_noted;
        if let Some(finding) = lost {
            self.settle(now, finding);
        }
        if self.is_open() {
            // Not ours to change: what is left passes, and the stream ends as the upstream ended it.
            self.pass_all();
            self.close_correction(now);
            self.end = Some(if *how == UpstreamEnd::Eof && !disabled {
                End::Clean
            } else {
                End::Broken
            });
        }
    }

    /// The next bytes for the client, at most [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX) where they come in
    /// several pieces.
    pub fn take_output(&mut self) -> Option<Bytes> {
        self.out.take()
    }

    /// Bytes that are ready for the client.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.out.bytes()
    }

    /// How the client's body must end; `None` while the stream is open. Output may still be waiting.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
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
            (Some(reported), _) => reported.clone(),
            (None, UpstreamEnd::Broken(why)) => format!("the connection to the upstream broke: {why}"),
            (None, UpstreamEnd::Eof) if self.done => {
                "the upstream said [DONE] without a finish reason".into()
            }
            (None, UpstreamEnd::Eof) => {
                "the upstream closed the stream before the answer was finished".into()
            }
        }
    }
}
