//! What happens to each frame: read it, rule it, decide, release it or hold it.

use super::held::{HeldFrame, HeldMark, ends_in_space, has_text, spaces_at_end};
use super::{End, Relay, UpstreamEnd};
use crate::decide::Finding;
use crate::dialect::{Template, error_status};
use crate::error::Code;
use crate::event::FrameFacts;
use crate::splice::Identity;
use bytes::Bytes;
use std::time::Instant;

/// What ends an event.
pub(super) const BLANK_LINE: &[u8] = b"\n\n";

impl Relay {
    /// One whole frame: read it, rule it, decide, and release what may go. `bytes` are those of `start..end`, with
    /// the blank line that an unfinished last frame lacks.
    pub(super) fn on_frame(&mut self, now: Instant, bytes: &[u8], start: u64, end: u64) {
        if bytes == b"\n" {
            return self.on_line_end(start, end);
        }
        self.marks.clear();
        let mut findings = std::mem::take(&mut self.findings);
        let facts = match self.template.read(bytes) {
            Some(facts) => Ok(facts),
            None => self.dialect.frame_among(bytes, &mut self.calls).inspect(|facts| {
                if facts.names.is_empty() {
                    self.template.learn(bytes, facts);
                } else {
                    // What looks like an earlier call's piece may be this one's.
                    self.template = Template::default();
                }
            }),
        };
        let facts = facts.unwrap_or_else(|error| {
            self.unreadable = true;
            // Whether its text leaves or not, it is not known what the client has.
            self.blind = true;
            if let Some(clock) = &mut self.clock {
                // It cannot be read, but something came.
                clock.progress(now, true);
            }
            let detail = format!("a frame is {error}");
            findings.push(self.sentinel.failure(Code::UndecodableFrame, None, start, detail));
            FrameFacts::default()
        });
        let says = || facts.progress || !facts.deltas.is_empty();
        if self.first.is_none() && (says() || Identity::read(self.dialect, bytes).is_some()) {
            self.first = Some((end, Bytes::copy_from_slice(bytes)));
        }
        self.on_facts(now, &facts, bytes, &mut findings);
        self.ring.mark_ruled(end);
        if findings.is_empty() {
            self.findings = findings;
            if self.unspeakable {
                return self.break_off(now);
            }
            return self.release_frame(now, end, &facts);
        }
        self.hold_frame(now, end, &facts);
        // Ordered by offset: what follows the one that ends or replaces the answer lies in text that nobody will see.
        for finding in findings.drain(..) {
            self.settle(now, finding);
            if !self.is_open() {
                break;
            }
        }
        self.findings = findings;
        if self.is_open() && self.unspeakable {
            return self.break_off(now);
        }
        if self.is_open() {
            self.release_held();
        }
    }

    /// Ends the answer as the upstream's own failure would have, where no error may be written.
    fn break_off(&mut self, now: Instant) {
        self.held.clear();
        self.ring.discard();
        self.close_correction(now);
        self.end = Some(End::Broken);
    }

    /// A line end by itself, as a rule the second half of a CRLF that came in two reads: it goes the way of the frame
    /// before it, so that what the client gets does not depend on the reads.
    fn on_line_end(&mut self, start: u64, end: u64) {
        self.ring.mark_ruled(end);
        match self.held.back_mut() {
            Some(frame) => frame.end = end,
            None if self.replaced_to == Some(start) => self.ring.skip(end),
            None => self.ring.release(end, &mut self.out),
        }
    }

    /// Feeds one frame's text to the rules; `marks` says afterwards where its lanes stand.
    fn on_facts(&mut self, now: Instant, facts: &FrameFacts<'_>, bytes: &[u8], findings: &mut Vec<Finding>) {
        for (lane, name) in &facts.names {
            self.sentinel.name(*lane, name, findings);
        }
        for delta in &facts.deltas {
            let mark = self.sentinel.feed(delta.lane, &delta.text, findings);
            self.marks.extend(mark);
        }
        for (choice, reason) in &facts.finishes {
            self.sentinel.finish(*choice, *reason, findings);
        }
        let token = has_text(&facts.deltas);
        if let Some(clock) = self.clock.as_mut().filter(|_| token || facts.progress) {
            clock.progress(now, token);
        }
        if token || !facts.finishes.is_empty() {
            self.join_correction(now);
        }
        if self.model.is_none() {
            self.model = facts.model.as_deref().map(str::to_owned);
        }
        self.done |= facts.done;
        if let Some(message) = &facts.silent_error {
            self.on_silent_error(message, findings);
        }
        if facts.done && !self.error_seen && facts.error.is_none() && !self.complete() {
            // Clients stop reading at [DONE]: an error after it would be seen by nobody.
            findings.extend(self.lost(self.how_lost(&UpstreamEnd::Eof)));
        }
        if let Some(message) = &facts.error {
            self.on_upstream_error(message, bytes, findings);
        }
    }

    /// The upstream reports an error in a form that clients do not see.
    fn on_silent_error(&mut self, message: &str, findings: &mut Vec<Finding>) {
        let first = self.silent_error.is_none();
        let detail = self.reported(message);
        self.silent_error = Some(detail.clone());
        if self.hears_of_hidden_turn() {
            self.unspeakable = true;
            findings.extend(self.lost(detail));
        } else if first && self.may_ask_after_loss(&detail) {
            findings.extend(self.lost(detail));
        }
    }

    /// What may be repeated of an error that the upstream reported. Servers quote the request in their errors, and a
    /// hidden one can have a turn that the client must not see.
    fn reported(&self, message: &str) -> String {
        if self.hears_of_hidden_turn() {
            "the upstream reported an error".to_owned()
        } else {
            format!("the upstream reported: {message}")
        }
    }

    /// What comes in answers a request with a turn of Aegis's own.
    fn hears_of_hidden_turn(&self) -> bool {
        self.join.is_some() && self.has_hidden_turn
    }

    /// The upstream reports an error of its own inside the stream.
    fn on_upstream_error(&mut self, message: &str, bytes: &[u8], findings: &mut Vec<Finding>) {
        let first = !std::mem::replace(&mut self.error_seen, true);
        let detail = self.reported(message);
        if self.hears_of_hidden_turn() {
            // Its frame must not leave, so the answer is lost even where that is no fault to the config.
            self.unspeakable = true;
            findings.extend(self.lost(detail));
            return;
        }
        // A fault of the request would come again; a fault of the server may be gone.
        let of_server = error_status(bytes).is_none_or(|status| status >= 500);
        let again = first && of_server && self.may_ask_after_loss(&detail);
        // What waits for more than the next token is not whole and never will be: it must not slip out in front of the
        // error. A client that waits for one body has nothing yet, and the error is its answer.
        let whole = self.whole_frames();
        let unfinished = !self.holds_off && whole < self.held.len();
        if again || unfinished && !self.guard.collects {
            findings.extend(self.lost(detail));
        } else if unfinished {
            for frame in self.held.iter_mut().skip(whole) {
                self.discarded += u64::from(frame.token);
                frame.empty();
            }
        }
    }

    /// How many of the held frames, from the oldest, wait for nothing but the next token.
    fn whole_frames(&self) -> usize {
        let policy = self.guard.release;
        let cleared = |sentinel: &crate::sentinel::Sentinel, frame: &HeldFrame| {
            frame
                .marks
                .iter()
                .all(|held| sentinel.cleared(held.mark, &policy))
        };
        self.held
            .iter()
            .take_while(|frame| cleared(&self.sentinel, frame))
            .count()
    }

    /// Whether text that ends in white space waits for the token after it, so that the answer could be continued
    /// exactly: models continue from a word, not from a space.
    fn holds_spaces(&self) -> bool {
        self.source.is_some()
            && !self.holds_off
            && self.request.choices <= 1
            && !self.request.logprobs
            && self.told.is_continuable()
    }

    /// Releases the frame that ends at `end`, or holds it with those that wait before it.
    fn release_frame(&mut self, now: Instant, end: u64, facts: &FrameFacts<'_>) {
        let policy = &self.guard.release;
        let free = self.held.is_empty()
            && (self.holds_off || self.marks.iter().all(|mark| self.sentinel.cleared(*mark, policy)));
        if free && !(ends_in_space(&facts.deltas) && self.holds_spaces()) {
            self.ring.release(end, &mut self.out);
            self.told.frame(facts);
            return;
        }
        self.hold_frame(now, end, facts);
        self.release_held();
    }

    fn hold_frame(&mut self, now: Instant, end: u64, facts: &FrameFacts<'_>) {
        let mut frame = HeldFrame::new(end, facts, now);
        frame.marks = self
            .marks
            .iter()
            .map(|mark| HeldMark {
                lane: self.sentinel.id(*mark),
                mark: *mark,
                grown: 0,
            })
            .collect();
        self.held.push_back(frame);
    }

    /// Releases the held frames that may go.
    pub(super) fn release_held(&mut self) {
        self.release_cleared(self.holds_spaces());
    }

    /// Releases the held frames that no rule objects to; `spaces` holds back white space at their end.
    pub(super) fn release_cleared(&mut self, spaces: bool) {
        let mut ready = self.held.len();
        if spaces {
            // White space waits for the text after it.
            ready -= spaces_at_end(self.held.iter().map(HeldFrame::space));
        }
        let policy = self.guard.release;
        for _ in 0..ready {
            let cleared = self.holds_off
                || self.held.front().is_some_and(|frame| {
                    frame
                        .marks
                        .iter()
                        .all(|held| self.sentinel.cleared(held.mark, &policy))
                });
            if !cleared {
                break;
            }
            if let Some(frame) = self.held.pop_front() {
                self.let_out(&frame);
            }
        }
    }

    /// A held frame leaves, or what was put in its place.
    pub(super) fn let_out(&mut self, frame: &HeldFrame) {
        match &frame.edited {
            None => self.ring.release(frame.end, &mut self.out),
            Some(bytes) => {
                self.ring.skip(frame.end);
                self.replaced_to = Some(frame.end);
                if !bytes.is_empty() {
                    self.out.push_back(bytes.clone());
                }
            }
        }
        self.told.held(frame);
    }

    /// Everything leaves, ruled or not.
    pub(super) fn pass_all(&mut self) {
        self.ring.mark_ruled(self.ring.written());
        while let Some(frame) = self.held.pop_front() {
            self.let_out(&frame);
        }
        self.ring.release(self.ring.written(), &mut self.out);
    }

    /// The bytes after the last blank line. Parsers drop such an event, but its text must not pass unseen, and
    /// `data: [DONE]` without its blank line still means that the answer is complete.
    pub(super) fn on_tail(&mut self, now: Instant) {
        if self.unframed {
            return;
        }
        if self.join.is_some() {
            return self.on_joined_tail(now);
        }
        let (start, end) = (self.framer.frame_start(), self.ring.written());
        if start == end {
            return;
        }
        let mut bytes = self.ring.bytes(start, end).to_vec();
        bytes.extend_from_slice(BLANK_LINE);
        if self.sentinel.finished() {
            return self.on_frame(now, &bytes, start, end);
        }
        // Half a frame of an answer that broke off is not worth a finding of its own, and says nothing that could stay.
        let Ok(facts) = self.dialect.frame(&bytes) else {
            return;
        };
        if !facts.says_anything() {
            return;
        }
        let finishes = self.request.choices <= 1 && !facts.finishes.is_empty();
        let enabled = self.guard.rulebook.policy(Code::UpstreamLost).enabled;
        let passes = finishes || self.holds_off || !enabled;
        let end = if passes {
            end
        } else {
            // Frames of Aegis's own will follow, and parsers would take them for the rest of this one.
            self.ring.write(Bytes::from_static(BLANK_LINE));
            self.ring.written()
        };
        self.on_frame(now, &bytes, start, end);
    }

    /// More is held, or for longer, than the limits allow.
    pub(super) fn on_hold_exhausted(&mut self, now: Instant, detail: String) {
        let finding = self
            .sentinel
            .failure(Code::HoldExhausted, None, self.ring.released(), detail);
        self.settle(now, finding);
        if self.is_open() {
            self.holds_off = true;
            self.release_held();
        }
    }
}
