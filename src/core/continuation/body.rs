//! The body of the next chat request: the client's, with as little changed as the plan needs. Nothing is changed when
//! nothing must be, because the server's prompt cache is worth more than a tidy body.

use super::message::{self, Message};
use super::{NotInjectable, Placement};
use crate::capabilities::{Capabilities, Flavour, Prefill, ThinkingOff};
use crate::request::members::Members;
use bytes::Bytes;
use serde_json::value::RawValue;

/// Members that say how many tokens an answer may have.
const BUDGETS: &[&str] = &["max_tokens", "max_completion_tokens", "n_predict", "max_length"];

/// Members that say how many tokens an answer must have at least. Servers refuse one above the budget.
const LEAST: &[&str] = &["min_tokens", "min_length"];

/// Takes spent tokens off the client's budget. A value that is no positive whole number is no bound (`-1`), or the
/// upstream's to refuse.
pub(super) fn spend(members: &mut Members, tokens: u64) -> Result<(), NotInjectable> {
    for name in LEAST {
        let least = members.get(name).and_then(whole).filter(|n| *n > 0 && tokens > 0);
        if let Some(least) = least {
            set(members, name, least.saturating_sub(tokens).to_string())?;
        }
    }
    for name in BUDGETS {
        let Some(budget) = members.get(name).and_then(whole).filter(|n| *n > 0) else {
            continue;
        };
        if budget <= tokens {
            return Err(NotInjectable::NoTokensLeft);
        }
        if tokens > 0 {
            set(members, name, (budget - tokens).to_string())?;
        }
    }
    Ok(())
}

/// A content that closes the thought before it and says nothing.
const THOUGHT_END: &str = "\n";

/// A number without a fraction, also when it is written with a point (`100.0`).
fn whole(raw: &str) -> Option<u64> {
    /// Up to here every whole number has its own double.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let written = |raw: &str| raw.parse::<f64>().ok();
    raw.parse().ok().or_else(|| {
        written(raw)
            .filter(|n| n.fract() == 0.0 && (0.0..=EXACT_MAX).contains(n))
            .map(|n| n as u64)
    })
}

/// Sets a member whose value is known to be JSON text.
pub(super) fn set(members: &mut Members, name: &str, json: String) -> Result<(), NotInjectable> {
    members
        .set(name, json)
        .then_some(())
        .ok_or(NotInjectable::Unreadable)
}

/// A chat request that is being changed.
pub(super) struct Body<'a> {
    written: &'a [u8],
    members: Members,
    messages: Vec<Box<RawValue>>,
    /// The upstream takes a trailing assistant message for the beginning of the answer; else it is a turn like others.
    continues_last: bool,
    /// The members in which reasoning goes back.
    reasoning: &'static [&'static str],
    touched: bool,
}

impl<'a> Body<'a> {
    /// Reads a body.
    pub(super) fn read(written: &'a [u8], upstream: &Capabilities) -> Result<Self, NotInjectable> {
        let unreadable = NotInjectable::Unreadable;
        let members = Members::read(written).map_err(|_| unreadable)?;
        let messages: Vec<Box<RawValue>> = members.read_as("messages").ok_or(unreadable)?;
        if messages.iter().any(|raw| !raw.get().starts_with('{')) {
            return Err(unreadable);
        }
        // A server of unknown make is asked to go on by a turn of its own, and two assistant turns in a row are refused
        // by many templates: there both are one.
        let continues_last = matches!(upstream.prefill, Prefill::Trailing | Prefill::No)
            || upstream.flavour == Flavour::LlamaServer
            || members.read_as("continue_final_message") == Some(true);
        Ok(Self {
            written,
            members,
            messages,
            continues_last,
            reasoning: upstream.flavour.reasoning_members(),
            touched: false,
        })
    }

    /// The client asks that the upstream says the prefill again.
    pub(super) fn asks_for_echo(&self) -> bool {
        self.members.read_as("echo") == Some(true)
    }

    /// Puts the correction where the placement says.
    pub(super) fn correct(&mut self, text: &str, placement: Placement) -> Result<(), NotInjectable> {
        let spoken = match placement {
            Placement::UserTail => self.last_of("user")?,
            Placement::SystemTurn => None,
        };
        if let Some((at, mut message)) = spoken {
            message.add_paragraph(text).ok_or(NotInjectable::Unreadable)?;
            return self.put(at, message.to_json());
        }
        let role = match placement {
            Placement::UserTail => "user",
            Placement::SystemTurn => "system",
        };
        let raw = raw(message::new(role, text))?;
        // The client's own prefill stays last: the answer goes on behind it.
        let at = self.messages.len() - usize::from(self.own_prefill()?.is_some());
        self.messages.insert(at, raw);
        self.touched = true;
        Ok(())
    }

    /// Begins the answer with `content` and `reasoning`, behind what the client itself began it with. Returns all of the
    /// content. `echoed`: the upstream has said the client's part again, so that `content` may begin with it.
    pub(super) fn begin(
        &mut self,
        content: &str,
        reasoning: &str,
        echoed: bool,
    ) -> Result<String, NotInjectable> {
        let Some(mut message) = self.own_prefill()? else {
            // llama-server goes on where the last text of the message ends: without content, inside the thought.
            let begun = if content.is_empty() { THOUGHT_END } else { content };
            let mut json = message::new("assistant", begun);
            if !reasoning.is_empty() {
                json.truncate(json.len() - 1);
                let quoted = message::quoted(reasoning);
                for name in self.reasoning {
                    json.push_str(&format!(r#","{name}":{quoted}"#));
                }
                json.push('}');
            }
            self.messages.push(raw(json)?);
            self.touched = true;
            return Ok(content.to_owned());
        };
        let unreadable = NotInjectable::Unreadable;
        if message.has_calls() {
            return Err(unreadable);
        }
        let own = message.text().ok_or(unreadable)?;
        let more = Some(content)
            .filter(|_| echoed)
            .and_then(|content| content.strip_prefix(own.as_str()))
            .unwrap_or(content);
        let begins = if own.is_empty() && more.is_empty() {
            THOUGHT_END
        } else {
            more
        };
        message.go_on(begins).ok_or(unreadable)?;
        if !reasoning.is_empty() {
            message
                .go_on_thinking(self.reasoning, reasoning)
                .ok_or(unreadable)?;
        }
        self.put(self.messages.len() - 1, message.to_json())?;
        Ok(own + more)
    }

    /// Says that the last message is to be continued.
    pub(super) fn flag_prefill(&mut self, prefill: Prefill) -> Result<(), NotInjectable> {
        if matches!(prefill, Prefill::BothFlags | Prefill::OneFlag) {
            self.set("continue_final_message", "true")?;
        }
        if prefill == Prefill::BothFlags {
            self.set("add_generation_prompt", "false")?;
        }
        Ok(())
    }

    /// Adds a user's turn that the model is to answer. The client's flags for a prefill of its own would make the server
    /// continue the user's message instead.
    pub(super) fn ask(&mut self, text: &str) -> Result<(), NotInjectable> {
        self.messages.push(raw(message::new("user", text))?);
        self.members.remove("continue_final_message");
        self.members.remove("add_generation_prompt");
        self.touched = true;
        Ok(())
    }

    /// Switches thinking off, where it is known how.
    pub(super) fn stop_thinking(&mut self, how: ThinkingOff) -> Result<(), NotInjectable> {
        match how {
            ThinkingOff::Unknown => Ok(()),
            ThinkingOff::ReasoningEffort => {
                // An object of the same meaning would count first.
                self.members.remove("reasoning");
                self.set("reasoning_effort", r#""none""#)
            }
            ThinkingOff::TemplateKwargs => {
                let mut kwargs = match self.members.get("chat_template_kwargs") {
                    None | Some("null") => Members::default(),
                    Some(raw) => Members::read(raw.as_bytes()).map_err(|_| NotInjectable::Unreadable)?,
                };
                set(&mut kwargs, "enable_thinking", "false".into())?;
                self.set("chat_template_kwargs", &kwargs.to_json())
            }
        }
    }

    /// See [`spend`].
    pub(super) fn spend(&mut self, tokens: u64) -> Result<(), NotInjectable> {
        spend(&mut self.members, tokens)
    }

    /// The body.
    pub(super) fn write(mut self) -> Result<Bytes, NotInjectable> {
        if !self.touched {
            return Ok(Bytes::copy_from_slice(self.written));
        }
        let messages = message::array(self.messages.iter().map(|raw| raw.get()));
        set(&mut self.members, "messages", messages)?;
        Ok(self.members.to_json().into())
    }

    fn set(&mut self, name: &str, json: &str) -> Result<(), NotInjectable> {
        self.touched = true;
        set(&mut self.members, name, json.to_owned())
    }

    fn put(&mut self, at: usize, json: String) -> Result<(), NotInjectable> {
        self.messages[at] = raw(json)?;
        self.touched = true;
        Ok(())
    }

    /// The last message of a role, and where it stands.
    fn last_of(&self, role: &str) -> Result<Option<(usize, Message)>, NotInjectable> {
        for (at, raw) in self.messages.iter().enumerate().rev() {
            let message = Message::read(raw).ok_or(NotInjectable::Unreadable)?;
            if message.role().as_deref() == Some(role) {
                return Ok(Some((at, message)));
            }
        }
        Ok(None)
    }

    /// The last message, when it is the assistant's own: the client prefills the answer.
    fn own_prefill(&self) -> Result<Option<Message>, NotInjectable> {
        let Some(raw) = self.messages.last() else {
            return Ok(None);
        };
        let message = Message::read(raw).ok_or(NotInjectable::Unreadable)?;
        let own = |message: &Message| self.continues_last && message.role().as_deref() == Some("assistant");
        Ok(Some(message).filter(own))
    }
}

fn raw(json: String) -> Result<Box<RawValue>, NotInjectable> {
    RawValue::from_string(json).map_err(|_| NotInjectable::Unreadable)
}
