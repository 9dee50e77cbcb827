//! In which states of a DFA nothing needs to be held back.
//!
//! A dense DFA of `regex-automata` does not say whether a match is in progress. That is found out from outside: two
//! states with the same row of transitions have the same future, so a state whose row is that of a start state has
//! forgotten everything read before.

use super::patterns::{Machine, PATTERNS};
use super::settings::PhraseError;
use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use std::collections::{HashMap, HashSet};

/// A state's whole future: where each class of bytes leads, and the end of the text.
type Row = Vec<StateID>;

fn row(dfa: &dense::DFA<Vec<u32>>, state: StateID) -> Row {
    let bytes = dfa
        .byte_classes()
        .representatives(0..=255)
        .filter_map(|unit| unit.as_u8());
    bytes
        .map(|byte| dfa.next_state(state, byte))
        .chain([dfa.next_eoi_state(state)])
        .collect()
}

/// Every state that bytes can reach, with its row.
fn rows(dfa: &dense::DFA<Vec<u32>>, start: StateID) -> Vec<(StateID, Row)> {
    let mut seen = HashSet::from([start]);
    let mut due = vec![start];
    let mut rows = Vec::new();
    while let Some(state) = due.pop() {
        let row = row(dfa, state);
        // The last entry is the end of the text, after which no byte comes.
        due.extend(
            row[..row.len() - 1]
                .iter()
                .copied()
                .filter(|&next| seen.insert(next)),
        );
        rows.push((state, row));
    }
    rows
}

/// The state in which a search begins after `byte`.
pub(super) fn start_after(dfa: &dense::DFA<Vec<u32>>, byte: Option<u8>) -> Result<StateID, PhraseError> {
    dfa.start_state(&start::Config::new().anchored(Anchored::No).look_behind(byte))
        .map_err(|e| {
            let reason = format!("has no start state: {e}");
            PhraseError::new(
                PATTERNS,
                None,
                "the whole list",
                reason,
                "Report this as a defect.",
            )
        })
}

/// Every reachable state, and whether its future is that of a search that begins there: then nothing read so far can
/// be part of a match to come. Which start state that is depends on the byte before it (`^` and `\b` look at it), so
/// it must agree for every byte that leads there.
pub(super) fn idle_states(machine: &Machine) -> Result<Vec<(StateID, bool)>, PhraseError> {
    let dfa = &machine.dfa;
    let rows = rows(dfa, machine.start);
    // Rows are compared often: give equal ones the same number first.
    let mut numbers = HashMap::new();
    let by_state: HashMap<StateID, usize> = rows
        .iter()
        .map(|(state, row)| {
            let next = numbers.len();
            (*state, *numbers.entry(row).or_insert(next))
        })
        .collect();
    let mut fresh = Vec::new();
    for byte in dfa
        .byte_classes()
        .representatives(0..=255)
        .filter_map(|unit| unit.as_u8())
    {
        fresh.push((
            byte,
            numbers.get(&row(dfa, start_after(dfa, Some(byte))?)).copied(),
        ));
    }
    let mut busy = HashSet::new();
    for (state, _) in &rows {
        for &(byte, fresh) in &fresh {
            let next = dfa.next_state(*state, byte);
            if by_state.get(&next).copied() != fresh {
                busy.insert(next);
            }
        }
    }
    Ok(rows
        .into_iter()
        .map(|(state, _)| (state, !busy.contains(&state)))
        .collect())
}
