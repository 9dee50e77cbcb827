//! llama-server's own form of a completion, which it speaks at `/completions` without a prefix: one object per token
//! with a top-level `content`, and a last one with everything else.

use super::joined::Joined;
use super::{text, unreadable};
use crate::request::members::Members;
use crate::sse::parse::Unreadable;

/// The answer to one prompt as it grows.
#[derive(Debug, Default)]
pub(super) struct Native {
    content: Joined,
    probabilities: Joined,
    last: Members,
    finished: bool,
}

impl Native {
    /// Takes one object.
    pub(super) fn take(&mut self, object: Members) -> Result<(), Unreadable> {
        if let Some(json) = object.get("content") {
            text("content", json, &mut self.content)?;
        }
        if let Some(json) = object.get("completion_probabilities")
            && !self.probabilities.push(json)
        {
            return Err(unreadable(format_args!("completion_probabilities is not a list")));
        }
        self.finished |= object.get("stop") == Some("true");
        self.last = object;
        Ok(())
    }

    /// Writes the answer: the last object with the text of all. `tokens` stays as it is there, an empty list, as in an
    /// answer for which no tokens were asked; requests that ask for them are never asked as a stream.
    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        let content = self.content.to_json().filter(|content| content != "null");
        let settings = self.last.read_as::<Members>("generation_settings");
        let mut changes = vec![
            ("content", content.unwrap_or_else(|| "\"\"".to_owned())),
            (
                "completion_probabilities",
                self.probabilities.to_json().unwrap_or_default(),
            ),
        ];
        if let Some(mut settings) = settings.filter(|settings| settings.get("stream") == Some("true"))
            && settings.set("stream", "false".to_owned())
        {
            changes.push(("generation_settings", settings.to_json()));
        }
        self.last.remove("prompt_progress");
        for (name, json) in changes {
            // No text at all is no JSON: such a member is not set.
            let _unset = self.last.set(name, json);
        }
        out.extend_from_slice(self.last.to_json().as_bytes());
    }

    /// Whether its last object came.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.content.len() + self.probabilities.len()
    }
}
