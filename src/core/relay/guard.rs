use crate::correction::Corrections;
use crate::decide::Policy;
use crate::limits::Limits;
use crate::release::ReleasePolicy;
use crate::rules::Rulebook;
use std::sync::Arc;

/// Everything the config says about guarding a stream; shared by all streams.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// The rules.
    pub rulebook: Arc<Rulebook>,
    /// What follows from findings and failures.
    pub policy: Policy,
    /// Hidden requests.
    pub corrections: Corrections,
    /// When text may leave.
    pub release: ReleasePolicy,
    /// Bounds of one stream.
    pub limits: Limits,
    /// Nothing leaves before the answer is over, and its client gets one body: an error in it is the whole answer.
    pub collects: bool,
}
