//! Certain mends of JSON: those that guess at no value.
//!
//! A control character inside a string becomes its escape, a comma before a closing bracket goes away, and where the
//! text ends after a whole value the brackets that are still open are closed. Nothing else is certain: an open string
//! may lack any text, a key any value, a bracket all of its elements.
//!
//! [`Mender`] reads as the [`Automaton`] does, says what it found, and goes on as if it had been mended. On valid JSON
//! it costs what the automaton costs.

use super::{Automaton, Impossible, Reason, State};
use crate::event::FinishReason;
use std::borrow::Cow;
use std::ops::Range;

/// One mend: the bytes of `span` become `text`. Offsets are those of the text as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// What is replaced; empty where something is added.
    pub span: Range<u64>,
    /// What stands there instead; empty where something goes away.
    pub text: String,
}

/// The first impossible byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// That byte, counted from the start of the text as it was written.
    pub at: u64,
    /// What is wrong with it.
    pub reason: Reason,
    /// Where the text stood before it, as [`Automaton::standing`] says it.
    pub standing: String,
    /// The certain mend. The mender goes on as if it had been made: next to be fed is the byte after `at`.
    pub patch: Option<Patch>,
}

/// Reads JSON bytes as they come and mends what can be mended with certainty. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mender {
    automaton: Automaton,
    /// The newest comma. Only meaningful while nothing but white space follows it.
    comma: Option<u64>,
}

impl Mender {
    /// A mender that has read nothing. `depth_max` is the number of brackets that may be open at once.
    #[must_use]
    pub const fn new(depth_max: usize) -> Self {
        Self {
            automaton: Automaton::new(depth_max),
            comma: None,
        }
    }

    /// What it has read, with all mends made.
    #[must_use]
    pub const fn automaton(&self) -> &Automaton {
        &self.automaton
    }

    /// Reads on up to the first fault. `at` is where `bytes` begin in the text as it was written. The cost is constant
    /// per byte.
    ///
    /// # Errors
    /// The first impossible byte. Where it has a patch, the caller goes on with the byte after it. Where it has none,
    /// the text is lost: from then on every call fails with the same reason.
    #[inline]
    pub fn feed(&mut self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let fed = self.automaton.feed(bytes);
        if fed.is_ok() && !self.after_comma() {
            return Ok(());
        }
        self.look(at, bytes, fed)
    }

    /// What is not the usual case: the text read ends after a comma, or is faulty.
    #[inline(never)]
    fn look(&mut self, at: u64, bytes: &[u8], fed: Result<(), Impossible>) -> Result<(), Fault> {
        let read = fed.map_or_else(|fault| fault.at, |()| bytes.len());
        if self.after_comma()
            && let Some(index) = bytes[..read].iter().rposition(|byte| *byte == b',')
        {
            self.comma = Some(at + index as u64);
        }
        fed.map_err(|fault| self.fault(at + fault.at as u64, fault.reason, bytes.get(fault.at).copied()))
    }

    /// Reads all of `bytes`, over every fault that can be mended; `made` is told of each mend, in the order of the text.
    ///
    /// # Errors
    /// The first fault that cannot be mended with certainty.
    pub fn feed_all(&mut self, at: u64, bytes: &[u8], mut made: impl FnMut(Patch)) -> Result<(), Fault> {
        let mut next = 0;
        while let Err(mut fault) = self.feed(at + next as u64, &bytes[next..]) {
            match fault.patch.take() {
                Some(patch) => made(patch),
                None => return Err(fault),
            }
            next = (fault.at - at) as usize + 1;
        }
        Ok(())
    }

    /// The first byte that may still turn out to need a mend: a comma with nothing but white space behind it.
    #[must_use]
    pub fn held_from(&self) -> Option<u64> {
        self.comma.filter(|_| self.after_comma())
    }

    /// The text ended at byte `at`, for the reason that the upstream gave. The mend that makes it whole, where that is
    /// certain; `None` also where it is whole already ([`Automaton::is_complete`] tells). Goes on as if it had been
    /// made.
    ///
    /// A number may have been cut ([`FinishReason::Length`] and all reasons that are not the model's own), so that end is
    /// certain only where the model itself stopped. A comma says that more was to come, so it goes away only where
    /// nobody cut the text. A bracket without anything in it is never closed: a model that opens a list has something
    /// to put there.
    pub fn end(&mut self, at: u64, reason: FinishReason) -> Option<Patch> {
        if self.automaton.failed.is_some() || self.automaton.is_complete() {
            return None;
        }
        let mut from = at;
        let mut text = String::new();
        match self.automaton.state {
            State::AfterValue => {}
            State::Word(word, read) => {
                let rest = &word.spelling()[usize::from(read)..];
                text.extend(rest.iter().map(|byte| char::from(*byte)));
            }
            State::Zero | State::Integer | State::Fraction | State::ExponentDigits if reason.is_own() => {}
            State::ArrayNext | State::ObjectNext if !reason.is_cut() => from = self.comma?,
            _ => return None,
        }
        let automaton = &mut self.automaton;
        for level in (0..automaton.depth).rev() {
            text.push(if automaton.is_object(level) { '}' } else { ']' });
        }
        automaton.depth = 0;
        automaton.state = State::Closed;
        Some(Patch { span: from..at, text })
    }

    const fn after_comma(&self) -> bool {
        matches!(self.automaton.state, State::ArrayNext | State::ObjectNext)
    }

    /// The fault at byte `at`, mended where that is certain.
    #[cold]
    fn fault(&mut self, at: u64, reason: Reason, byte: Option<u8>) -> Fault {
        Fault {
            at,
            reason,
            standing: self.automaton.standing(),
            patch: self.patch(at, reason, byte),
        }
    }

    fn patch(&mut self, at: u64, reason: Reason, byte: Option<u8>) -> Option<Patch> {
        match reason {
            // The automaton still stands inside the string.
            Reason::ControlCharacter(control) => {
                self.automaton.failed = None;
                Some(Patch {
                    span: at..at + 1,
                    text: escape(control),
                })
            }
            Reason::TrailingComma => {
                let (comma, bracket) = (self.comma?, byte?);
                self.automaton.failed = None;
                self.automaton.state = State::AfterValue;
                self.automaton.feed(&[bracket]).ok()?;
                Some(Patch {
                    span: comma..comma + 1,
                    text: String::new(),
                })
            }
            _ => None,
        }
    }
}

/// The escape of a control character.
fn escape(control: u8) -> String {
    match control {
        0x08 => "\\b".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\n' => "\\n".to_owned(),
        0x0c => "\\f".to_owned(),
        b'\r' => "\\r".to_owned(),
        _ => format!("\\u{control:04x}"),
    }
}

/// The whole text with all certain mends made, borrowed where it needs none. `None` where it is not JSON and no mend is
/// certain; an empty text has no value to mend.
#[must_use]
pub fn mended(text: &str, depth_max: usize, reason: FinishReason) -> Option<Cow<'_, str>> {
    let mut mender = Mender::new(depth_max);
    let mut out = String::new();
    let mut done = 0;
    let mut make = |patch: Patch| {
        out.push_str(&text[done..patch.span.start as usize]);
        out.push_str(&patch.text);
        done = patch.span.end as usize;
    };
    mender.feed_all(0, text.as_bytes(), &mut make).ok()?;
    if let Some(patch) = mender.end(text.len() as u64, reason) {
        make(patch);
    }
    if !mender.automaton.is_complete() {
        return None;
    }
    if out.is_empty() && done == 0 {
        return Some(Cow::Borrowed(text));
    }
    out.push_str(&text[done..]);
    Some(Cow::Owned(out))
}

/// [`mended`] for a text of which nobody knows why it ended there.
#[must_use]
pub fn whole(text: &str, depth_max: usize) -> Option<String> {
    mended(text, depth_max, FinishReason::Other).map(Cow::into_owned)
}

#[cfg(test)]
pub(crate) mod careless;
#[cfg(test)]
mod tests;
