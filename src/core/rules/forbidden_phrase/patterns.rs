//! Patterns on a lane: dense DFAs of `regex-automata`, fed byte by byte.
//!
//! Such a DFA reports a match one byte late, because what follows may matter (`\b`, `$`). Where nothing that follows
//! matters, the match is found at once by asking what the DFA would say if the text ended here.

use super::RAISED_MAX;
use crate::error::Code;
use crate::rule::Raised;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;

/// The config key of the patterns.
pub(super) const PATTERNS: &str = "forbidden_phrase.patterns";

/// One DFA and what is known of its states and phrases.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) dfa: dense::DFA<Vec<u32>>,
    pub(super) start: StateID,
    /// By state index.
    pub(super) states: Vec<StateFacts>,
    /// By the DFA's pattern index.
    pub(super) patterns: Vec<Pattern>,
}

/// What holds whenever a lane is in a state.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StateFacts {
    /// How many of the last bytes may still become a known. 0 when none can.
    pub(super) hold: u32,
    /// A phrase ends with the byte just read.
    pub(super) ends: bool,
    /// A phrase ended before the byte just read, which confirms it.
    pub(super) confirms: bool,
}

/// One pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// Its index in the config's list.
    pub(super) number: usize,
    /// Longest text it can match, or the most that is held for it, if that is less. In bytes.
    pub(super) bytes_max: u32,
    /// It can match more than that.
    pub(super) longer: bool,
    /// It ends in a look-around (`\b`, `$`), so only the byte after it, or the end of the lane, confirms it.
    pub(super) looks_ahead: bool,
}

impl Machine {
    fn facts(&self, state: StateID) -> StateFacts {
        self.states
            .get(state.as_usize() >> self.dfa.stride2())
            .copied()
            .unwrap_or_default()
    }
}

/// One machine's place in one lane.
#[derive(Debug, Clone)]
pub(super) struct PatternTracker {
    state: StateID,
    /// Bytes of the lane read.
    read: u64,
    /// The last place where nothing had to be held: no phrase still open began before it.
    idle_at: u64,
    /// Pattern and end of each finding.
    found: Vec<(usize, u64)>,
}

impl PatternTracker {
    pub(super) const fn new(machine: &Machine) -> Self {
        Self {
            state: machine.start,
            read: 0,
            idle_at: 0,
            found: Vec::new(),
        }
    }

    pub(super) fn feed(&mut self, machine: &Machine, at: u64, text: &str, raised: &mut Vec<Raised>) {
        if self.found.len() >= RAISED_MAX {
            return;
        }
        self.read = at + text.len() as u64;
        let mut state = self.state;
        for (index, &byte) in text.as_bytes().iter().enumerate() {
            state = machine.dfa.next_state(state, byte);
            let facts = machine.facts(state);
            let position = at + index as u64;
            if facts.confirms {
                let seen = position + scalar_len(byte);
                self.report(machine, state, Confirmed::ByNextByte, position, seen, raised);
            }
            if facts.ends {
                let ended = machine.dfa.next_eoi_state(state);
                self.report(
                    machine,
                    ended,
                    Confirmed::ByItself,
                    position + 1,
                    position + 1,
                    raised,
                );
            }
            if facts.hold == 0 {
                self.idle_at = position + 1;
            }
        }
        self.state = state;
    }

    pub(super) fn end(&mut self, machine: &Machine, at: u64, raised: &mut Vec<Raised>) {
        let ended = machine.dfa.next_eoi_state(self.state);
        self.report(machine, ended, Confirmed::ByNextByte, at, at, raised);
    }

    /// Reports the phrases of a match state that are confirmed in the given way. They end at byte `end`; `seen` is
    /// how much of the lane it took to know.
    fn report(
        &mut self,
        machine: &Machine,
        state: StateID,
        confirmed: Confirmed,
        end: u64,
        seen: u64,
        raised: &mut Vec<Raised>,
    ) {
        if !machine.dfa.is_match_state(state) {
            return;
        }
        let mut patterns: Vec<usize> = (0..machine.dfa.match_len(state))
            .map(|i| machine.dfa.match_pattern(state, i).as_usize())
            .collect();
        patterns.sort_unstable();
        for pattern in patterns {
            let known = machine.patterns[pattern];
            let due = known.looks_ahead == (confirmed == Confirmed::ByNextByte);
            // A pattern's match that grows or overlaps, with no idle byte between, is the same occurrence.
            let again = self.found.iter().any(|&(p, e)| p == pattern && e > self.idle_at);
            if !due || again || self.found.len() >= RAISED_MAX {
                continue;
            }
            self.found.push((pattern, end));
            let start = end.saturating_sub(u64::from(known.bytes_max)).max(self.idle_at);
            let detail = format!(
                "a forbidden phrase of {} bytes: {PATTERNS}[{}]",
                end - start,
                known.number
            );
            raised.push(Raised {
                // The span of a long match is cut to what was held; the match itself may begin before it.
                sound_to: if known.longer { self.idle_at } else { start },
                ..Raised::new(Code::ForbiddenPhrase, seen, start..end, detail)
            });
        }
    }

    pub(super) fn held_from(&self, machine: &Machine) -> Option<u64> {
        match machine.facts(self.state).hold {
            _ if self.found.len() >= RAISED_MAX => None,
            0 => None,
            hold => Some(self.read.saturating_sub(u64::from(hold)).max(self.idle_at)),
        }
    }
}

/// What makes a match certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmed {
    ByItself,
    ByNextByte,
}

/// Bytes of the UTF-8 scalar that begins with this byte.
const fn scalar_len(lead: u8) -> u64 {
    match lead {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}
