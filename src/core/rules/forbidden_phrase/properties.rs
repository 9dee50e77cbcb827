//! Properties of the rule against brute force.

use super::tests::{held, rule, run, settings};
use super::*;
use proptest::prelude::*;
use regex_automata::dfa::{Automaton, OverlappingState, StartKind, dense};
use regex_automata::{Anchored, Input, MatchKind};

/// Cuts a text at the scalars where `cuts` says so.
fn pieces<'a>(text: &'a str, cuts: &[bool]) -> Vec<&'a str> {
    let mut from = 0;
    let mut pieces = Vec::new();
    for (count, (index, _)) in text.char_indices().enumerate() {
        if cuts[count % cuts.len()] {
            pieces.push(&text[from..index]);
            from = index;
        }
    }
    pieces.push(&text[from..]);
    pieces
}

/// All places where a literal stands: its end, its start, its index; in the order of the findings.
fn occurrences(
    text: &str,
    literals: &[String],
    same: impl Fn(char, char) -> bool,
) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    for (index, literal) in literals.iter().enumerate() {
        for (start, _) in text.char_indices() {
            let mut rest = text[start..].chars();
            if literal.chars().all(|l| rest.next().is_some_and(|c| same(c, l))) {
                all.push((text.len() - rest.as_str().len(), start, index));
            }
        }
    }
    all.sort_by_key(|&(end, _, index)| (end, index));
    all
}

/// The longest end of the text that begins a literal without being one whole.
fn open_from(text: &str, literals: &[String], same: impl Fn(char, char) -> bool) -> Option<usize> {
    text.char_indices().map(|(start, _)| start).find(|&start| {
        let tail: Vec<char> = text[start..].chars().collect();
        literals.iter().any(|literal| {
            let literal: Vec<char> = literal.chars().collect();
            literal.len() > tail.len() && tail.iter().zip(&literal).all(|(&c, &l)| same(c, l))
        })
    })
}

/// Feeds the pieces as a relay would and returns how much had been released after each number of bytes.
fn released(rule: &ForbiddenPhrase, pieces: &[&str]) -> Vec<(u64, u64)> {
    let (mut rule, mut at, mut out, mut steps) = (rule.clone(), 0, 0, Vec::new());
    for piece in pieces {
        let mut raised = Vec::new();
        rule.feed(at, piece, &mut raised);
        at += piece.len() as u64;
        out = rule.held_from().unwrap_or(at).max(out);
        steps.push((at, out));
    }
    steps
}

/// Simple case folding of the letters the tests use, written down independently of the tables under test.
fn folds_alike(a: char, b: char) -> bool {
    let fold = |c: char| match c {
        'K' | '\u{212a}' => 'k',
        'S' | '\u{17f}' => 's',
        'A' => 'a',
        'É' => 'é',
        other => other,
    };
    fold(a) == fold(b)
}

fn words(alphabet: &str, len: std::ops::Range<usize>) -> impl Strategy<Value = String> + use<> {
    prop::collection::vec(prop::sample::select(alphabet.chars().collect::<Vec<_>>()), len)
        .prop_map(|chars| chars.into_iter().collect())
}

/// Every match of a pattern as (start, end), by anchored searches from every place of the whole text.
fn matches(pattern: &str, text: &str) -> Vec<(usize, usize)> {
    let dfa = dense::Builder::new()
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::All)
                .start_kind(StartKind::Anchored),
        )
        .build(pattern)
        .unwrap();
    let mut all = Vec::new();
    for start in 0..=text.len() {
        let input = Input::new(text).span(start..text.len()).anchored(Anchored::Yes);
        let mut state = OverlappingState::start();
        while let Some(hit) = {
            dfa.try_search_overlapping_fwd(&input, &mut state).unwrap();
            state.get_match()
        } {
            all.push((start, hit.offset()));
        }
    }
    all
}

proptest! {
    #[test]
    fn literals_are_found_and_held_exactly(
        literals in prop::collection::vec(words("abé", 1..6), 1..5),
        text in words("abéx", 0..14),
        cuts in prop::collection::vec(any::<bool>(), 16),
    ) {
        let same = |a: char, b: char| a == b;
        let rule = rule(&Settings { literals: literals.clone(), ..Settings::default() });
        let expected: Vec<_> = occurrences(&text, &literals, same)
            .into_iter()
            .map(|(end, start, index)| (end as u64, start as u64..end as u64, format!("literals[{index}]")))
            .collect();
        prop_assume!(expected.len() <= RAISED_MAX);
        let pieces = pieces(&text, &cuts);
        let found = run(&rule, pieces.iter().copied());
        prop_assert_eq!(&found, &run(&rule, [text.as_str()]));
        prop_assert_eq!(found.len(), expected.len(), "{:?}", found);
        for (found, (offset, span, key)) in found.iter().zip(&expected) {
            prop_assert_eq!((found.offset, &found.span), (*offset, span));
            prop_assert!(found.detail.ends_with(key.as_str()), "{}", found.detail);
        }
        if expected.len() < RAISED_MAX {
            for (end, _) in text.char_indices() {
                let wanted = open_from(&text[..end], &literals, same).map(|at| at as u64);
                prop_assert_eq!(held(&rule, &text[..end]), wanted, "{:?}", &text[..end]);
            }
        }
        for (read, out) in released(&rule, &pieces) {
            for (end, span, _) in &expected {
                prop_assert!(*end <= read || out <= span.start, "{span:?} left in part: {out} of {read}");
            }
        }
    }

    #[test]
    fn literals_of_any_case_never_leave_in_part(
        literals in prop::collection::vec(words("aksé", 1..5), 1..4),
        text in words("aAkK\u{212a}sS\u{17f}éÉx", 0..14),
        cuts in prop::collection::vec(any::<bool>(), 16),
    ) {
        let settings = Settings { literals: literals.clone(), case_insensitive: true, ..Settings::default() };
        let rule = rule(&settings);
        let expected = occurrences(&text, &literals, folds_alike);
        prop_assume!(expected.len() < RAISED_MAX);
        let pieces = pieces(&text, &cuts);
        let found = run(&rule, pieces.iter().copied());
        prop_assert_eq!(&found, &run(&rule, [text.as_str()]));
        prop_assert_eq!(found.len(), expected.len(), "{:?}", found);
        for (found, &(end, start, _)) in found.iter().zip(&expected) {
            prop_assert_eq!((found.offset, found.span.end), (end as u64, end as u64));
            prop_assert!(found.span.start <= start as u64, "{:?} does not cover {}", found.span, start);
        }
        for (end, _) in text.char_indices() {
            let open = open_from(&text[..end], &literals, folds_alike).map(|at| at as u64);
            let held = held(&rule, &text[..end]);
            prop_assert_eq!(held.is_some(), open.is_some(), "{:?}", &text[..end]);
            prop_assert!(held <= open, "{:?}: held from {:?}, open from {:?}", &text[..end], held, open);
        }
        for (read, out) in released(&rule, &pieces) {
            for &(end, start, _) in &expected {
                prop_assert!(end as u64 <= read || out <= start as u64);
            }
        }
    }

    #[test]
    fn patterns_are_found_early_and_never_leave_in_part(
        patterns in prop::sample::subsequence(vec![
            "ab+c", "a[^b]*b", r"(?-u:\b)ab(?-u:\b)", "(?m)^b", "c$", "a|bc", "(ab){2}", "é.a", "(?m)a$", "x(?-u:\\B)x",
        ], 1..4),
        text in words("abcx \né", 0..14),
        cuts in prop::collection::vec(any::<bool>(), 16),
    ) {
        let rule = rule(&settings(&[], &patterns));
        let pieces = pieces(&text, &cuts);
        let found = run(&rule, pieces.iter().copied());
        prop_assert_eq!(&found, &run(&rule, [text.as_str()]));
        prop_assume!(found.len() < RAISED_MAX);
        let steps = released(&rule, &pieces);
        for (index, pattern) in patterns.iter().enumerate() {
            let all = matches(pattern, &text);
            let mine: Vec<_> = found.iter().filter(|r| r.detail.ends_with(&format!("[{index}]"))).collect();
            let ends: Vec<_> = mine.iter().map(|r| r.span.end as usize).collect();
            prop_assert_eq!(ends.first(), all.iter().map(|(_, end)| end).min(), "{}: {:?}", pattern, all);
            for raised in mine {
                let covered = all.iter().any(|&(start, end)| {
                    end as u64 == raised.span.end && start as u64 >= raised.span.start
                });
                prop_assert!(covered, "{pattern}: {raised:?} is no match: {all:?}");
                prop_assert!(raised.offset >= raised.span.end && raised.offset <= raised.span.end + 4);
            }
            for &(start, end) in &all {
                for &(read, out) in &steps {
                    prop_assert!(end as u64 <= read || out <= start as u64, "{pattern} {start}..{end} left: {out} of {read}");
                }
            }
        }
    }

    #[test]
    fn what_is_sound_ends_before_any_match(
        patterns in prop::sample::subsequence(vec![
            "ab+c", "a[^b]*b", r"(?-u:\b)ab(?-u:\b)", "c$", "a|bc", "(ab){2}", "é.a", "(?m)a$",
        ], 1..4),
        literals in prop::collection::vec(words("abé", 1..6), 0..3),
        text in words("abcx \né", 0..20),
        hold in 1usize..6,
    ) {
        let patterns_held = settings(&[], &patterns);
        let rule = rule(&Settings { literals: literals.clone(), pattern_hold_bytes: hold, ..patterns_held });
        for found in run(&rule, [text.as_str()]) {
            prop_assert!(found.sound_to <= found.span.start && text.is_char_boundary(found.span.end as usize));
            let (_, number) = found.detail.rsplit_once('[').unwrap();
            let number: usize = number.trim_end_matches(']').parse().unwrap();
            let starts: Vec<usize> = if found.detail.contains("literals") {
                vec![found.span.end as usize - literals[number].len()]
            } else {
                matches(patterns[number], &text)
                    .into_iter()
                    .filter(|&(_, end)| end as u64 == found.span.end)
                    .map(|(start, _)| start)
                    .collect()
            };
            prop_assert!(!starts.is_empty());
            for start in starts {
                prop_assert!(found.sound_to <= start as u64, "{found:?} began at {start}");
            }
        }
    }
}
