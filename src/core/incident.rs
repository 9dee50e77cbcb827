//! The record of one decision that changed, or would have changed, a stream.

use crate::decide::{Decision, Finding, Outcome};
use crate::error::Code;
use crate::event::LaneId;
use crate::rule::{Action, Severity};
use serde::Serialize;

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
    /// Bytes of the upstream's answer that the client had been given by then.
    pub bytes_released: u64,
}

impl Incident {
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
        }
    }
}
