//! Two or more upstream answers shown as one.
//!
//! The first answer passes untouched. [`Splice`] rewrites the frames of a later one so that they continue it: the same id,
//! model and creation time, no second role, no text twice, one usage.

mod chunk;
pub mod edit;
mod identity;
mod opening;
mod repeat;
#[cfg(test)]
mod tests;
mod thought;
mod usage;

pub use identity::Identity;

use crate::continuation::Joint;
use crate::dialect::Dialect;
use crate::event::{Channel, LaneId};
use crate::sse::parse::parse;
use bytes::Bytes;
use chunk::Chunk;
use identity::says_anything;
use opening::{Opening, Passing};
use thought::Thought;

/// Tokens that the frames of earlier requests carried, counted by their frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens whose text the client has or will get.
    pub kept: u64,
    /// Tokens that were thrown away.
    pub discarded: u64,
    /// Tokens of `kept` that the upstream counts as prompt of the hidden request, because they are its prefill.
    pub prefilled: u64,
}

/// Rewrites the answer to one hidden request.
#[derive(Debug)]
pub struct Splice {
    dialect: Dialect,
    identity: Option<Identity>,
    spent: Spent,
    opening: Opening,
    thought: Thought,
    /// Reasoning of the last frame that is not shown.
    hidden: String,
    /// The answer has been finished.
    finished: bool,
    /// `[DONE]` was said.
    done: bool,
}

impl Splice {
    /// A splice for the answer to a hidden request. `identity` is what the client has seen of the answer so far; `None`
    /// when it has seen no frame, and then the new answer shows its own.
    #[must_use]
    pub fn new(dialect: Dialect, identity: Option<Identity>, joint: Joint, spent: Spent) -> Self {
        Self {
            dialect,
            identity,
            spent,
            opening: Opening::new(joint.echo, joint.overlap.as_deref(), joint.spaced),
            thought: Thought::new(joint.reasoning),
            hidden: String::new(),
            finished: false,
            done: false,
        }
    }

    /// Takes one whole frame of the new answer and appends the frames that the client may get for it: none while it is
    /// not certain whether the text repeats what is out.
    pub fn frame(&mut self, frame: Bytes, out: &mut Vec<Bytes>) {
        self.hidden.clear();
        let facts = self.dialect.frame(&frame);
        if facts.as_ref().is_ok_and(|facts| facts.done) && std::mem::replace(&mut self.done, true) {
            return;
        }
        let chunk = match facts {
            Ok(facts) if !facts.done && facts.error.is_none() && facts.silent_error.is_none() => {
                if matches!(parse(&frame), Ok(None)) {
                    // A comment says nothing of the answer, so it need not wait.
                    return out.push(frame);
                }
                Chunk::read(self.dialect, &frame)
            }
            _ => None,
        };
        let Some(mut chunk) = chunk else {
            // The end, an error, or a frame that nobody can read: not the splice's to judge, nor to change.
            self.end(out);
            return out.push(frame);
        };
        self.continue_answer(&mut chunk);
        self.hide_reasoning(&mut chunk);
        usage::add(&mut chunk, self.spent);
        let mut ready = Vec::new();
        self.opening.take(Passing { frame, chunk }, &mut ready);
        self.give(ready, out);
    }

    /// Whether reasoning of the new answer is being dropped: that of the last frame, at least in part, or what comes next.
    #[must_use]
    pub fn hides_reasoning(&self) -> bool {
        self.thought.hides() || !self.hidden.is_empty()
    }

    /// The reasoning of the frame taken last that the client does not get.
    #[must_use]
    pub fn hidden_reasoning(&self) -> &str {
        &self.hidden
    }

    /// The new answer is over: what waits for certainty goes out.
    pub fn end(&mut self, out: &mut Vec<Bytes>) {
        let mut ready = Vec::new();
        self.opening.flush(&mut ready);
        self.give(ready, out);
    }

    /// Has a chunk go on with the answer that the client knows: that one has a name, a speaker, and one finish.
    fn continue_answer(&mut self, chunk: &mut Chunk) {
        if let Some(identity) = &self.identity {
            identity.dress(chunk);
            chunk.remove_roles();
            if self.finished {
                chunk.remove_finish(0);
            }
            self.finished |= chunk.finishes(0);
        }
    }

    fn hide_reasoning(&mut self, chunk: &mut Chunk) {
        if !self.thought.hides() {
            return;
        }
        let lane = LaneId::first(Channel::Reasoning);
        let said = chunk.text(lane);
        let bytes = self.thought.feed(&said);
        if bytes == 0 {
            return;
        }
        self.hidden.push_str(said.get(..bytes).unwrap_or_default());
        if bytes == said.len() {
            chunk.remove_reasoning(lane.choice);
        } else {
            chunk.cut(lane, bytes);
        }
    }

    /// Frames leave, unless all that they said was taken out of them.
    fn give(&self, passing: Vec<Passing>, out: &mut Vec<Bytes>) {
        for Passing { frame, chunk } in passing {
            if chunk.lost() && !says_anything(&chunk, self.identity.as_ref()) {
                continue;
            }
            out.push(if chunk.changed() { chunk.write() } else { frame });
        }
    }
}
