//! What a rule is: an incremental, chunk-invariant check over one lane.

use crate::error::Code;
use crate::event::{FinishReason, LaneId};
use crate::request::RequestFacts;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How bad a finding is. Minor ones are corrected, critical ones cut, unless the config says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The answer can still be saved.
    Minor,
    /// The answer must not go on.
    Critical,
}

/// What a rule's finding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Record it, change nothing.
    Note,
    /// Mend it deterministically where that is certain.
    Repair,
    /// Ask the primary again with a hidden correction.
    Correct,
    /// End the stream with an error event.
    Cut,
}

/// How a lane came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneEnd {
    /// The upstream finished the choice.
    Finished(FinishReason),
    /// The stream broke off or was cut; nothing more will come.
    Lost,
}

/// A rule's report. Offsets are UTF-8 bytes of the lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// The code of the fault.
    pub code: Code,
    /// Bytes of the lane that had been seen when the fault was certain: the end of the scalar that made it so, never
    /// the end of the chunk it came in. This is what makes findings independent of chunking.
    pub offset: u64,
    /// Where the fault lies.
    pub span: Range<u64>,
    /// One sentence for people: what was found, with figures. Never the user's secret, at most a short excerpt.
    pub detail: String,
}

/// A pure, incremental check over one lane.
///
/// # Contract
/// - Chunk-invariant: feeding `"ab"` and feeding `"a"`, `"b"` raise the same [`Raised`] at the same offsets.
/// - Bounded: memory and time per byte do not grow with the lane.
/// - After a rule has raised, it may raise again only for a new fault further on.
pub trait Rule: Send {
    /// The lane goes on with `text`, whose first byte is byte `at` of the lane.
    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>);

    /// The lane ended at byte `at`.
    fn end(&mut self, at: u64, end: LaneEnd, raised: &mut Vec<Raised>) {
        let _unused = (at, end, raised);
    }

    /// The first byte of the lane that may still turn out to belong to a fault and so must not be released yet.
    /// `None` when everything fed so far may go.
    fn held_from(&self) -> Option<u64> {
        None
    }
}

/// What a rule may know when it is made for a lane.
#[derive(Debug, Clone, Copy)]
pub struct LaneContext<'a> {
    /// The lane it will watch.
    pub lane: LaneId,
    /// Facts of the request this lane answers.
    pub request: &'a RequestFacts,
}
