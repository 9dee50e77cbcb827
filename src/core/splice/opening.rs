//! The beginning of a continuation's content: it waits until it is certain how much of it is a repeat, and loses that.

use super::chunk::Chunk;
use super::repeat::Repeat;
use crate::event::{Channel, LaneId};
use crate::limits::REPEAT_WAITING_BYTES_MAX;
use bytes::Bytes;
use std::collections::VecDeque;

const CONTENT: LaneId = LaneId::first(Channel::Content);

/// A frame on its way to the client.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) frame: Bytes,
    pub(super) chunk: Chunk,
}

/// The frames in which the content begins.
#[derive(Debug)]
pub(super) struct Opening {
    /// `None` where nothing can be a repeat, or it is certain what was.
    repeat: Option<Repeat>,
    /// Frames that wait for it, and the bytes of content in each.
    waiting: VecDeque<(Passing, usize)>,
    /// Bytes of the frames that wait.
    bytes: usize,
    /// The first bytes of content, whose frames were let go because they were too many. They are known: the text that they
    /// echo has them.
    let_go: usize,
    /// Bytes of content that are still to be cut off.
    repeated: usize,
    /// White space that the client has: it is cut off where the content brings it once more.
    spaced: String,
}

impl Opening {
    pub(super) fn new(echo: Option<String>, overlap: Option<&str>, spaced: String) -> Self {
        Self {
            repeat: Repeat::new(echo, overlap),
            waiting: VecDeque::new(),
            bytes: 0,
            let_go: 0,
            repeated: 0,
            spaced,
        }
    }

    /// Takes the next frame and appends those that need not wait.
    pub(super) fn take(&mut self, mut passing: Passing, ready: &mut Vec<Passing>) {
        let Some(repeat) = &mut self.repeat else {
            self.trim(&mut passing.chunk);
            return ready.push(passing);
        };
        let text = passing.chunk.text(CONTENT);
        if text.is_empty() && self.waiting.is_empty() {
            return ready.push(passing);
        }
        let certain = if text.is_empty() { None } else { repeat.feed(&text) };
        // What comes after the content says that no more of it comes.
        let chunk = &mut passing.chunk;
        let over = chunk.finishes(CONTENT.choice) || chunk.calls() || text.is_empty() && says_other(chunk);
        self.bytes += passing.frame.len();
        self.waiting.push_back((passing, text.len()));
        match certain {
            Some(repeated) => self.release(repeated, ready),
            None if over => self.flush(ready),
            None => self.let_go(ready),
        }
    }

    /// Bytes of the frames that wait.
    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|(passing, _)| passing.frame.len()).sum()
    }

    /// No more comes that could make anything certain: what waits need not wait any longer.
    pub(super) fn flush(&mut self, ready: &mut Vec<Passing>) {
        if let Some(repeat) = self.repeat.as_mut().filter(|_| !self.waiting.is_empty()) {
            let repeated = repeat.end();
            self.release(repeated, ready);
        }
    }

    /// It is certain: the first `repeated` bytes of the content are a repeat.
    fn release(&mut self, repeated: usize, ready: &mut Vec<Passing>) {
        self.repeated = repeated;
        let repeat = self.repeat.take();
        let before = repeat.as_ref().map_or("", |repeat| repeat.beginning(self.let_go));
        let first = self.waiting.iter_mut().find(|(_, content)| *content > 0);
        if let Some((passing, _)) = first.filter(|_| !before.is_empty()) {
            passing.chunk.prepend(CONTENT, before);
        }
        self.bytes = 0;
        for (mut passing, _) in std::mem::take(&mut self.waiting) {
            self.trim(&mut passing.chunk);
            ready.push(passing);
        }
    }

    /// Cuts off what the client has of a chunk's content.
    fn trim(&mut self, chunk: &mut Chunk) {
        if self.repeated == 0 && self.spaced.is_empty() {
            return;
        }
        let text = chunk.text(CONTENT);
        let repeated = self.repeated.min(text.len());
        self.repeated -= repeated;
        let rest = text.get(repeated..).unwrap_or_default();
        let spaces = common_spaces(rest, &self.spaced);
        if spaces < rest.len() {
            self.spaced = String::new();
        } else {
            self.spaced.drain(..spaces);
        }
        if repeated + spaces > 0 {
            chunk.cut(CONTENT, repeated + spaces);
        }
    }

    /// Lets go of the oldest frames where too many wait. While everything is an echo their text is known without them, and
    /// what else they said (usage so far, progress) is said again by later ones.
    fn let_go(&mut self, ready: &mut Vec<Passing>) {
        while self.bytes > REPEAT_WAITING_BYTES_MAX && self.waiting.len() > 1 {
            let echoes = self
                .repeat
                .as_ref()
                .is_some_and(|repeat| repeat.echoed().is_some());
            let more = self.waiting.iter().skip(1).any(|(_, content)| *content > 0);
            let known =
                |(passing, _): &mut (Passing, usize)| echoes && more && !says_other(&mut passing.chunk);
            let Some((passing, content)) = self.waiting.pop_front_if(known) else {
                return self.flush(ready);
            };
            self.bytes -= passing.frame.len();
            self.let_go += content;
        }
    }
}

/// Whether a chunk has text of the first choice that is no content.
fn says_other(chunk: &mut Chunk) -> bool {
    let channels = [Channel::Reasoning, Channel::Refusal];
    channels
        .into_iter()
        .any(|channel| !chunk.text(LaneId::first(channel)).is_empty())
}

/// How many bytes of white space two texts have in common at their beginning.
fn common_spaces(a: &str, b: &str) -> usize {
    let pairs = a.chars().zip(b.chars());
    let same = pairs.take_while(|(a, b)| a == b && a.is_whitespace());
    same.map(|(space, _)| space.len_utf8()).sum()
}
