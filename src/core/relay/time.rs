//! What happens while nothing comes: silence, holds that last too long, and an end from outside.

use super::{End, Relay};
use crate::error::Code;
use crate::stall::{Heartbeat, StallClock};
use std::time::{Duration, Instant};

impl Relay {
    /// Time passed. Call when [`Self::deadline`] is reached.
    pub fn on_time(&mut self, now: Instant) {
        if !self.is_open() {
            return;
        }
        self.heartbeat_wanted |= self.clock.as_mut().is_some_and(|clock| clock.due(now));
        if self.hold_is_over(now) {
            // White space that waits for the next token has not to wait for ever.
            self.release_cleared(false);
        }
        if self.hold_is_over(now) {
            let most = self.guard.limits.hold_ms;
            self.on_hold_exhausted(
                now,
                format!("text is held back for {most} ms, which is the limit"),
            );
        }
    }

    fn hold_is_over(&self, now: Instant) -> bool {
        self.hold_deadline().is_some_and(|deadline| now >= deadline)
    }

    /// When the oldest held frame has waited as long as it may.
    fn hold_deadline(&self) -> Option<Instant> {
        let oldest = self.held.front().filter(|_| !self.holds_off)?;
        oldest
            .since
            .checked_add(Duration::from_millis(self.guard.limits.hold_ms))
    }

    /// The upstream's answer to the heartbeat that [`Self::take_heartbeat_request`] asked for.
    pub fn on_heartbeat(&mut self, now: Instant, answer: &Heartbeat) {
        if !self.is_open() {
            return;
        }
        let Some(stalled) = self.clock.as_mut().and_then(|clock| clock.heartbeat(now, answer)) else {
            return;
        };
        // Noted or shadowed: once is enough.
        self.clock = None;
        let mut finding = None;
        if matches!(answer, Heartbeat::Dead(_)) {
            // A server that is gone may come back; one that stands still will not move for another request.
            finding = self.lost(stalled.detail.clone());
        }
        if finding.is_none() && self.guard.rulebook.policy(stalled.code).enabled {
            finding = Some(self.stream_finding(stalled.code, stalled.detail));
        }
        if let Some(finding) = finding {
            self.settle(now, finding);
        }
    }

    /// Aegis itself must end this stream (shutdown).
    pub fn on_abort(&mut self, now: Instant, code: Code, detail: &str) {
        if self.end.is_some() {
            return;
        }
        self.asking = None;
        let finding = self.stream_finding(code, detail.to_owned());
        self.settle(now, finding);
        if self.end.is_none() {
            self.asking = None;
            self.close_correction(now);
            self.end = Some(End::Broken);
        }
    }

    /// When [`Self::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if !self.is_open() {
            return None;
        }
        let clock = self.clock.as_ref().and_then(StallClock::deadline);
        match (clock, self.hold_deadline()) {
            (Some(clock), Some(hold)) => Some(clock.min(hold)),
            (clock, hold) => clock.or(hold),
        }
    }

    /// Whether a stall clock watches the upstream's silence. Where none does, or any more, the driver's own limit on
    /// silence counts; [`Self::deadline`] does not tell, for it is also that of text which is held.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.is_open() && self.clock.is_some()
    }

    /// Whether the upstream must be asked for a sign of life now.
    pub fn take_heartbeat_request(&mut self) -> bool {
        std::mem::take(&mut self.heartbeat_wanted)
    }
}
