//! What the config says about forbidden phrases, and how it is told that a phrase cannot be used.

use crate::event::Channel;
use crate::limits::PATTERN_HOLD_BYTES;
use serde::{Deserialize, Serialize};

/// A channel as the config names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneKind {
    /// See [`Channel::Content`].
    Content,
    /// See [`Channel::Reasoning`].
    Reasoning,
    /// See [`Channel::Refusal`].
    Refusal,
    /// See [`Channel::ToolArguments`], of every call.
    ToolArguments,
}

impl LaneKind {
    /// The kind of a channel.
    #[must_use]
    pub const fn of(channel: Channel) -> Self {
        match channel {
            Channel::Content => Self::Content,
            Channel::Reasoning => Self::Reasoning,
            Channel::Refusal => Self::Refusal,
            Channel::ToolArguments(_) => Self::ToolArguments,
        }
    }
}

/// Settings of the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Texts that must not appear as they stand.
    pub literals: Vec<String>,
    /// Regular expressions, in the syntax of the `regex` crate, that must not match.
    pub patterns: Vec<String>,
    /// Upper and lower case are the same, by Unicode's simple case folding. Holds for literals and patterns.
    pub case_insensitive: bool,
    /// The lanes that are searched.
    pub lanes: Vec<LaneKind>,
    /// Most bytes held back for a pattern that has begun to match. A match longer than that may have left in part.
    pub pattern_hold_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            literals: Vec::new(),
            patterns: Vec::new(),
            case_insensitive: false,
            lanes: vec![
                LaneKind::Content,
                LaneKind::Reasoning,
                LaneKind::Refusal,
                LaneKind::ToolArguments,
            ],
            pattern_hold_bytes: PATTERN_HOLD_BYTES,
        }
    }
}

/// A phrase of the config that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text:?} {reason}. {remedy}")]
pub struct PhraseError {
    /// Where it stands, as in `forbidden_phrase.literals[2]`; without an index when it is the whole list.
    pub key: String,
    /// The phrase, shortened.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to write instead.
    pub remedy: &'static str,
}

impl PhraseError {
    pub(super) fn new(
        list: &str,
        index: Option<usize>,
        text: &str,
        reason: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        const CHARS_MAX: usize = 60;
        let mut short: String = text.chars().take(CHARS_MAX).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        let key = index.map_or_else(|| list.to_owned(), |i| format!("{list}[{i}]"));
        Self {
            key,
            text: short,
            reason: reason.into(),
            remedy,
        }
    }
}
