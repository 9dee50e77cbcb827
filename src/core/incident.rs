//! The record of one decision that changed, or would have changed, a stream.

use crate::continuation::Plan;
use crate::decide::{Decision, Finding, Outcome};
use crate::error::Code;
use crate::event::LaneId;
use crate::rule::{Action, Severity};
use serde::Serialize;

/// Why the action that the config asked for was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotTaken {
    /// A504 or A505.
    pub code: Code,
    /// A sentence fragment for people.
    pub why: String,
}

/// What became of a hidden request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionEnd {
    /// Its answer goes on where the client's text ended.
    Joined,
    /// No answer came, or one that cannot be used.
    Failed,
    /// The client left before its answer came.
    Abandoned,
}

/// A hidden request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Correction {
    /// How the answer was asked for again.
    pub plan: Plan,
    /// What became of it.
    pub outcome: CorrectionEnd,
    /// The how many-th of this answer, from 1.
    pub attempt: u32,
    /// The id that the hidden request carried; the proxy sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_request_id: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The text that was thrown away, capped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub discarded: String,
    /// Tokens thrown away, counted by their frames.
    pub tokens_discarded: u64,
    /// Tokens of the text that the answer goes on from.
    pub tokens_kept: u64,
    /// From the fault to the first token of the new answer, in milliseconds.
    pub waited_ms: u64,
}

/// What the core knows of an incident. The proxy adds id, time, request id, upstream and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// The code.
    pub code: Code,
    /// The rule's id in the config.
    pub rule: &'static str,
    /// Minor or critical.
    pub severity: Severity,
    /// The action that the config asked for.
    pub action: Action,
    /// What was done; in shadow mode, what would have been done. `pass` for findings that were only noted.
    pub decision: Decision,
    /// Nothing was changed because the mode is shadow.
    pub shadow: bool,
    /// The lane; absent for faults of the stream as a whole.
    pub lane: Option<LaneId>,
    /// Bytes of the lane seen when the finding was raised.
    pub offset: u64,
    /// The faulty region in bytes of the lane.
    pub span: [u64; 2],
    /// One sentence for people.
    pub detail: String,
    /// The end of the faulty text, capped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
    /// Bytes that the client had been given by then.
    pub bytes_released: u64,
    /// Why the config's action was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<NotTaken>,
    /// The hidden request, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
}

impl Incident {
    /// The same with at most the last `chars_max` characters of the excerpt. Findings quote as much as a correction may
    /// show the primary; what is recorded is the config's to say.
    #[must_use]
    pub fn quoting(mut self, chars_max: usize) -> Self {
        let surplus = self.excerpt.chars().count().saturating_sub(chars_max);
        self.excerpt = self.excerpt.chars().skip(surplus).collect();
        if chars_max == 0 {
            // Their sentences name what stands in the arguments.
            let plain = match self.code {
                Code::ToolArguments => "a tool call's arguments are not what the tool takes",
                Code::UnknownTool => "a tool was called that the request does not offer",
                _ => return self,
            };
            plain.clone_into(&mut self.detail);
        }
        self
    }

    /// The record of `finding`, decided as `outcome`.
    #[must_use]
    pub fn new(finding: Finding, outcome: Outcome, bytes_released: u64) -> Self {
        Self {
            code: finding.code,
            rule: finding.code.name(),
            severity: finding.severity,
            action: finding.action,
            decision: outcome.decision,
            shadow: outcome.shadow,
            lane: finding.lane,
            offset: finding.offset,
            span: [finding.span.start, finding.span.end],
            detail: finding.detail,
            excerpt: finding.excerpt,
            bytes_released,
            unavailable: outcome.unavailable.map(|why| NotTaken {
                code: why.code,
                why: why.why,
            }),
            correction: None,
        }
    }

    /// The record of a request whose history was healed before it went upstream.
    #[must_use]
    pub fn healed(detail: String, severity: Severity, shadow: bool) -> Self {
        let finding = Finding {
            detail,
            ..Finding::bare(Code::ToolArguments, severity, Action::Repair)
        };
        let outcome = Outcome {
            decision: Decision::Repair,
            wanted: Decision::Repair,
            shadow,
            unavailable: None,
        };
        Self::new(finding, outcome, 0)
    }
}
