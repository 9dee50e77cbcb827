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
    /// The text before this byte is sound: a corrected answer may go on from there. The start of the fault, but for a
    /// loop, whose first period is sound, too.
    pub sound_to: u64,
    /// The certain mend, where there is one. A rule that offers one goes on as if it had been made.
    pub mend: Option<Mend>,
}

impl Raised {
    /// A fault in `span` for which no mend is certain. Everything before it is sound.
    #[must_use]
    pub fn new(code: Code, offset: u64, span: Range<u64>, detail: String) -> Self {
        Self {
            code,
            offset,
            sound_to: span.start,
            span,
            detail,
            mend: None,
        }
    }
}

/// A deterministic mend that guesses at nothing. Offsets are UTF-8 bytes of the lane as the primary wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// The text of `span` becomes `text`. The rule must have held everything from the start of `span` on
    /// ([`Rule::held_from`]), or the mend is too late. An empty span at the lane's end adds to it.
    Replace {
        /// What is replaced.
        span: Range<u64>,
        /// What stands there instead.
        text: String,
    },
    /// The answer is whole at byte `at`: it ends there, what follows is dropped, and the primary is told to stop.
    End {
        /// Where it ends.
        at: u64,
    },
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

    /// The tool call whose arguments the lane carries is named. Comes before the arguments, and again where a server
    /// repeats it.
    fn named(&mut self, name: &str, raised: &mut Vec<Raised>) {
        let _unused = (name, raised);
    }

    /// The lane ended at byte `at`.
    fn end(&mut self, at: u64, end: LaneEnd, raised: &mut Vec<Raised>) {
        let _unused = (at, end, raised);
    }

    /// The lane was asked for again and will go on from the text fed so far: from here on only new faults count.
    fn resumed(&mut self) {}

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
