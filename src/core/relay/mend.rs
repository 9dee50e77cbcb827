//! Certain mends: frames that are held are changed, or the answer ends where it is whole.

use super::held::HeldFrame;
use super::{End, Relay};
use crate::decide::Finding;
use crate::event::{Channel, FinishReason, LaneId};
use crate::rule::Mend;
use crate::splice::Identity;
use crate::splice::edit::replace;
use bytes::Bytes;
use std::ops::Range;
use std::time::Instant;

impl Relay {
    /// Whether the finding has a mend and its place is still held.
    pub(super) fn can_mend(&self, finding: &Finding) -> bool {
        let (Some(mend), Some(lane)) = (&finding.mend, finding.lane) else {
            return false;
        };
        if let Channel::ToolArguments(number) = lane.channel
            && !self.calls.keeps_index(lane.choice, number)
        {
            // Its frames have another index, under which they also know another call.
            return false;
        }
        let first = self
            .held
            .iter()
            .flat_map(|frame| &frame.marks)
            .find(|held| held.lane == lane)
            .map(|held| held.mark.from);
        match mend {
            Mend::Replace { span, .. } if span.is_empty() => {
                // A frame of Aegis's own can only speak for choice 0.
                let own_frame = lane.choice == 0 && self.identity().is_some() && !self.told.finish;
                self.place_of(lane, span.start).is_some() || own_frame
            }
            Mend::Replace { span, text } => {
                first.is_some_and(|first| first <= span.start) && self.can_replace(lane, span, text)
            }
            // What has left behind the place is only the white space of the flood.
            Mend::End { .. } => {
                lane.choice == 0
                    && self.request.choices <= 1
                    && self.identity().is_some()
                    && !self.told.finish
                    // A call that is not whole would be left behind.
                    && !self.told.call
                    // Nor may other texts, as those of several prompts.
                    && !self.told.other
                    && self.held.iter().all(|frame| !frame.call && !frame.other)
            }
        }
    }

    pub(super) fn mend(&mut self, now: Instant, lane: LaneId, mend: &Mend) {
        match mend {
            Mend::Replace { span, text } if span.is_empty() => self.insert(now, lane, span.start, text),
            Mend::Replace { span, text } => self.replace(lane, span, text),
            Mend::End { at } => self.finish_at(now, lane, *at),
        }
    }

    /// The held frame and the mark in it whose piece of `lane` ends at `at`: text is added there.
    fn place_of(&self, lane: LaneId, at: u64) -> Option<(usize, usize)> {
        let frames = self.held.iter().enumerate().rev();
        frames
            .filter(|(_, frame)| !frame.finish || frame.marks.iter().any(|held| held.lane == lane))
            .find_map(|(index, frame)| {
                let mark = frame
                    .marks
                    .iter()
                    .position(|held| held.lane == lane && held.mark.at == at)?;
                Some((index, mark))
            })
    }

    /// Adds text at the end of a lane: to the frame that ends there if it is held, else in a frame of its own in front
    /// of the newest, which is the one that finishes the answer.
    fn insert(&mut self, now: Instant, lane: LaneId, at: u64, text: &str) {
        if let Some((index, mark)) = self.place_of(lane, at) {
            let held = self.held[index].marks[mark];
            let end = (held.mark.at - held.mark.from).saturating_add_signed(held.grown) as usize;
            if self.edit(index, mark, end..end, text) {
                return;
            }
        }
        let Some(identity) = self.identity() else { return };
        let bytes = identity.text(lane.channel, text);
        let index = self.held.len().saturating_sub(1);
        let end = match index.checked_sub(1) {
            Some(before) => self.held[before].end,
            None => self.ring.released(),
        };
        let added = HeldFrame::added(end, lane, text.to_owned(), bytes, now);
        self.held.insert(index, added);
    }

    /// Replaces bytes of a lane. Where the place spans frames, the first takes the text and the others lose theirs.
    fn replace(&mut self, lane: LaneId, span: &Range<u64>, text: &str) {
        let mut with = text;
        for index in 0..self.held.len() {
            for mark in 0..self.held[index].marks.len() {
                let held = self.held[index].marks[mark];
                let (from, to) = (span.start.max(held.mark.from), span.end.min(held.mark.at));
                if held.lane != lane || from >= to {
                    continue;
                }
                let shifted = |at: u64| (at - held.mark.from).saturating_add_signed(held.grown) as usize;
                if self.edit(index, mark, shifted(from)..shifted(to), with) {
                    with = "";
                }
            }
        }
    }

    /// Whether every frame that a replacement touches can be changed.
    fn can_replace(&self, lane: LaneId, span: &Range<u64>, text: &str) -> bool {
        (0..self.held.len()).all(|index| {
            self.held[index].marks.iter().all(|held| {
                let (from, to) = (span.start.max(held.mark.from), span.end.min(held.mark.at));
                let shifted = |at: u64| (at - held.mark.from).saturating_add_signed(held.grown) as usize;
                held.lane != lane
                    || from >= to
                    || replace(
                        self.dialect,
                        &self.bytes_of(index),
                        lane,
                        shifted(from)..shifted(to),
                        text,
                    )
                    .is_some()
            })
        })
    }

    /// What a held frame is now.
    fn bytes_of(&self, index: usize) -> Bytes {
        let start = match index.checked_sub(1) {
            Some(before) => self.held[before].end,
            None => self.ring.released(),
        };
        let frame = &self.held[index];
        match &frame.edited {
            Some(bytes) => bytes.clone(),
            None => self.ring.bytes(start, frame.end),
        }
    }

    /// Changes bytes of the text that a held frame has of a lane. Whether that was possible.
    fn edit(&mut self, index: usize, mark: usize, range: Range<usize>, with: &str) -> bool {
        let bytes = self.bytes_of(index);
        let frame = &mut self.held[index];
        let held = &mut frame.marks[mark];
        let Some(edited) = replace(self.dialect, &bytes, held.lane, range.clone(), with) else {
            return false;
        };
        held.grown += with.len() as i64 - range.len() as i64;
        let channel = held.lane.channel;
        let said = frame.said.iter_mut().find(|(said, _)| *said == channel);
        match said {
            Some((_, text)) if text.get(range.clone()).is_some() => text.replace_range(range, with),
            None if held.lane.choice == 0 && !with.is_empty() => frame.said.push((channel, with.to_owned())),
            _ => {}
        }
        frame.edited = Some(edited);
        true
    }

    /// Ends the answer at byte `at` of a lane, as the primary should have done.
    fn finish_at(&mut self, now: Instant, lane: LaneId, at: u64) {
        for index in 0..self.held.len() {
            for mark in 0..self.held[index].marks.len() {
                let held = self.held[index].marks[mark];
                if held.lane != lane || held.mark.at <= at {
                    continue;
                }
                let shifted = |at: u64| (at - held.mark.from).saturating_add_signed(held.grown) as usize;
                let (from, to) = (shifted(at.max(held.mark.from)), shifted(held.mark.at));
                if !self.edit(index, mark, from..to, "") {
                    self.held[index].edited = Some(Bytes::new());
                }
            }
        }
        let Some(identity) = self.identity() else { return };
        while let Some(frame) = self.held.pop_front() {
            let emptied = frame.edited.is_some() && frame.said.iter().all(|(_, text)| text.is_empty());
            if emptied || frame.finish {
                self.discarded += u64::from(frame.token);
                self.ring.skip(frame.end);
            } else {
                self.let_out(&frame);
            }
        }
        self.ring.discard();
        self.out.push_back(identity.finish(FinishReason::Stop));
        if self.request.usage {
            let usage = identity.usage(0, self.told.tokens(), self.discarded);
            self.out.push_back(usage);
        }
        self.out.push_back(identity.end());
        self.close_correction(now);
        self.end = Some(End::Clean);
    }

    /// What the client has been told about the answer, if anything.
    pub(super) fn identity(&self) -> Option<Identity> {
        let (_, frame) = self.first.as_ref()?;
        Identity::read(self.dialect, frame)
    }
}
