//! The answer to a hidden request: its frames are spliced to what the client has, and then go the way of all frames.

use super::Relay;
use super::frames::BLANK_LINE;
use super::held::has_text;
use crate::decide::Finding;
use crate::event::{Channel, LaneId};
use crate::splice::Splice;
use crate::sse::framer::{FrameTooLarge, Framer};
use bytes::{Bytes, BytesMut};
use std::time::Instant;

/// The state of a later attempt. The ring holds what the client may get; here are the bytes that the upstream sends.
pub(super) struct Join {
    splice: Splice,
    framer: Framer,
    /// From the start of the unfinished frame on.
    bytes: BytesMut,
    /// The fault it was made for, while it is not certain that the upstream goes on with the content it was given. One
    /// that thinks instead has lost the thought of the prompt, or put the content inside it.
    doubt: Option<Finding>,
}

impl Join {
    pub(super) fn new(splice: Splice, frame_bytes_max: usize, doubt: Option<Finding>) -> Self {
        Self {
            doubt,
            splice,
            framer: Framer::new(frame_bytes_max),
            bytes: BytesMut::new(),
        }
    }

    /// Takes the upstream's bytes and gives the frames that are whole now.
    fn frames(&mut self, chunk: &[u8]) -> (Vec<Bytes>, Result<(), FrameTooLarge>) {
        let mut ends = Vec::new();
        let mut start = self.framer.frame_start();
        let scanned = self.framer.scan(chunk, &mut ends);
        self.bytes.extend_from_slice(chunk);
        let mut frames = Vec::with_capacity(ends.len());
        for end in ends {
            let mut frame = self.bytes.split_to((end - start) as usize);
            start = end;
            if frame == "\n" {
                // The late half of a CRLF, which its frame has already.
                continue;
            }
            if frame.ends_with(b"\r\n\r") {
                frame.extend_from_slice(b"\n");
            }
            frames.push(frame.freeze());
        }
        (frames, scanned)
    }
}

impl Relay {
    /// Bytes of the answer to a hidden request.
    pub(super) fn on_joined_bytes(&mut self, now: Instant, chunk: &[u8]) -> Result<(), FrameTooLarge> {
        let Some(join) = &mut self.join else {
            return Ok(());
        };
        let (frames, scanned) = join.frames(chunk);
        for frame in frames {
            self.on_joined_frame(now, &frame);
            if !self.is_open() {
                return Ok(());
            }
        }
        if scanned.is_err()
            && let Some(join) = &mut self.join
        {
            // Should the policy let it pass, the bytes follow as they are.
            let rest = join.bytes.split().freeze();
            self.ring.write(rest);
        }
        scanned
    }

    fn on_joined_frame(&mut self, now: Instant, frame: &Bytes) {
        let Some(join) = &mut self.join else { return };
        let mut out = Vec::new();
        join.splice.frame(frame.clone(), &mut out);
        let hidden = join.splice.hidden_reasoning().to_owned();
        let (mut content, mut thought) = (false, false);
        if let Ok(facts) = self.dialect.frame(frame) {
            // Also what does not show is a sign that the model moves.
            let token = has_text(&facts.deltas);
            if let Some(clock) = self.clock.as_mut().filter(|_| token || facts.progress) {
                clock.progress(now, token);
            }
            let says = |channel, trims: bool| {
                let mut deltas = facts
                    .deltas
                    .iter()
                    .filter(|delta| delta.lane == LaneId::first(channel));
                deltas.any(|delta| !if trims { delta.text.trim() } else { &delta.text }.is_empty())
            };
            (content, thought) = (says(Channel::Content, false), says(Channel::Reasoning, true));
        }
        if let Some(finding) = join.doubt.take_if(|_| content || thought)
            && !content
        {
            let why = "the upstream goes on thinking behind the text it was given";
            return self.ask_without_prefill(now, finding, why);
        }
        self.on_hidden(now, &hidden);
        self.on_spliced(now, out);
    }

    /// Reasoning that the client has already, or shall not see, can loop like any other.
    fn on_hidden(&mut self, now: Instant, reasoning: &str) {
        if reasoning.is_empty() {
            return;
        }
        let mut findings: Vec<Finding> = Vec::new();
        self.sentinel
            .feed(LaneId::first(Channel::Reasoning), reasoning, &mut findings);
        for finding in findings {
            self.settle(now, finding);
            if !self.is_open() {
                return;
            }
        }
    }

    fn on_spliced(&mut self, now: Instant, frames: Vec<Bytes>) {
        for bytes in frames {
            if !self.is_open() {
                return;
            }
            let start = self.ring.written();
            self.ring.write(bytes.clone());
            self.on_frame(now, &bytes, start, self.ring.written());
        }
    }

    /// The end of a later attempt's bytes: an event without its blank line, and what the splice still keeps.
    pub(super) fn on_joined_tail(&mut self, now: Instant) {
        let Some(join) = &mut self.join else { return };
        if !join.bytes.is_empty() {
            join.bytes.extend_from_slice(BLANK_LINE);
            let frame = join.bytes.split().freeze();
            if self
                .dialect
                .frame(&frame)
                .is_ok_and(|facts| facts.says_anything())
            {
                self.on_joined_frame(now, &frame);
            }
        }
        if !self.complete() {
            // Half a repetition of what is out, as like as not. It is asked for again, or lost with the answer.
            return;
        }
        let mut out = Vec::new();
        if let Some(join) = &mut self.join {
            join.splice.end(&mut out);
        }
        self.on_spliced(now, out);
    }
}
