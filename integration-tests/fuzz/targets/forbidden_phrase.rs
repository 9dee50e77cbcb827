//! The phrase rule: any phrases over any text give the same findings in any split, and no literal slips out.
#![no_main]

use aegis_core::event::{Channel, FinishReason, LaneId};
use aegis_core::request::RequestFacts;
use aegis_core::rule::{LaneContext, LaneEnd, Rule};
use aegis_core::rules::forbidden_phrase::{ForbiddenPhrase, Phrases, Settings};
use aegis_fuzz::{run, scalars, text_pieces};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

/// Patterns with every kind of look-around and of repeat that the rule has to carry over a cut.
const PATTERNS: &[&str] = &[
    "ab+c",
    r"(?-u:\b)ab(?-u:\b)",
    "(?m)^b",
    "c$",
    "a|bc",
    "(ab){2}",
    "é.a",
    r"sk-[a-z0-9]{4}",
    "(?i)launch",
    "[^a]b*a",
];

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    literals: Vec<&'a str>,
    patterns: Vec<u8>,
    own_pattern: Option<&'a str>,
    case_insensitive: bool,
    hold: u8,
    cuts: Vec<u16>,
    text: &'a str,
}

impl Input<'_> {
    fn settings(&self) -> Settings {
        let own = self.own_pattern.filter(|p| p.len() <= 16).map(str::to_owned);
        let chosen = self
            .patterns
            .iter()
            .take(3)
            .map(|i| PATTERNS[usize::from(*i) % PATTERNS.len()].to_owned());
        Settings {
            literals: self.literals.iter().take(6).map(|l| (*l).to_owned()).collect(),
            patterns: own.into_iter().chain(chosen).collect(),
            case_insensitive: self.case_insensitive,
            pattern_hold_bytes: usize::from(self.hold),
            ..Settings::default()
        }
    }
}

/// Checks that no byte of a literal's first occurrence is let go before the literal is found.
fn assert_kept(mut rule: ForbiddenPhrase, pieces: &[&str], text: &str, literal: &str) {
    let Some(start) = text.find(literal) else { return };
    let (mut at, mut raised) = (0, Vec::new());
    for piece in pieces {
        rule.feed(at, piece, &mut raised);
        at += piece.len() as u64;
        if !raised.is_empty() {
            return;
        }
        let out = rule.held_from().unwrap_or(at);
        assert!(
            out <= start as u64 || at <= start as u64,
            "{literal:?} left in part: {out} of {at}"
        );
    }
    panic!("{literal:?} was never found");
}

fuzz_target!(|input: Input<'_>| {
    let settings = input.settings();
    let phrases = match Phrases::compile(&settings) {
        Ok(phrases) => Arc::new(phrases),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let own = usize::from(input.own_pattern.is_some_and(|p| p.len() <= 16));
            let fixed = (own..settings.patterns.len()).any(|i| error.key.ends_with(&format!("patterns[{i}]")));
            assert!(!fixed || own > 0, "a sound pattern was refused: {error}");
            return;
        }
    };
    let request = RequestFacts::default();
    let context = LaneContext {
        lane: LaneId::first(Channel::Content),
        request: &request,
    };
    let rule = || ForbiddenPhrase::new(Arc::clone(&phrases), &context);
    let stop = LaneEnd::Finished(FinishReason::Stop);
    let whole = run(rule(), &[input.text], stop);
    let split = text_pieces(input.text, &input.cuts);
    assert!(whole.is_sorted_by_key(|r| r.offset));
    assert_eq!(whole, run(rule(), &scalars(input.text), stop));
    assert_eq!(whole, run(rule(), &split, stop));

    // Without patterns the answer is plain: the literal that is whole first is the first finding.
    if !settings.case_insensitive {
        for literal in &settings.literals {
            assert_kept(rule(), &split, input.text, literal);
        }
        let ends = settings
            .literals
            .iter()
            .filter_map(|l| Some(input.text.find(l.as_str())? + l.len()));
        if settings.patterns.is_empty() {
            assert_eq!(whole.first().map(|r| r.offset as usize), ends.min());
        }
    }
});
