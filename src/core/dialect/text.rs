//! Pieces that both dialects read: borrowed JSON strings and error objects.

use crate::event::{Delta, FrameFacts};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A JSON string, borrowed from the frame unless it has escapes. (`Option<Cow<str>>` would always copy.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, s: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(s)))
            }
            fn visit_str<E: Error>(self, s: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(s.to_owned())))
            }
            fn visit_string<E: Error>(self, s: String) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(s)))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// The message of an upstream's error, whatever its shape: `{"message":…}`, `{"error":{"message":…}}` or a string.
pub(super) fn error_message(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let inner = value.get("error").unwrap_or(&value);
    inner.get("message").unwrap_or(inner).as_str().map(str::to_owned)
}

/// The message of an `error` member. What the SDKs do not take for an error (null, false, empty) is none here either.
pub(super) fn error_of(raw: Option<&RawValue>) -> Option<String> {
    let raw = raw.filter(|r| !matches!(r.get(), "null" | "false" | "0" | "\"\"" | "[]" | "{}"))?;
    Some(error_message(raw.get()).unwrap_or_else(|| raw.get().chars().take(200).collect()))
}

/// Detaches facts from a frame whose data had to be joined from several lines.
pub(super) fn into_owned(facts: FrameFacts<'_>) -> FrameFacts<'static> {
    FrameFacts {
        deltas: facts
            .deltas
            .into_iter()
            .map(|d| Delta {
                lane: d.lane,
                text: Cow::Owned(d.text.into_owned()),
            })
            .collect(),
        names: facts
            .names
            .into_iter()
            .map(|(lane, name)| (lane, Cow::Owned(name.into_owned())))
            .collect(),
        finishes: facts.finishes,
        progress: facts.progress,
        error: facts.error,
        silent_error: facts.silent_error,
        done: facts.done,
        model: facts.model.map(|m| Cow::Owned(m.into_owned())),
    }
}
