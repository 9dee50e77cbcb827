//! The next request: from the client's request, the text that is sound so far, the fault and what the upstream can do, to
//! the hidden request whose answer goes on where the sound text ends, or the reason why there is none.
//!
//! Pure. The answer to the hidden request is joined to the text by [`crate::splice`].

mod body;
mod chat;
mod choose;
mod completions;
mod message;

use crate::capabilities::Capabilities;
use crate::dialect::Dialect;
use crate::event::Channel;
use crate::request::RequestFacts;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Text of an answer, and how many tokens it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// The content of choice 0.
    pub content: String,
    /// The reasoning of choice 0.
    pub reasoning: String,
    /// Frames with text that it came in: its tokens, on servers that send each on its own.
    pub tokens: u64,
    /// Those of them that are reasoning.
    pub thoughts: u64,
}

impl Draft {
    /// Counts a frame, if it stands for a token.
    pub fn count(&mut self, token: bool, thought: bool) {
        self.tokens += u64::from(token);
        self.thoughts += u64::from(token && thought);
    }

    /// No text at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty()
    }
}

/// The client's request.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its body, as it went upstream.
    pub body: &'a [u8],
    /// Its dialect.
    pub dialect: Dialect,
    /// Facts read of it.
    pub facts: &'a RequestFacts,
}

/// Where the correction stands in the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// At the end of the last user message: no template objects, and what stands before it stays in the cache.
    #[default]
    UserTail,
    /// A system message of its own after all others.
    SystemTurn,
}

/// What the next request is made of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What the client already has of the answer. It cannot be taken back.
    pub released: &'a Draft,
    /// The sound text: what is released, and what is held back and may be kept. Starts with `released`.
    pub sound: &'a Draft,
    /// Frames of a tool call have been released.
    pub call_released: bool,
    /// The channel that is at fault; `None` when the answer only broke off.
    pub fault: Option<Channel>,
    /// The correction; `None` to go on without one.
    pub correction: Option<&'a str>,
    /// Where it stands.
    pub placement: Placement,
}

/// How the answer is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// The same request with the correction; the draft is thrown away.
    Redo,
    /// The sound text is the beginning of the next answer.
    Resume,
    /// The sound text is a turn of the history, and the next turn asks to go on.
    Append,
}

/// A hidden request, and how its answer joins what the client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The plan that was chosen.
    pub plan: Plan,
    /// The body of the request.
    pub body: Bytes,
    /// The text that is held back is kept, because the answer goes on behind it. Otherwise it is thrown away.
    pub keeps_sound: bool,
    /// Tokens of the sound text that the body carries, and that the upstream therefore counts as prompt.
    pub prefilled: u64,
    /// The body ends inside the content: the answer goes on with content.
    pub begins_content: bool,
    /// What to trim from the answer.
    pub joint: Joint,
}

/// What the answer to a hidden request may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joint {
    /// The content may begin with this whole text (an upstream that echoes the prefill): it is dropped then.
    pub echo: Option<String>,
    /// The content may begin with the end of this text (an upstream that was asked to go on): the longest such overlap is
    /// dropped.
    pub overlap: Option<String>,
    /// White space that the client has, or gets with the text that is kept, though the prompt ends before it: templates
    /// trim, and a model writes a space together with the word behind it. The content brings it again, so the longest
    /// beginning that its leading white space has in common with this text is dropped. Comes after `echo` and `overlap`:
    /// what they leave is the content meant here.
    pub spaced: String,
    /// The client has this reasoning already.
    pub reasoning: Shown,
}

/// What happens to the reasoning of a hidden request's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shown {
    /// The client sees it.
    #[default]
    New,
    /// It is dropped while it equals this text, which the client has, and goes on behind it; all of it is dropped when it
    /// differs.
    Same(String),
    /// All of it is dropped.
    Dropped,
}

/// Why there is no hidden request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotInjectable {
    /// `n` > 1.
    #[error("the request asks for more than one choice")]
    SeveralChoices,
    /// `logprobs`, `top_logprobs` or `n_probs`.
    #[error("the request asks for logprobs, which cannot be joined")]
    Logprobs,
    /// Part of a call is out.
    #[error("part of a tool call has been released")]
    CallReleased,
    /// `max_tokens` is used up.
    #[error("no tokens are left of max_tokens")]
    NoTokensLeft,
    /// A schema or grammar would start again behind the released text.
    #[error("content is out, and the upstream would start the schema or grammar again behind it")]
    Constrained,
    /// The legacy dialect has a prompt and no turns.
    #[error("a prompt without turns has no place for a correction")]
    NoTurns,
    /// More text than is kept.
    #[error("the answer is longer than what is kept of it")]
    TooLong,
    /// The answer has lanes that cannot be continued (a refusal).
    #[error("the answer has text outside content and reasoning")]
    OtherLanes,
    /// The request's shape is not understood.
    #[error("the messages of the request are not understood")]
    Unreadable,
}

impl Joint {
    /// Of an answer that begins anew.
    fn redone(wanted: &Wanted<'_>) -> Self {
        let released = wanted.released;
        Self {
            reasoning: match wanted.fault {
                _ if released.reasoning.is_empty() => Shown::New,
                // A deterministic server thinks the same again, and then goes on.
                None => Shown::Same(released.reasoning.clone()),
                Some(_) => Shown::Dropped,
            },
            // Text binds the answer, and is never redone; white space may be out.
            spaced: released.content.clone(),
            ..Self::default()
        }
    }

    /// Of an answer that goes on behind the sound text.
    fn kept(wanted: &Wanted<'_>) -> Self {
        let sound = wanted.sound;
        Self {
            reasoning: if sound.reasoning.is_empty() {
                Shown::New
            } else {
                Shown::Dropped
            },
            spaced: split_spaces(&sound.content).1.to_owned(),
            ..Self::default()
        }
    }
}

/// A text, and the white space at its end.
fn split_spaces(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end().len())
}

/// What can be said without looking at the text.
///
/// # Errors
/// [`NotInjectable`], with the reason why no hidden request can be made.
pub fn injectable(
    request: &RequestFacts,
    call_released: bool,
    fault: Option<Channel>,
) -> Result<(), NotInjectable> {
    if request.choices > 1 {
        Err(NotInjectable::SeveralChoices)
    } else if request.logprobs {
        Err(NotInjectable::Logprobs)
    } else if call_released {
        Err(NotInjectable::CallReleased)
    } else if fault == Some(Channel::Refusal) {
        Err(NotInjectable::OtherLanes)
    } else {
        Ok(())
    }
}

/// The hidden request for an answer that is at fault or broke off.
///
/// # Errors
/// [`NotInjectable`], with the reason.
pub fn plan(
    original: &Original<'_>,
    capabilities: &Capabilities,
    wanted: &Wanted<'_>,
) -> Result<Ask, NotInjectable> {
    injectable(original.facts, wanted.call_released, wanted.fault)?;
    let wanted = &Wanted {
        // An empty text would only spoil the prompt's cache.
        correction: wanted.correction.filter(|text| !text.is_empty()),
        ..*wanted
    };
    match original.dialect {
        Dialect::Chat => chat::plan(original, capabilities, wanted),
        Dialect::Completions => completions::plan(original, wanted),
    }
}

#[cfg(test)]
mod tests;
