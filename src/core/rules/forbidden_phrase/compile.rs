//! From the config's patterns to DFAs: checks each, joins them as far as that stays small, and records what holds in
//! each state.

use super::holds::{idle_states, start_after};
use super::patterns::{Machine, PATTERNS, Pattern, StateFacts};
use super::settings::{PhraseError, Settings};
use crate::limits::PHRASES_DFA_BYTES_MAX;
use regex_automata::MatchKind;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_syntax::hir::Hir;
use std::ops::Range;

/// Most that one DFA of several patterns may take. Patterns that count in the same text multiply each other's states,
/// so beyond this it is cheaper to run two DFAs side by side; small ones also stay in the processor's cache.
const SHARED_DFA_BYTES_MAX: usize = PHRASES_DFA_BYTES_MAX / 16;

/// Compiles the patterns beside automata that take `taken` bytes already.
pub(super) fn machines(settings: &Settings, taken: usize) -> Result<Vec<Machine>, PhraseError> {
    let hirs = patterns(settings)?;
    let groups = groups(settings, &hirs, taken)?;
    groups
        .into_iter()
        .map(|(numbers, dfa)| machine(settings, &hirs, numbers, dfa))
        .collect()
}

/// Parses and checks the patterns.
fn patterns(settings: &Settings) -> Result<Vec<Hir>, PhraseError> {
    const SYNTAX: &str = "Mend the regular expression; it has the syntax of the Rust regex crate.";
    let checked = settings.patterns.iter().enumerate().map(|(index, pattern)| {
        let fail = |reason: String, remedy| PhraseError::new(PATTERNS, Some(index), pattern, reason, remedy);
        let hir = parse(pattern, settings.case_insensitive).map_err(|reason| fail(reason, SYNTAX))?;
        check_pattern(&hir).map_err(|(reason, remedy)| fail(reason.to_owned(), remedy))?;
        Ok(hir)
    });
    checked.collect()
}

/// The numbers of the patterns that share a DFA, and the DFA.
type Group = (Range<usize>, dense::DFA<Vec<u32>>);

/// Puts neighbouring patterns into one DFA while it stays small, and halves the list where it does not.
fn groups(settings: &Settings, hirs: &[Hir], mut taken: usize) -> Result<Vec<Group>, PhraseError> {
    let mut groups = Vec::new();
    let mut due: Vec<Range<usize>> = std::iter::once(0..hirs.len()).collect();
    while let Some(numbers) = due.pop() {
        if numbers.is_empty() {
            continue;
        }
        let left = PHRASES_DFA_BYTES_MAX.saturating_sub(taken);
        let alone = numbers.len() == 1;
        let bytes_max = if alone {
            left
        } else {
            left.min(SHARED_DFA_BYTES_MAX)
        };
        match build(&hirs[numbers.clone()], bytes_max) {
            Ok(dfa) => {
                taken += dfa.memory_usage();
                groups.push((numbers, dfa));
            }
            Err(reason) if alone => {
                let (index, remedy) = (
                    numbers.start,
                    r"Use smaller counts in {..}, (?-u:\w) instead of \w, or fewer patterns.",
                );
                let reason = format!("{reason}; the phrases before it take {taken} bytes");
                return Err(PhraseError::new(
                    PATTERNS,
                    Some(index),
                    &settings.patterns[index],
                    reason,
                    remedy,
                ));
            }
            Err(_) => {
                let middle = numbers.start + numbers.len() / 2;
                due.push(middle..numbers.end);
                due.push(numbers.start..middle);
            }
        }
    }
    Ok(groups)
}

fn machine(
    settings: &Settings,
    hirs: &[Hir],
    numbers: Range<usize>,
    dfa: dense::DFA<Vec<u32>>,
) -> Result<Machine, PhraseError> {
    let hold = u32::try_from(settings.pattern_hold_bytes).unwrap_or(u32::MAX);
    let pattern = |number: usize| {
        let properties = hirs[number].properties();
        let longest = properties.maximum_len().and_then(|n| u32::try_from(n).ok());
        let looks_ahead = !properties.look_set_suffix_any().is_empty();
        Pattern {
            number,
            bytes_max: longest.unwrap_or(hold).min(hold),
            longer: longest.is_none_or(|longest| longest > hold),
            looks_ahead,
        }
    };
    let start = start_after(&dfa, None)?;
    let patterns = numbers.map(pattern).collect();
    let mut machine = Machine {
        dfa,
        start,
        states: Vec::new(),
        patterns,
    };
    for (state, idle) in idle_states(&machine)? {
        // At least one byte, so that 0 means idle even when nothing is to be held.
        note(&mut machine, state, if idle { 0 } else { hold.max(1) });
    }
    Ok(machine)
}

fn parse(pattern: &str, case_insensitive: bool) -> Result<Hir, String> {
    regex_syntax::ParserBuilder::new()
        .case_insensitive(case_insensitive)
        .build()
        .parse(pattern)
        .map_err(|e| match e {
            regex_syntax::Error::Parse(e) => format!("is not a regular expression: {}", e.kind()),
            regex_syntax::Error::Translate(e) => format!("is not a usable regular expression: {}", e.kind()),
            other => format!("is not a usable regular expression: {other}"),
        })
}

fn check_pattern(hir: &Hir) -> Result<(), (&'static str, &'static str)> {
    let properties = hir.properties();
    match properties.minimum_len() {
        None => return Err(("can never match", "Remove it or mend the empty class in it.")),
        Some(0) => {
            return Err((
                "matches the empty text",
                "Make at least one character obligatory, with + instead of *.",
            ));
        }
        Some(_) => {}
    }
    if properties.look_set().contains_word_unicode() {
        return Err((
            r"needs Unicode word boundaries, which cannot be searched one byte at a time",
            r"Write (?-u:\b) instead of \b, and likewise for \B, \< and \>.",
        ));
    }
    Ok(())
}

/// One DFA that reports every pattern at every place where it ends.
fn build(hirs: &[Hir], bytes_max: usize) -> Result<dense::DFA<Vec<u32>>, String> {
    let says = |e: &dyn std::fmt::Display| format!("cannot be compiled within {bytes_max} bytes: {e}");
    let config = thompson::Config::new()
        .which_captures(thompson::WhichCaptures::None)
        .nfa_size_limit(Some(bytes_max));
    let nfa = thompson::Compiler::new()
        .configure(config)
        .build_many_from_hir(hirs)
        .map_err(|e| says(&e))?;
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .dfa_size_limit(Some(bytes_max))
        .determinize_size_limit(Some(bytes_max.saturating_mul(4)));
    dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .map_err(|e| says(&e))
}

/// Records what holds in a state.
fn note(machine: &mut Machine, state: StateID, hold: u32) {
    let any = |state: StateID, looks_ahead: bool| {
        machine.dfa.is_match_state(state)
            && (0..machine.dfa.match_len(state)).any(|i| {
                machine.patterns[machine.dfa.match_pattern(state, i).as_usize()].looks_ahead == looks_ahead
            })
    };
    let facts = StateFacts {
        hold,
        ends: any(machine.dfa.next_eoi_state(state), false),
        confirms: any(state, true),
    };
    let index = state.as_usize() >> machine.dfa.stride2();
    if machine.states.len() <= index {
        machine.states.resize(index + 1, StateFacts::default());
    }
    machine.states[index] = facts;
}
