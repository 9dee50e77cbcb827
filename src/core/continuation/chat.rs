//! The next request of a chat.

use super::body::Body;
use super::choose::{self, Way};
use super::{Ask, Joint, NotInjectable, Original, Plan, Shown, Wanted, split_spaces};
use crate::capabilities::{Capabilities, ThinkingOff};
use crate::limits::OVERLAP_BYTES_MAX;

/// Asks an upstream that cannot prefill to go on.
pub(super) const GO_ON: &str = "Your last message was broken off. Continue it exactly where it stopped: \
     repeat nothing of it, comment on nothing, and begin with the very next character.";

/// The hidden request for a chat.
pub(super) fn plan(
    original: &Original<'_>,
    capabilities: &Capabilities,
    wanted: &Wanted<'_>,
) -> Result<Ask, NotInjectable> {
    let body = Body::read(original.body, capabilities)?;
    match choose::of_chat(original.facts.constraint, capabilities, wanted)? {
        Way::Redo { stop_thinking } => {
            let how = if stop_thinking {
                capabilities.thinking_off
            } else {
                ThinkingOff::Unknown
            };
            redo(body, how, wanted)
        }
        Way::CloseThought | Way::Resume => resume(body, capabilities, wanted),
        Way::Append => append(body, wanted),
    }
}

fn redo(mut body: Body<'_>, thinking_off: ThinkingOff, wanted: &Wanted<'_>) -> Result<Ask, NotInjectable> {
    if let Some(text) = wanted.correction {
        body.correct(text, wanted.placement)?;
    }
    body.stop_thinking(thinking_off)?;
    let joint = Joint::redone(wanted);
    if joint.reasoning == Shown::Dropped {
        // The client keeps the first thought; what it took is spent.
        body.spend(wanted.released.tokens)?;
    }
    Ok(Ask {
        plan: Plan::Redo,
        body: body.write()?,
        keeps_sound: false,
        prefilled: 0,
        begins_content: false,
        joint,
    })
}

/// Begins the answer with what is sound of it: its content behind its reasoning, or the closed thought alone.
fn resume(
    mut body: Body<'_>,
    capabilities: &Capabilities,
    wanted: &Wanted<'_>,
) -> Result<Ask, NotInjectable> {
    let (content, _) = split_spaces(&wanted.sound.content);
    let (reasoning, _) = split_spaces(&wanted.sound.reasoning);
    let asks_for_echo = body.asks_for_echo();
    let echoes = capabilities.echoes || asks_for_echo;
    if let Some(text) = wanted.correction {
        body.correct(text, wanted.placement)?;
    }
    let prefill = body.begin(content, reasoning, echoes)?;
    body.flag_prefill(capabilities.prefill)?;
    if capabilities.prefill_needs_thinking_off {
        body.stop_thinking(ThinkingOff::TemplateKwargs)?;
    }
    body.spend(wanted.sound.tokens)?;
    let sound = wanted.sound;
    let thoughts = if capabilities.carries_reasoning {
        0
    } else {
        sound.thoughts
    };
    let mut joint = Joint::kept(wanted);
    // Behind a closed thought the client has no content yet: what is echoed there is its own prefill, which it asked for.
    joint.echo = Some(prefill).filter(|_| echoes && !content.is_empty());
    Ok(Ask {
        plan: Plan::Resume,
        body: body.write()?,
        keeps_sound: true,
        prefilled: sound.tokens.saturating_sub(thoughts),
        // An upstream that says the prefill again may begin with its thought.
        begins_content: !content.is_empty() && !asks_for_echo,
        joint,
    })
}

fn append(mut body: Body<'_>, wanted: &Wanted<'_>) -> Result<Ask, NotInjectable> {
    let (content, _) = split_spaces(&wanted.sound.content);
    body.begin(content, "", false)?;
    match wanted.correction {
        Some(correction) => body.ask(&format!("{correction}\n\n{GO_ON}"))?,
        None => body.ask(GO_ON)?,
    }
    body.spend(wanted.sound.tokens)?;
    let mut joint = Joint::kept(wanted);
    let tail = content.ceil_char_boundary(content.len().saturating_sub(OVERLAP_BYTES_MAX));
    joint.echo = Some(content.to_owned());
    joint.overlap = Some(content[tail..].to_owned());
    Ok(Ask {
        plan: Plan::Append,
        body: body.write()?,
        keeps_sound: true,
        prefilled: wanted.sound.tokens.saturating_sub(wanted.sound.thoughts),
        begins_content: false,
        joint,
    })
}
