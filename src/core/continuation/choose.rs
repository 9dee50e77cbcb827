//! Which way of asking again is open: decided from what the upstream can do and what the client has, without the body.

use super::{NotInjectable, Wanted};
use crate::capabilities::{Capabilities, Prefill};
use crate::event::Channel;
use crate::request::Constraint;

/// A way to ask for the answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The same request; the draft is thrown away.
    Redo {
        /// The thought was at fault, so the model must not think again.
        stop_thinking: bool,
    },
    /// The sound thought is closed from outside, and the answer begins behind it.
    CloseThought,
    /// The sound content is the beginning of the answer.
    Resume,
    /// The sound content is a turn, and the next turn asks to go on.
    Append,
}

const REDO: Way = Way::Redo { stop_thinking: false };

/// Chooses the way of a chat request.
pub(super) fn of_chat(
    constraint: Constraint,
    capabilities: &Capabilities,
    wanted: &Wanted<'_>,
) -> Result<Way, NotInjectable> {
    let prefills = capabilities.prefill != Prefill::No;
    if wanted.sound.content.trim().is_empty() {
        // Nothing of the content is lost either way; a closed thought also saves the tokens of the thinking. While the
        // answer was still thinking and nothing is wrong with the thought, closing it would cut it short.
        let closes = prefills
            && capabilities.closes_reasoning
            && constraint != Constraint::Grammar
            && !wanted.sound.reasoning.trim().is_empty();
        return Ok(match wanted.fault {
            Some(Channel::Reasoning | Channel::Content | Channel::ToolArguments(_)) if closes => {
                Way::CloseThought
            }
            fault => Way::Redo {
                stop_thinking: fault == Some(Channel::Reasoning),
            },
        });
    }
    let goes_on = match constraint {
        Constraint::None => true,
        Constraint::Json => capabilities.schema_after_prefill,
        Constraint::Grammar => false,
    };
    if prefills && goes_on {
        Ok(Way::Resume)
    } else if nothing_is_out(wanted) {
        Ok(REDO)
    } else if constraint == Constraint::None {
        Ok(Way::Append)
    } else {
        Err(NotInjectable::Constrained)
    }
}

/// Chooses the way of a legacy request. Every server continues a prompt; but a schema starts again behind it, on
/// llama-server too, which goes on with a schema only behind a chat's prefill. `resumable`: text can be put at its end.
pub(super) fn of_completion(
    constraint: Constraint,
    resumable: bool,
    wanted: &Wanted<'_>,
) -> Result<Way, NotInjectable> {
    if wanted.sound.content.trim().is_empty() {
        Ok(REDO)
    } else if resumable && constraint == Constraint::None {
        Ok(Way::Resume)
    } else if nothing_is_out(wanted) {
        Ok(REDO)
    } else if constraint == Constraint::None {
        Err(NotInjectable::Unreadable)
    } else {
        Err(NotInjectable::Constrained)
    }
}

/// White space alone binds nobody: the new answer may bring its own, and what is doubled is dropped.
fn nothing_is_out(wanted: &Wanted<'_>) -> bool {
    wanted.released.content.trim().is_empty()
}
