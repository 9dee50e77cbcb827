//! A403: phrases that the config forbids, found while they stream and held back until they are decided.
//!
//! All literals are one Aho-Corasick automaton and the patterns as few dense DFAs as their sizes allow. Each reads every
//! byte once and remembers one state, of which compiling has found out whether a phrase ends there and how many of the
//! last bytes may still become one. So neither matching nor holding back ever looks at the text again.

mod compile;
mod holds;
mod literals;
mod patterns;
mod settings;

pub use settings::{LaneKind, PhraseError, Settings};

use crate::event::Channel;
use crate::rule::{LaneContext, LaneEnd, Raised, Rule};
use literals::{LiteralTracker, Literals};
use patterns::{Machine, PatternTracker};
use std::sync::Arc;

/// Findings of one automaton on one lane. After that many the lane's fate is known and it is not searched further.
const RAISED_MAX: usize = 16;

/// A compiled set of phrases, shared by all lanes of all streams.
#[derive(Debug)]
pub struct Phrases {
    literals: Option<Literals>,
    machines: Vec<Machine>,
    lanes: Vec<LaneKind>,
}

impl Phrases {
    /// Compiles the phrases.
    ///
    /// # Errors
    /// The first phrase that cannot be used, or with which the set would take more memory than
    /// [`PHRASES_DFA_BYTES_MAX`](crate::limits::PHRASES_DFA_BYTES_MAX).
    pub fn compile(settings: &Settings) -> Result<Self, PhraseError> {
        let literals = Literals::compile(&settings.literals, settings.case_insensitive)?;
        let taken = literals.as_ref().map_or(0, Literals::bytes_taken);
        let machines = compile::machines(settings, taken)?;
        Ok(Self {
            literals,
            machines,
            lanes: settings.lanes.clone(),
        })
    }

    /// Whether lanes of this channel are to be searched.
    #[must_use]
    pub fn watches(&self, channel: Channel) -> bool {
        let any = self.literals.is_some() || !self.machines.is_empty();
        any && self.lanes.contains(&LaneKind::of(channel))
    }
}

/// The rule on one lane. It holds back what may still become a phrase: of literals the longest beginning of one at the
/// end of the text, of patterns everything since the last byte that none of them could use, up to
/// [`Settings::pattern_hold_bytes`].
#[derive(Debug, Clone)]
pub struct ForbiddenPhrase {
    phrases: Arc<Phrases>,
    watched: bool,
    literals: LiteralTracker,
    /// One for each machine; none on a lane that is not watched.
    patterns: Vec<PatternTracker>,
}

impl ForbiddenPhrase {
    /// The rule for one lane.
    #[must_use]
    pub fn new(phrases: Arc<Phrases>, context: &LaneContext<'_>) -> Self {
        let watched = phrases.watches(context.lane.channel);
        let machines = if watched { phrases.machines.as_slice() } else { &[] };
        let patterns = machines.iter().map(PatternTracker::new).collect();
        Self {
            phrases,
            watched,
            literals: LiteralTracker::default(),
            patterns,
        }
    }

    /// The automaton of the literals, where there is one and the lane is watched.
    fn watching(&self) -> Option<&Literals> {
        self.phrases.literals.as_ref().filter(|_| self.watched)
    }
}

impl Rule for ForbiddenPhrase {
    fn feed(&mut self, at: u64, text: &str, raised: &mut Vec<Raised>) {
        let before = raised.len();
        if self.watched
            && let Some(literals) = &self.phrases.literals
        {
            self.literals.feed(literals, at, text, raised);
        }
        for (tracker, machine) in self.patterns.iter_mut().zip(&self.phrases.machines) {
            tracker.feed(machine, at, text, raised);
        }
        // The automata read a piece one after the other; the order must not depend on how long the piece was.
        raised[before..].sort_by_key(|r| r.offset);
    }

    fn end(&mut self, at: u64, _end: LaneEnd, raised: &mut Vec<Raised>) {
        for (tracker, machine) in self.patterns.iter_mut().zip(&self.phrases.machines) {
            tracker.end(machine, at, raised);
        }
    }

    fn held_from(&self) -> Option<u64> {
        let patterns = self
            .patterns
            .iter()
            .zip(&self.phrases.machines)
            .filter_map(|(t, m)| t.held_from(m));
        patterns
            .chain(self.watching().and_then(|l| self.literals.held_from(l)))
            .min()
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
