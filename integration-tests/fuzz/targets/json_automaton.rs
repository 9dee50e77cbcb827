//! The automaton against `serde_json`: the same texts are whole, and it stops exactly where no continuation is left.
#![no_main]

use aegis_core::json::{Automaton, Impossible, Reason, check};
use aegis_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

/// Deeper than any input of the fuzzer by default.
const DEPTH_MAX: usize = 4096;

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    depth_max: u8,
    cuts: Vec<u16>,
    text: &'a str,
}

/// Of these, one continues any text that can still become JSON.
const CONTINUATIONS: &[&str] = &[
    "   ", "000", "0  ", "n00", "rue ", "ue ", "e  ", "alse ", "lse ", "se ", "ull ", "ll ", "l  ",
];

fn grammar(text: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).map(|_| ())
}

/// `serde_json` looks at the digits of an escape only once all four are there, and calls a number without its digits
/// wrong: so it is asked with something behind the prefix, which is at best still unfinished.
fn alive(prefix: &[u8]) -> bool {
    CONTINUATIONS.iter().any(|more| {
        let text = [prefix, more.as_bytes()].concat();
        grammar(&text).map_or_else(|error| error.is_eof(), |()| true)
    })
}

/// The automaton after `pieces`, and where it stopped.
fn feed(pieces: &[&[u8]], depth_max: usize) -> (Automaton, Option<(usize, Reason)>) {
    let (mut automaton, mut at) = (Automaton::new(depth_max), 0);
    for piece in pieces {
        if let Err(Impossible { at: index, reason }) = automaton.feed(piece) {
            return (automaton, Some((at + index, reason)));
        }
        at += piece.len();
    }
    (automaton, None)
}

fuzz_target!(|input: Input<'_>| {
    let bytes = input.text.as_bytes();
    let (automaton, fault) = feed(&[bytes], DEPTH_MAX);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for split in [pieces(bytes, &input.cuts), single] {
        let (other, again) = feed(&split, DEPTH_MAX);
        assert_eq!(fault, again);
        assert_eq!(
            (automaton.place(), automaton.depth()),
            (other.place(), other.depth())
        );
        assert_eq!(automaton.is_complete(), other.is_complete());
    }
    assert_eq!(automaton.is_complete(), grammar(bytes).is_ok());
    match fault {
        Some((at, _)) => {
            assert!(alive(&bytes[..at]), "byte {at} is too late");
            assert!(!alive(&bytes[..=at]), "byte {at} is too early");
        }
        None => assert!(alive(bytes), "no byte was impossible, and it cannot become JSON"),
    }
    assert_eq!(check(bytes, DEPTH_MAX).is_ok(), automaton.is_complete());

    // A lower limit only ever adds a fault, at the bracket that passes it.
    let depth_max = usize::from(input.depth_max);
    let (shallow, limited) = feed(&[bytes], depth_max);
    assert!(shallow.depth() <= depth_max);
    match limited {
        Some((at, Reason::TooDeep(_))) => {
            assert!(matches!(bytes[at], b'[' | b'{'));
            assert_eq!(feed(&[&bytes[..at]], DEPTH_MAX).0.depth(), depth_max);
        }
        other => assert_eq!(other, fault),
    }
});
