//! The vocabulary of a stream: lanes, deltas, and how an answer ends.

use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// What kind of text a lane carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// `delta.content`, or `text` of a legacy completion.
    Content,
    /// `delta.reasoning_content` (llama-server, vLLM) or `delta.reasoning` (Ollama, OpenRouter).
    Reasoning,
    /// `delta.refusal`.
    Refusal,
    /// `delta.tool_calls[k].function.arguments` of call `k`.
    ToolArguments(u32),
}

impl Channel {
    /// The name used in the config's `lanes = [...]`, without the call's number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Reasoning => "reasoning",
            Self::Refusal => "refusal",
            Self::ToolArguments(_) => "tool_arguments",
        }
    }
}

/// One independently checked text of an answer: a channel of a choice.
///
/// Displays as `content`, `reasoning`, `refusal` or `tool_arguments.K`; choices other than 0 come first, as in
/// `1:content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId {
    /// Index of the choice (`n` > 1 gives several).
    pub choice: u32,
    /// The channel of that choice.
    pub channel: Channel,
}

impl LaneId {
    /// The lane of choice 0.
    #[must_use]
    pub const fn first(channel: Channel) -> Self {
        Self { choice: 0, channel }
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.choice != 0 {
            write!(f, "{}:", self.choice)?;
        }
        f.write_str(self.channel.name())?;
        if let Channel::ToolArguments(k) = self.channel {
            write!(f, ".{k}")?;
        }
        Ok(())
    }
}

impl Serialize for LaneId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Why the model stopped, as the upstream says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done, or met a stop string.
    Stop,
    /// The token limit or the context was full.
    Length,
    /// It called tools.
    ToolCalls,
    /// The server's own filter ended it.
    ContentFilter,
    /// Any other word.
    Other,
}

impl FinishReason {
    /// The model itself stopped: nothing more was to come.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self, Self::Stop | Self::ToolCalls)
    }

    /// Something else stopped the model: more was to come.
    #[must_use]
    pub const fn is_cut(self) -> bool {
        matches!(self, Self::Length | Self::ContentFilter)
    }

    /// Reads the upstream's word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Other,
        }
    }
}

/// New text of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta<'a> {
    /// The lane it continues.
    pub lane: LaneId,
    /// The text; borrowed from the frame unless the JSON string had escapes.
    pub text: Cow<'a, str>,
}

/// What a frame means to the stream, beside its deltas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrameFacts<'a> {
    /// New text, in the order of the frame.
    pub deltas: Vec<Delta<'a>>,
    /// Tool calls that are named in this frame, in its order.
    pub names: Vec<(LaneId, Cow<'a, str>)>,
    /// Choices that end with this frame.
    pub finishes: Vec<(u32, FinishReason)>,
    /// The frame is progress though it carries no text: a role delta, a tool call's name, prompt progress, usage.
    pub progress: bool,
    /// The upstream reports an error of its own; its message, if it has one.
    pub error: Option<String>,
    /// An error in a form that clients do not see (a bare `error:` line); its message.
    pub silent_error: Option<String>,
    /// `data: [DONE]`.
    pub done: bool,
    /// The model's name, where the frame has one.
    pub model: Option<Cow<'a, str>>,
}

impl FrameFacts<'_> {
    /// The frame is more than a comment: it has text, or begins or ends something.
    #[must_use]
    pub fn says_anything(&self) -> bool {
        self.progress
            || self.done
            || self.error.is_some()
            || self.silent_error.is_some()
            || !self.deltas.is_empty()
            || !self.finishes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_stable_names() {
        assert_eq!(LaneId::first(Channel::Content).to_string(), "content");
        assert_eq!(
            LaneId {
                choice: 1,
                channel: Channel::ToolArguments(3)
            }
            .to_string(),
            "1:tool_arguments.3"
        );
        assert_eq!(LaneId::first(Channel::Reasoning).to_string(), "reasoning");
    }
}
