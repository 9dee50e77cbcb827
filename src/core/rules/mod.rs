//! The rulebook: which rules exist, how the config set them, and which of them watch a lane.
//!
//! A new rule is one new file here and one line in [`REGISTRY`].

pub mod broken_json;
pub mod forbidden_phrase;
pub mod text_call;
pub mod token_loop;
pub mod tool_arguments;
mod truncated_json;

use crate::decide::{Finding, default_action};
use crate::error::Code;
use crate::event::Channel;
use crate::limits::{CORRECTION_EXCERPT_CHARS_MAX, EXCERPT_CHARS_MAX};
use crate::rule::{Action, LaneContext, Rule, Severity};
use crate::stall::StallSettings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How one code is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodePolicy {
    /// A disabled code is never raised.
    pub enabled: bool,
    /// How bad it is.
    pub severity: Severity,
    /// What follows from it.
    pub action: Action,
    /// The config names the action. Otherwise a fault that comes back after it was corrected is critical.
    pub chosen: bool,
}

/// The codes that `[rules.<id>]` can set, with their default severity. The id is [`Code::name`].
pub const CONFIGURABLE: &[(Code, Severity)] = &[
    (Code::BrokenJson, Severity::Minor),
    (Code::TruncatedJson, Severity::Minor),
    (Code::ToolArguments, Severity::Minor),
    (Code::UnknownTool, Severity::Minor),
    (Code::TokenLoop, Severity::Minor),
    (Code::FirstTokenStall, Severity::Critical),
    (Code::Stall, Severity::Critical),
    (Code::UpstreamLost, Severity::Minor),
    (Code::ForbiddenPhrase, Severity::Critical),
];

/// All rules as the config set them; shared by all streams.
#[derive(Debug, Clone)]
pub struct Rulebook {
    policies: BTreeMap<Code, CodePolicy>,
    /// A101 and A103.
    pub broken_json: broken_json::Settings,
    /// A104 and A105.
    pub tool_arguments: tool_arguments::Settings,
    /// A201.
    pub token_loop: token_loop::Settings,
    /// A403; `None` when no phrase is configured.
    pub phrases: Option<Arc<forbidden_phrase::Phrases>>,
    /// A202 and A203.
    pub stall: StallSettings,
    /// Longest excerpt in a finding, in characters; 0 switches excerpts off.
    pub excerpt_chars_max: usize,
}

impl Default for Rulebook {
    fn default() -> Self {
        let policies = CONFIGURABLE
            .iter()
            .map(|&(code, severity)| {
                (
                    code,
                    CodePolicy {
                        enabled: true,
                        severity,
                        action: default_action(severity),
                        chosen: false,
                    },
                )
            })
            .collect();
        Self {
            policies,
            broken_json: broken_json::Settings::default(),
            tool_arguments: tool_arguments::Settings::default(),
            token_loop: token_loop::Settings::default(),
            phrases: None,
            stall: StallSettings::default(),
            excerpt_chars_max: EXCERPT_CHARS_MAX,
        }
    }
}

impl Rulebook {
    /// Characters that a finding quotes: what an incident may show, or a correction, whichever is more.
    #[must_use]
    pub fn quoted_chars_max(&self) -> usize {
        self.excerpt_chars_max.max(CORRECTION_EXCERPT_CHARS_MAX)
    }

    /// Sets how a code is treated.
    pub fn set(&mut self, code: Code, policy: CodePolicy) {
        self.policies.insert(code, policy);
    }

    /// How a code is treated. Codes that no config sets are critical and cut.
    #[must_use]
    pub fn policy(&self, code: Code) -> CodePolicy {
        self.policies.get(&code).copied().unwrap_or(CodePolicy {
            enabled: true,
            severity: Severity::Critical,
            action: Action::Cut,
            chosen: false,
        })
    }

    /// A finding about the answer as a whole, treated as the config treats its code. `offset` is in bytes of the stream.
    #[must_use]
    pub fn stream_finding(&self, code: Code, offset: u64, detail: String) -> Finding {
        let policy = self.policy(code);
        Finding {
            offset,
            span: offset..offset,
            detail,
            sound_to: offset,
            ..Finding::bare(code, policy.severity, policy.action)
        }
    }

    fn enabled(&self, codes: &[Code]) -> bool {
        codes.iter().any(|code| self.policy(*code).enabled)
    }

    /// The rules that watch one lane, in registry order.
    #[must_use]
    pub fn rules_for(&self, lane: &LaneContext<'_>) -> Vec<Box<dyn Rule>> {
        REGISTRY
            .iter()
            .filter(|spec| self.enabled(spec.codes))
            .filter_map(|spec| (spec.build)(self, lane))
            .collect()
    }
}

/// Makes a rule for a lane, or says that the rule has no business there.
type Build = fn(&Rulebook, &LaneContext<'_>) -> Option<Box<dyn Rule>>;

struct Spec {
    codes: &'static [Code],
    build: Build,
}

const REGISTRY: &[Spec] = &[
    Spec {
        codes: &[Code::BrokenJson, Code::TruncatedJson],
        build: build_broken_json,
    },
    Spec {
        codes: &[Code::ToolArguments, Code::UnknownTool],
        build: build_tool_arguments,
    },
    Spec {
        codes: &[Code::ToolArguments, Code::UnknownTool],
        build: build_text_call,
    },
    Spec {
        codes: &[Code::TokenLoop],
        build: build_token_loop,
    },
    Spec {
        codes: &[Code::ForbiddenPhrase],
        build: build_forbidden_phrase,
    },
];

fn build_broken_json(book: &Rulebook, lane: &LaneContext<'_>) -> Option<Box<dyn Rule>> {
    // Behind a prefill of the client's own the lane begins somewhere inside the value.
    let demanded = (lane.request.json || book.broken_json.always) && !lane.request.prefilled;
    (demanded && lane.lane.channel == Channel::Content)
        .then(|| Box::new(broken_json::BrokenJson::new(&book.broken_json, lane)) as Box<dyn Rule>)
}

fn build_tool_arguments(book: &Rulebook, lane: &LaneContext<'_>) -> Option<Box<dyn Rule>> {
    let (settings, depth_max) = (&book.tool_arguments, book.broken_json.depth_max);
    let arguments = matches!(lane.lane.channel, Channel::ToolArguments(_));
    arguments
        .then(|| Box::new(tool_arguments::ToolArguments::new(settings, depth_max, lane)) as Box<dyn Rule>)
}

fn build_text_call(book: &Rulebook, lane: &LaneContext<'_>) -> Option<Box<dyn Rule>> {
    let (settings, depth_max) = (&book.tool_arguments, book.broken_json.depth_max);
    let watched = settings.text_form && lane.lane.channel == Channel::Content;
    watched.then(|| Box::new(text_call::TextCall::new(settings, depth_max, lane)) as Box<dyn Rule>)
}

fn build_token_loop(book: &Rulebook, lane: &LaneContext<'_>) -> Option<Box<dyn Rule>> {
    let rule = token_loop::TokenLoop::new(&book.token_loop, lane);
    let rule = if book.broken_json.always {
        rule.expecting_json()
    } else {
        rule
    };
    Some(Box::new(rule))
}

fn build_forbidden_phrase(book: &Rulebook, lane: &LaneContext<'_>) -> Option<Box<dyn Rule>> {
    let phrases = book.phrases.as_ref()?;
    Some(Box::new(forbidden_phrase::ForbiddenPhrase::new(
        Arc::clone(phrases),
        lane,
    )))
}
