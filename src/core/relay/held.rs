//! The frames that were ruled and may not leave yet, and the text that has left.

use crate::continuation::Draft;
use crate::event::{Channel, Delta, FrameFacts, LaneId};
use crate::limits::DRAFT_BYTES_MAX;
use crate::sentinel::Mark;
use bytes::Bytes;
use std::time::Instant;

/// A ruled frame that may not leave yet.
#[derive(Debug)]
pub(super) struct HeldFrame {
    /// Where it ends in the ring.
    pub(super) end: u64,
    /// What it adds to its lanes.
    pub(super) marks: Vec<HeldMark>,
    /// Its text of the lanes that can be continued.
    pub(super) said: Vec<(Channel, String)>,
    /// It carries text, so it stands for a token.
    pub(super) token: bool,
    /// That text is reasoning.
    thought: bool,
    /// Its text ends in white space: nothing is continued from there.
    pub(super) spaced: bool,
    /// Its text is nothing but white space.
    blank: bool,
    /// It belongs to a tool call.
    pub(super) call: bool,
    /// It has text that can neither be continued nor is a call's.
    pub(super) other: bool,
    /// It finishes a choice, or the stream: `[DONE]`, an error.
    pub(super) finish: bool,
    /// What leaves in its place, where it was mended.
    pub(super) edited: Option<Bytes>,
    /// When it came.
    pub(super) since: Instant,
}

/// A piece of a lane in a held frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldMark {
    pub(super) lane: LaneId,
    pub(super) mark: Mark,
    /// How much longer earlier mends have made the piece, in bytes.
    pub(super) grown: i64,
}

impl HeldFrame {
    pub(super) fn new(end: u64, facts: &FrameFacts<'_>, now: Instant) -> Self {
        let said = facts
            .deltas
            .iter()
            .filter(|delta| continued(delta.lane).is_some() && !delta.text.is_empty())
            .map(|delta| (delta.lane.channel, delta.text.clone().into_owned()))
            .collect();
        Self {
            end,
            marks: Vec::new(),
            said,
            token: has_text(&facts.deltas),
            thought: is_thought(&facts.deltas),
            spaced: ends_in_space(&facts.deltas),
            blank: facts.deltas.iter().all(|delta| delta.text.trim().is_empty()),
            call: has_call(facts),
            other: has_other(&facts.deltas),
            finish: !facts.finishes.is_empty()
                || facts.done
                || facts.error.is_some()
                || facts.silent_error.is_some(),
            edited: None,
            since: now,
        }
    }

    /// Nothing of it leaves.
    pub(super) fn empty(&mut self) {
        self.edited = Some(Bytes::new());
        self.marks.clear();
        self.said.clear();
        self.token = false;
    }

    /// Text that Aegis itself adds in front of the frame that ends the answer.
    pub(super) fn added(end: u64, lane: LaneId, text: String, bytes: Bytes, now: Instant) -> Self {
        Self {
            end,
            marks: Vec::new(),
            said: continued(lane)
                .map(|channel| (channel, text))
                .into_iter()
                .collect(),
            token: false,
            thought: false,
            spaced: false,
            blank: false,
            call: matches!(lane.channel, Channel::ToolArguments(_)),
            other: false,
            finish: false,
            edited: Some(bytes),
            since: now,
        }
    }
}

/// How many of the newest frames nothing is continued from: white space, and the text that ends in it. Where every token
/// brings its space at its end, that is one.
pub(super) fn spaces_at_end(frames: impl DoubleEndedIterator<Item = HeldSpace>) -> usize {
    let mut count = 0;
    for space in frames.rev() {
        match space {
            HeldSpace::Blank => count += 1,
            HeldSpace::End => return count + 1,
            HeldSpace::None => return count,
        }
    }
    count
}

/// The white space of a held frame's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldSpace {
    None,
    End,
    Blank,
}

impl HeldFrame {
    pub(super) fn space(&self) -> HeldSpace {
        match (self.spaced, self.blank) {
            (false, _) => HeldSpace::None,
            (true, false) => HeldSpace::End,
            (true, true) => HeldSpace::Blank,
        }
    }
}

/// The channel of a lane that a next request can carry on.
fn continued(lane: LaneId) -> Option<Channel> {
    let carried = matches!(lane.channel, Channel::Content | Channel::Reasoning);
    (lane.choice == 0 && carried).then_some(lane.channel)
}

pub(super) fn has_text(deltas: &[Delta<'_>]) -> bool {
    deltas.iter().any(|delta| !delta.text.is_empty())
}

/// Whether the text of a frame counts as a token of the reasoning.
fn is_thought(deltas: &[Delta<'_>]) -> bool {
    let first = deltas.iter().find(|delta| !delta.text.is_empty());
    first.is_some_and(|delta| delta.lane.channel == Channel::Reasoning)
}

pub(super) fn ends_in_space(deltas: &[Delta<'_>]) -> bool {
    deltas
        .last()
        .is_some_and(|delta| continued(delta.lane).is_some() && delta.text.ends_with(char::is_whitespace))
}

fn has_other(deltas: &[Delta<'_>]) -> bool {
    deltas.iter().any(|delta| {
        let call = matches!(delta.lane.channel, Channel::ToolArguments(_));
        !call && continued(delta.lane).is_none() && !delta.text.is_empty()
    })
}

pub(super) fn has_call(facts: &FrameFacts<'_>) -> bool {
    !facts.names.is_empty()
        || facts
            .deltas
            .iter()
            .any(|delta| matches!(delta.lane.channel, Channel::ToolArguments(_)))
}

/// What the client has: the text, where the answer could be continued from it, and what else there is.
#[derive(Debug, Default)]
pub(super) struct Told {
    draft: Draft,
    /// The text is not kept: nothing is ever asked again.
    textless: bool,
    /// Part of a tool call has left.
    pub(super) call: bool,
    /// A finish has left.
    pub(super) finish: bool,
    /// Text of a lane that cannot be continued has left.
    pub(super) other: bool,
    /// There is more text than is kept.
    too_long: bool,
}

impl Told {
    /// Notes what leaves, but keeps no text.
    pub(super) fn textless() -> Self {
        Self {
            textless: true,
            ..Self::default()
        }
    }

    /// Tokens that have left.
    pub(super) fn tokens(&self) -> u64 {
        self.draft.tokens
    }

    /// The text, unless there was too much of it.
    pub(super) fn draft(&self) -> Option<&Draft> {
        (!self.too_long && !self.textless).then_some(&self.draft)
    }

    /// Whether all that has left is text that a next request can carry on.
    pub(super) fn is_continuable(&self) -> bool {
        !self.call && !self.other && !self.too_long
    }

    fn push(&mut self, channel: Channel, text: &str) {
        let lane = match channel {
            Channel::Content => &mut self.draft.content,
            Channel::Reasoning => &mut self.draft.reasoning,
            Channel::Refusal | Channel::ToolArguments(_) => return,
        };
        lane.push_str(text);
        if self.draft.content.len() + self.draft.reasoning.len() > DRAFT_BYTES_MAX {
            self.too_long = true;
            self.draft.content = String::new();
            self.draft.reasoning = String::new();
        }
    }

    /// A frame leaves at once.
    pub(super) fn frame(&mut self, facts: &FrameFacts<'_>) {
        if !self.too_long && !self.textless {
            for delta in facts.deltas.iter().filter(|delta| !delta.text.is_empty()) {
                if let Some(channel) = continued(delta.lane) {
                    self.push(channel, &delta.text);
                }
            }
        }
        self.other |= has_other(&facts.deltas);
        self.draft
            .count(has_text(&facts.deltas), is_thought(&facts.deltas));
        self.call |= has_call(facts);
        self.finish |= !facts.finishes.is_empty() || facts.done;
    }

    /// A held frame leaves.
    pub(super) fn held(&mut self, frame: &HeldFrame) {
        if !self.too_long && !self.textless {
            for (channel, text) in &frame.said {
                self.push(*channel, text);
            }
        }
        self.draft.count(frame.token, frame.thought);
        self.call |= frame.call;
        self.other |= frame.other;
        self.finish |= frame.finish;
    }
}

/// `told` and the text of `frames` behind it.
pub(super) fn with<'a>(told: &Draft, frames: impl Iterator<Item = &'a HeldFrame>) -> Draft {
    let mut draft = told.clone();
    for frame in frames {
        for (channel, text) in &frame.said {
            match channel {
                Channel::Content => draft.content.push_str(text),
                Channel::Reasoning => draft.reasoning.push_str(text),
                Channel::Refusal | Channel::ToolArguments(_) => {}
            }
        }
        draft.count(frame.token, frame.thought);
    }
    draft
}

/// Bytes of text in `told` and in `frames`.
pub(super) fn text_bytes<'a>(told: &Draft, frames: impl Iterator<Item = &'a HeldFrame>) -> usize {
    let held = frames.flat_map(|frame| &frame.said).map(|(_, text)| text.len());
    told.content.len() + told.reasoning.len() + held.sum::<usize>()
}
