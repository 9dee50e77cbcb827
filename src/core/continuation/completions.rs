//! The next request of the legacy dialect: the prompt, and the sound text behind it.

use super::choose::{self, Way};
use super::{Ask, Joint, NotInjectable, Original, Plan, Wanted, body, message, split_spaces};
use crate::request::members::Members;
use bytes::Bytes;

/// The hidden request for a prompt.
pub(super) fn plan(original: &Original<'_>, wanted: &Wanted<'_>) -> Result<Ask, NotInjectable> {
    if wanted.correction.is_some() {
        return Err(NotInjectable::NoTurns);
    }
    let unreadable = NotInjectable::Unreadable;
    let mut members = Members::read(original.body).map_err(|_| unreadable)?;
    // Token ids and several prompts have no end to which text could be put.
    let prompt = members.get("prompt").ok_or(unreadable)?;
    let (content, _) = split_spaces(&wanted.sound.content);
    let longer = message::extended(prompt, content).ok_or(unreadable)?;
    // An echoed prompt would come again with the text in it; text before a suffix is not told apart from the prompt.
    let echoes = members.read_as("echo") == Some(true);
    let fills = members
        .get("suffix")
        .is_some_and(|raw| !matches!(raw, "null" | "\"\""));
    match choose::of_completion(original.facts.constraint, !echoes && !fills, wanted)? {
        Way::Resume => {
            body::set(&mut members, "prompt", longer)?;
            body::spend(&mut members, wanted.sound.tokens)?;
            Ok(Ask {
                plan: Plan::Resume,
                body: members.to_json().into(),
                keeps_sound: true,
                prefilled: wanted.sound.tokens,
                begins_content: false,
                joint: Joint::kept(wanted),
            })
        }
        _ => Ok(Ask {
            plan: Plan::Redo,
            body: Bytes::copy_from_slice(original.body),
            keeps_sound: false,
            prefilled: 0,
            begins_content: false,
            joint: Joint::redone(wanted),
        }),
    }
}
