//! A103: the answer ended before its JSON value did.
//!
//! [`BrokenJson`](super::broken_json::BrokenJson) reads the lane and knows where it stands; this file says what an end
//! at that place means. The two codes exclude each other: text that is already impossible is A101, whatever its end.

use crate::error::Code;
use crate::event::FinishReason;
use crate::rule::{LaneEnd, Raised};

/// What was still missing when the lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing<'a> {
    /// There is no value at all.
    Value,
    /// The value that began at byte `from` is open; `place` says where, as in `inside a string, 2 brackets deep`.
    Rest {
        /// First byte of the value.
        from: u64,
        /// Where the text stands.
        place: &'a str,
    },
}

/// The finding for a lane that ended at byte `at` with something missing.
///
/// `None` where the end is not the model's own: a lost stream has its own code, a content filter cuts on purpose, and
/// an answer that calls tools owes no content.
#[must_use]
pub(super) fn truncated(at: u64, end: LaneEnd, missing: Missing<'_>) -> Option<Raised> {
    let reason = match end {
        LaneEnd::Finished(FinishReason::Stop) => "stop",
        LaneEnd::Finished(FinishReason::Length) => "length",
        LaneEnd::Finished(FinishReason::Other) => "of another kind",
        LaneEnd::Finished(FinishReason::ToolCalls | FinishReason::ContentFilter) | LaneEnd::Lost => {
            return None;
        }
    };
    let (from, what) = match missing {
        Missing::Value => (0, "without a JSON value"),
        Missing::Rest { from, place } => (from, place),
    };
    let detail = format!("the answer ended {what} (finish_reason {reason})");
    Some(Raised {
        // What there is of the value is sound; only its end is missing.
        sound_to: at,
        ..Raised::new(Code::TruncatedJson, at, from..at, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_own_ends_are_findings() {
        let rest = Missing::Rest {
            from: 3,
            place: "inside a string, 2 brackets deep",
        };
        let raised = truncated(9, LaneEnd::Finished(FinishReason::Length), rest).unwrap();
        assert_eq!(
            (raised.code, raised.offset, raised.span),
            (Code::TruncatedJson, 9, 3..9)
        );
        assert_eq!(
            raised.detail,
            "the answer ended inside a string, 2 brackets deep (finish_reason length)"
        );

        let raised = truncated(2, LaneEnd::Finished(FinishReason::Stop), Missing::Value).unwrap();
        assert_eq!(raised.span, 0..2);
        assert_eq!(
            raised.detail,
            "the answer ended without a JSON value (finish_reason stop)"
        );
        assert!(truncated(2, LaneEnd::Finished(FinishReason::Other), Missing::Value).is_some());
    }

    #[test]
    fn other_ends_are_none() {
        for end in [
            LaneEnd::Lost,
            LaneEnd::Finished(FinishReason::ToolCalls),
            LaneEnd::Finished(FinishReason::ContentFilter),
        ] {
            assert_eq!(truncated(2, end, Missing::Value), None, "{end:?}");
        }
    }
}
