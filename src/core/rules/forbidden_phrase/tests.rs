use super::*;
use crate::error::Code;
use crate::event::{FinishReason, LaneId};
use crate::request::RequestFacts;

const STOP: LaneEnd = LaneEnd::Finished(FinishReason::Stop);

fn owned(phrases: &[&str]) -> Vec<String> {
    phrases.iter().map(|&p| p.to_owned()).collect()
}

pub(super) fn settings(literals: &[&str], patterns: &[&str]) -> Settings {
    Settings {
        literals: owned(literals),
        patterns: owned(patterns),
        ..Settings::default()
    }
}

fn rule_on(settings: &Settings, channel: Channel) -> ForbiddenPhrase {
    let request = RequestFacts::default();
    let phrases = Arc::new(Phrases::compile(settings).unwrap());
    ForbiddenPhrase::new(
        phrases,
        &LaneContext {
            lane: LaneId::first(channel),
            request: &request,
        },
    )
}

pub(super) fn rule(settings: &Settings) -> ForbiddenPhrase {
    rule_on(settings, Channel::Content)
}

/// Feeds the pieces and ends the lane.
pub(super) fn run<'a>(rule: &ForbiddenPhrase, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Raised> {
    let (mut rule, mut at, mut raised) = (rule.clone(), 0, Vec::new());
    for piece in pieces {
        rule.feed(at, piece, &mut raised);
        at += piece.len() as u64;
    }
    rule.end(at, STOP, &mut raised);
    raised
}

fn spans(rule: &ForbiddenPhrase, text: &str) -> Vec<(u64, std::ops::Range<u64>)> {
    run(rule, [text])
        .into_iter()
        .map(|r| (r.offset, r.span))
        .collect()
}

pub(super) fn held(rule: &ForbiddenPhrase, text: &str) -> Option<u64> {
    let mut rule = rule.clone();
    rule.feed(0, text, &mut Vec::new());
    rule.held_from()
}

#[test]
fn every_occurrence_of_a_literal_is_found_where_it_ends() {
    let rule = rule(&settings(&["rm -rf", "aa", "é!"], &[]));
    assert_eq!(
        spans(&rule, "do rm -rf / and aaa, é!"),
        [(9, 3..9), (18, 16..18), (19, 17..19), (24, 21..24)]
    );
    let raised = run(&rule, ["x é!"]);
    assert_eq!(raised[0].code, Code::ForbiddenPhrase);
    assert_eq!(
        raised[0].detail,
        "a forbidden phrase of 3 bytes: forbidden_phrase.literals[2]"
    );
}

#[test]
fn literals_are_held_by_exactly_what_may_complete() {
    let rule = rule(&settings(&["password", "pass word", "ssx"], &[]));
    for (text, wanted) in [
        ("", None),
        ("the pa", Some(4)),
        ("the pax", None),
        ("the pass", Some(4)),
        ("the passs", Some(7)),
        ("pppp", Some(3)),
        ("password", None),
        ("pass wor", Some(0)),
        ("pass worp", Some(8)),
    ] {
        assert_eq!(held(&rule, text), wanted, "{text:?}");
    }
}

#[test]
fn patterns_are_found_at_their_earliest_end() {
    let rule = rule(&settings(
        &[],
        &["sk-[a-z0-9]{4,}", r"(?-u:\bcat\b)", "end$", "(?i)^note"],
    ));
    assert_eq!(
        spans(&rule, "key sk-ab12cd34 sk-zzzz"),
        [(11, 4..11), (23, 16..23)]
    );
    assert_eq!(spans(&rule, "a cat, a catalogue, cat"), [(6, 2..5), (23, 20..23)]);
    assert_eq!(
        spans(&rule, "a caté"),
        [(7, 2..5)],
        "the byte that confirms belongs to a scalar of two bytes"
    );
    assert_eq!(spans(&rule, "bend end"), [(8, 5..8)]);
    assert_eq!(spans(&rule, "NOTE: note"), [(4, 0..4)]);
    let details: Vec<_> = run(&rule, ["sk-aaaa cat end"])
        .into_iter()
        .map(|r| r.detail)
        .collect();
    assert_eq!(
        details[0],
        "a forbidden phrase of 7 bytes: forbidden_phrase.patterns[0]"
    );
    assert!(
        details[1].ends_with("patterns[1]") && details[2].ends_with("patterns[2]"),
        "{details:?}"
    );
}

#[test]
fn patterns_hold_nothing_while_none_has_begun() {
    let rule = rule(&settings(&[], &["sk-[a-z0-9]{4,}", r"(?-u:\bcat\b)"]));
    for (text, wanted) in [
        ("hello ", None),
        ("hello s", Some(6)),
        ("hello sk-a", Some(6)),
        ("hello sk-a!", None),
    ] {
        assert_eq!(held(&rule, text), wanted, "{text:?}");
    }
    assert_eq!(held(&rule, "a cat"), Some(2), "the next byte decides");
    assert_eq!(held(&rule, "concat"), None, "no word begins here");

    let bounded = Settings {
        pattern_hold_bytes: 8,
        ..settings(&[], &["<.*>"])
    };
    let bounded = self::rule(&bounded);
    assert_eq!(held(&bounded, "a <bc"), Some(2));
    assert_eq!(held(&bounded, "a <bcdefghijklm"), Some(7));
}

#[test]
fn the_text_is_sound_up_to_the_match_even_where_it_was_not_all_held() {
    let bounded = Settings {
        pattern_hold_bytes: 8,
        ..settings(&["secret"], &["<.*>", "key=[0-9]{2}"])
    };
    let raised = run(&rule(&bounded), ["a <bcdefghijklm> key=12 a secret"]);
    let found: Vec<_> = raised.iter().map(|r| (r.span.clone(), r.sound_to)).collect();
    // The first pattern's match may still grow, so a third of its kind could begin nowhere else.
    assert_eq!(found, [(8..16, 2), (17..23, 17), (26..32, 26)]);
}

#[test]
fn phrases_are_found_after_and_across_a_joint() {
    let rule = rule(&settings(&["password"], &["sk-[a-z0-9]{4}"]));
    for text in ["the password", "key sk-ab12", "password and sk-ab12"] {
        let whole = run(&rule, [text]);
        for joint in 0..=text.len() {
            let (mut rule, mut raised) = (rule.clone(), Vec::new());
            let (before, after) = text.split_at(joint);
            rule.feed(0, before, &mut raised);
            rule.resumed();
            rule.feed(joint as u64, after, &mut raised);
            rule.end(text.len() as u64, STOP, &mut raised);
            assert_eq!(raised, whole, "{before:?} {after:?}");
        }
    }
}

#[test]
fn patterns_that_multiply_each_other_are_split_up() {
    // Each counts on its own; in one DFA their counters multiply.
    let patterns = [
        "sk-[A-Za-z0-9]{20,}",
        "AKIA[0-9A-Z]{16}",
        "(?-u:\\b)ghp_[0-9a-zA-Z]{36}",
        "BEGIN [A-Z ]{0,20}PRIVATE KEY",
    ];
    let settings = settings(&["no"], &patterns);
    let machines = Phrases::compile(&settings).unwrap().machines.len();
    assert!((2..4).contains(&machines), "{machines} machines");
    let rule = rule(&settings);
    let key = "a1B2c3D4e5F6g7H8i9J0";
    let text = format!(
        "sk-{key} no AKIAABCDEFGHIJKLMNOP ghp_{key}{} BEGIN RSA PRIVATE KEY",
        &key[..16]
    );
    let raised = run(&rule, [text.as_str()]);
    let found: Vec<_> = raised
        .iter()
        .map(|r| r.detail.rsplit('.').next().unwrap())
        .collect();
    assert_eq!(
        found,
        [
            "patterns[0]",
            "literals[0]",
            "patterns[1]",
            "patterns[2]",
            "patterns[3]"
        ]
    );
    assert_eq!(held(&rule, "hello "), None);
}

#[test]
fn case_is_ignored_on_wish() {
    let exact = settings(&["Straße", "task"], &["key=\\d"]);
    let any = Settings {
        case_insensitive: true,
        ..exact.clone()
    };
    assert_eq!(spans(&rule(&exact), "STRASSE STRAßE TASK KEY=1"), []);
    // U+212A KELVIN SIGN is a case variant of k.
    assert_eq!(
        spans(&rule(&any), "STRAßE TASK KEY=1 ta\u{17f}\u{212a}"),
        [(7, 0..7), (12, 8..12), (18, 13..18), (26, 19..26)]
    );
}

#[test]
fn only_the_named_lanes_are_searched() {
    let settings = Settings {
        lanes: vec![LaneKind::ToolArguments],
        ..settings(&["no"], &[])
    };
    let phrases = Phrases::compile(&settings).unwrap();
    assert!(phrases.watches(Channel::ToolArguments(3)) && !phrases.watches(Channel::Content));
    assert_eq!(run(&rule_on(&settings, Channel::Content), ["no"]), []);
    assert_eq!(
        run(&rule_on(&settings, Channel::ToolArguments(0)), ["no"]).len(),
        1
    );
    assert!(
        !Phrases::compile(&Settings::default())
            .unwrap()
            .watches(Channel::Content)
    );
}

#[test]
fn findings_are_bounded_and_then_nothing_is_held() {
    let rule = rule(&settings(&["ab"], &[]));
    let raised = run(&rule, ["ab".repeat(100).as_str()]);
    assert_eq!(raised.len(), RAISED_MAX);
    assert_eq!(held(&rule, &("ab".repeat(100) + "a")), None);
}

#[test]
fn unusable_phrases_are_named_with_reason_and_remedy() {
    let huge = r"\pL{9}{9}{9}{9}";
    for (settings, key, reason, remedy) in [
        (
            settings(&["a", ""], &[]),
            "forbidden_phrase.literals[1]",
            "is empty",
            "Remove it",
        ),
        (
            settings(&[], &["a("]),
            "forbidden_phrase.patterns[0]",
            "is not a regular expression: unclosed group",
            "Mend",
        ),
        (
            settings(&[], &["a", "b*"]),
            "forbidden_phrase.patterns[1]",
            "matches the empty text",
            "with + instead of *",
        ),
        (
            settings(&[], &["[a&&b]"]),
            "forbidden_phrase.patterns[0]",
            "can never match",
            "Remove it",
        ),
        (
            settings(&[], &[r"\bx\b"]),
            "forbidden_phrase.patterns[0]",
            "Unicode word boundaries",
            r"(?-u:\b)",
        ),
        (
            settings(&[], &[r"(?-u:\xff)"]),
            "forbidden_phrase.patterns[0]",
            "invalid UTF-8",
            "Mend",
        ),
        (
            settings(&[], &["a", huge]),
            "forbidden_phrase.patterns[1]",
            "cannot be compiled within",
            "smaller counts",
        ),
    ] {
        let error = Phrases::compile(&settings).unwrap_err();
        assert_eq!(error.key, key);
        assert!(error.reason.contains(reason), "{error}");
        assert!(error.remedy.contains(remedy), "{error}");
        assert!(error.to_string().starts_with(key), "{error}");
    }
    let many: Vec<String> = (0..40_000).map(|i| format!("{i:05} secret")).collect();
    let error = Phrases::compile(&Settings {
        literals: many,
        ..Settings::default()
    })
    .unwrap_err();
    assert!(
        error.reason.starts_with("takes the list beyond") && error.key.ends_with(']'),
        "{error}"
    );
    let long = Phrases::compile(&settings(&[], &[&format!("({}", "x".repeat(100))])).unwrap_err();
    assert_eq!(long.text.chars().count(), 61, "a long phrase is shortened");
}
