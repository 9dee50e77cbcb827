//! What happens to each frame: read it, rule it, decide, release it or hold it.

use super::{HeldFrame, Relay, UpstreamEnd};
use crate::decide::Finding;
use crate::error::Code;
use crate::event::FrameFacts;
use std::time::Instant;

impl Relay {
    /// One whole frame: read it, rule it, decide, and release what may go. `bytes` are those of `start..end`, with
    /// the blank line that an unfinished last frame lacks.
    pub(super) fn on_frame(&mut self, now: Instant, bytes: &[u8], start: u64, end: u64) {
        self.marks.clear();
        let mut findings = std::mem::take(&mut self.findings);
        let facts = match self.template.read(bytes) {
            Some(facts) => Ok(facts),
            None => self
                .dialect
                .frame(bytes)
                .inspect(|facts| self.template.learn(bytes, facts)),
        };
        match facts {
            Ok(facts) => self.on_facts(now, facts, &mut findings),
            Err(error) => {
                self.unreadable = true;
                if let Some(clock) = &mut self.clock {
                    // It cannot be read, but something came.
                    clock.progress(now, true);
                }
                let detail = format!("a frame is {error}");
                findings.push(self.sentinel.failure(Code::UndecodableFrame, None, start, detail));
            }
        }
        self.ring.mark_ruled(end);
        // Ordered by offset: what follows the one that cuts lies in text that nobody will see.
        let cut = findings.drain(..).any(|finding| self.settle(finding));
        self.findings = findings;
        if !cut {
            self.release_frame(end);
        }
    }

    /// Feeds one frame's text to the rules; `marks` says afterwards where its lanes stand.
    fn on_facts(&mut self, now: Instant, facts: FrameFacts<'_>, findings: &mut Vec<Finding>) {
        let mut token = false;
        for delta in &facts.deltas {
            token |= !delta.text.is_empty();
            self.marks
                .extend(self.sentinel.feed(delta.lane, &delta.text, findings));
        }
        for (choice, reason) in &facts.finishes {
            self.sentinel.finish(*choice, *reason, findings);
        }
        if let Some(clock) = self.clock.as_mut().filter(|_| token || facts.progress) {
            clock.progress(now, token);
        }
        if self.model.is_none() {
            self.model = facts.model.as_deref().map(str::to_owned);
        }
        self.done |= facts.done;
        if facts.silent_error.is_some() {
            self.silent_error = facts.silent_error;
        }
        if facts.done && !self.error_seen && facts.error.is_none() && !self.complete() {
            // Clients stop reading at [DONE]: an error after it would be seen by nobody.
            findings.extend(self.lost(self.how_lost(&UpstreamEnd::Eof)));
        }
        if let Some(message) = facts.error {
            self.error_seen = true;
            if !self.held.is_empty() && !self.holds_off {
                // What is held is not whole and never will be: it must not slip out in front of the error.
                findings.extend(self.lost(format!("the upstream reported: {message}")));
            }
        }
    }

    /// Releases the frame that ends at `end`, or holds it with those that wait before it.
    fn release_frame(&mut self, end: u64) {
        if self.holds_off {
            return self.ring.release(end, &mut self.out);
        }
        let policy = &self.guard.release;
        while let Some(frame) = self.held.front() {
            if !frame
                .marks
                .iter()
                .all(|mark| self.sentinel.cleared(*mark, policy))
            {
                break;
            }
            self.ring.release(frame.end, &mut self.out);
            self.held.pop_front();
        }
        if self.held.is_empty() && self.marks.iter().all(|mark| self.sentinel.cleared(*mark, policy)) {
            self.ring.release(end, &mut self.out);
        } else {
            self.held.push_back(HeldFrame {
                end,
                marks: self.marks.drain(..).collect(),
            });
        }
    }

    /// The bytes after the last blank line. Parsers drop such an event, but its text must not pass unseen, and
    /// `data: [DONE]` without its blank line still means that the answer is complete.
    pub(super) fn on_tail(&mut self, now: Instant) {
        let (start, end) = (self.framer.frame_start(), self.ring.written());
        if start == end || self.unframed {
            return;
        }
        let mut bytes = self.ring.bytes(start, end).to_vec();
        bytes.extend_from_slice(b"\n\n");
        // Half a frame of an answer that broke off is not worth a finding of its own.
        if self.sentinel.finished() || self.dialect.frame(&bytes).is_ok() {
            self.on_frame(now, &bytes, start, end);
        }
    }

    pub(super) fn on_hold_exhausted(&mut self) {
        let detail = format!(
            "{} bytes are held back, the limit is {}",
            self.ring.held_bytes(),
            self.guard.limits.ring_bytes_max
        );
        let finding = self
            .sentinel
            .failure(Code::HoldExhausted, None, self.ring.released(), detail);
        if !self.settle(finding) {
            self.holds_off = true;
            if let Some(last) = self.held.back().map(|frame| frame.end) {
                self.held.clear();
                self.ring.release(last, &mut self.out);
            }
        }
    }
}
