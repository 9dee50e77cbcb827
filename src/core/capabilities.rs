//! What an upstream can do with a second request: continue a message, continue under a schema, stop thinking.
//!
//! Found by the proxy (config, answers of the server, a probe) and handed in as data. What each server really does was
//! read in its source or measured; see `DECISIONS.md`.

use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError, RwLock};

/// The kind of server behind Aegis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// llama-server that knows `continue_final_message` (from May 2026).
    LlamaServer,
    /// llama-server before that: a trailing assistant message is continued, but not while thinking is on.
    LlamaServerOld,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// Ollama's OpenAI-compatible endpoint.
    Ollama,
    /// TabbyAPI.
    Tabbyapi,
    /// LM Studio.
    LmStudio,
    /// Nothing is known: no prefill, no switches.
    #[default]
    None,
}

impl Flavour {
    /// Every flavour, as the config spells it.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::LlamaServer, "llama-server"),
        (Self::LlamaServerOld, "llama-server-old"),
        (Self::Vllm, "vllm"),
        (Self::Sglang, "sglang"),
        (Self::Ollama, "ollama"),
        (Self::Tabbyapi, "tabbyapi"),
        (Self::LmStudio, "lm-studio"),
        (Self::None, "none"),
    ];

    /// The members of a message in which its reasoning goes back, as the server spells them. vLLM has renamed its own.
    #[must_use]
    pub const fn reasoning_members(self) -> &'static [&'static str] {
        match self {
            Self::Ollama => &["reasoning"],
            Self::Vllm => &["reasoning_content", "reasoning"],
            _ => &["reasoning_content"],
        }
    }

    /// The name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(flavour, _)| *flavour == self)
            .map_or("none", |(_, name)| name)
    }
}

/// How a message that the assistant has begun is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefill {
    /// It is not.
    No,
    /// By a trailing assistant message alone.
    Trailing,
    /// By a trailing assistant message, `continue_final_message: true` and `add_generation_prompt: false`.
    BothFlags,
    /// By a trailing assistant message and `continue_final_message: true`.
    OneFlag,
}

/// How a request says that the model must not think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingOff {
    /// It cannot.
    Unknown,
    /// `chat_template_kwargs: {"enable_thinking": false}`.
    TemplateKwargs,
    /// `reasoning_effort: "none"`.
    ReasoningEffort,
}

/// What one model on one upstream can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The kind of server.
    pub flavour: Flavour,
    /// How a begun message is continued.
    pub prefill: Prefill,
    /// A prefill is only accepted with thinking switched off.
    pub prefill_needs_thinking_off: bool,
    /// The reply to a prefill may repeat it.
    pub echoes: bool,
    /// A JSON schema goes on from where the prefill ends. Otherwise it starts again at the first new token.
    pub schema_after_prefill: bool,
    /// A trailing assistant message with `reasoning_content` and no content closes the thought and goes on to the answer.
    pub closes_reasoning: bool,
    /// Reasoning that goes back in a message becomes part of the prompt; elsewhere the template drops it.
    pub carries_reasoning: bool,
    /// How thinking is switched off.
    pub thinking_off: ThinkingOff,
}

impl Default for Capabilities {
    fn default() -> Self {
        Flavour::None.into()
    }
}

impl From<Flavour> for Capabilities {
    fn from(flavour: Flavour) -> Self {
        use Flavour as F;
        let (prefill, thinking_off) = match flavour {
            F::LlamaServer => (Prefill::BothFlags, ThinkingOff::TemplateKwargs),
            F::LlamaServerOld => (Prefill::Trailing, ThinkingOff::TemplateKwargs),
            F::Vllm | F::Tabbyapi => (Prefill::BothFlags, ThinkingOff::TemplateKwargs),
            F::Sglang => (Prefill::OneFlag, ThinkingOff::TemplateKwargs),
            F::Ollama => (Prefill::Trailing, ThinkingOff::ReasoningEffort),
            F::LmStudio => (Prefill::Trailing, ThinkingOff::Unknown),
            F::None => (Prefill::No, ThinkingOff::Unknown),
        };
        Self {
            flavour,
            prefill,
            // SGLang renders the prompt without the thought, and a template that opens one would have the content inside.
            prefill_needs_thinking_off: matches!(flavour, F::LlamaServerOld | F::Sglang),
            echoes: matches!(flavour, F::LmStudio | F::Ollama | F::Tabbyapi),
            schema_after_prefill: flavour == F::LlamaServer,
            closes_reasoning: flavour == F::LlamaServer,
            carries_reasoning: matches!(flavour, F::LlamaServer | F::Vllm | F::Ollama),
            thinking_off,
        }
    }
}

/// What is known so far of one model on one upstream; shared by its streams, filled in when it has been found out.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<RwLock<Option<Capabilities>>>);

impl Known {
    /// Known from the start.
    #[must_use]
    pub fn new(capabilities: Capabilities) -> Self {
        Self(Arc::new(RwLock::new(Some(capabilities))))
    }

    /// What is known.
    #[must_use]
    pub fn get(&self) -> Option<Capabilities> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was found out.
    pub fn set(&self, capabilities: Capabilities) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(capabilities);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for (flavour, name) in Flavour::ALL {
            assert_eq!(serde_json::to_value(flavour).unwrap(), *name);
            assert_eq!(flavour.name(), *name);
        }
    }

    #[test]
    fn nothing_is_assumed_of_an_unknown_server() {
        let none = Capabilities::default();
        assert_eq!(
            (none.prefill, none.thinking_off),
            (Prefill::No, ThinkingOff::Unknown)
        );
        assert!(!none.schema_after_prefill && !none.closes_reasoning);
    }
}
