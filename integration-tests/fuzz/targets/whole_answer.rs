//! Any body of a non-streaming answer is judged without a panic, and at most one finding keeps it back.
#![no_main]

use aegis_core::decide::{Decision, OnFailure, Policy};
use aegis_core::dialect::Dialect;
use aegis_core::relay::Guard;
use aegis_core::request::RequestFacts;
use aegis_core::whole::judge;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    json: bool,
    closed: bool,
    completions: bool,
    body: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let on_failure = if input.closed {
        OnFailure::Closed
    } else {
        OnFailure::Open
    };
    let guard = Guard {
        policy: Policy {
            on_failure,
            ..Policy::default()
        },
        ..Guard::default()
    };
    let dialect = if input.completions {
        Dialect::Completions
    } else {
        Dialect::Chat
    };
    let request = RequestFacts {
        choices: 1,
        json: input.json,
        ..RequestFacts::default()
    };
    let judged = judge(&guard, dialect, Arc::new(request), input.body);
    let kept = judged
        .incidents
        .iter()
        .filter(|i| i.decision != Decision::Pass)
        .count();
    assert_eq!(kept, usize::from(judged.cut.is_some()));
    if let (Some(cut), Some(last)) = (&judged.cut, judged.incidents.last()) {
        assert_eq!(
            (cut.code, cut.offset),
            (last.code, last.offset),
            "nothing is recorded after it"
        );
    }
    let readable = std::str::from_utf8(input.body).is_ok_and(|text| dialect.object(text).is_ok());
    assert!(
        readable || judged.incidents.len() == 1,
        "an unreadable answer is an incident"
    );
});
