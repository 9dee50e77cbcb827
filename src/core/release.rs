//! When the frames of a channel may leave.

use crate::event::Channel;
use serde::{Deserialize, Serialize};

/// When the frames of a channel may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// As soon as the rules have passed them.
    Rules,
    /// When the lane has come to its end.
    Complete,
}

/// `[release]` of the config: the policy of each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleasePolicy {
    /// Content and refusal.
    pub content: Release,
    /// Reasoning.
    pub reasoning: Release,
    /// Arguments of tool calls.
    pub tool_arguments: Release,
}

impl Default for ReleasePolicy {
    fn default() -> Self {
        Self {
            content: Release::Rules,
            reasoning: Release::Rules,
            tool_arguments: Release::Complete,
        }
    }
}

impl ReleasePolicy {
    /// The policy of a channel.
    #[must_use]
    pub fn of(&self, channel: Channel) -> Release {
        match channel {
            Channel::Content | Channel::Refusal => self.content,
            Channel::Reasoning => self.reasoning,
            Channel::ToolArguments(_) => self.tool_arguments,
        }
    }
}
