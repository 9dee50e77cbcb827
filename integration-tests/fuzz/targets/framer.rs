//! Any bytes in any split: the frames are the input, end where a byte-by-byte reader says, and never pass the cap.
#![no_main]

use aegis_core::sse::framer::Framer;
use aegis_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    cap: u8,
    cuts: Vec<u16>,
    bytes: &'a [u8],
}

/// Ends of all frames of `bytes`, read one byte at a time.
fn reference(bytes: &[u8]) -> Vec<u64> {
    let (mut ends, mut line_is_blank, mut at) = (Vec::new(), true, 0);
    while at < bytes.len() {
        let line_end = match &bytes[at..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        at += line_end.max(1);
        if line_end > 0 && line_is_blank {
            ends.push(at as u64);
        }
        line_is_blank = line_end > 0;
    }
    ends
}

/// Ends in any split, the tail's start, and whether the cap was passed.
fn scan(pieces: &[&[u8]], cap: usize) -> (Vec<u64>, u64, bool) {
    let (mut framer, mut ends) = (Framer::new(cap), Vec::new());
    for piece in pieces {
        if framer.scan(piece, &mut ends).is_err() {
            return (ends, framer.frame_start(), true);
        }
    }
    assert_eq!(
        framer.scanned(),
        pieces.iter().map(|p| p.len() as u64).sum::<u64>()
    );
    (ends, framer.frame_start(), false)
}

/// A LF that came in another piece than its CR is a frame of its own: undone here.
fn joined(ends: &[u64], bytes: &[u8]) -> Vec<u64> {
    let mut out: Vec<u64> = Vec::new();
    for end in ends {
        let late_lf = out.last().is_some_and(|last| {
            last + 1 == *end && bytes[*last as usize] == b'\n' && bytes[*last as usize - 1] == b'\r'
        });
        if late_lf {
            out.pop();
        }
        out.push(*end);
    }
    out
}

fuzz_target!(|input: Input<'_>| {
    let Input { cap, cuts, bytes } = input;
    let split = pieces(bytes, &cuts);
    let wanted = reference(bytes);

    let (ends, tail, _) = scan(&[bytes], usize::MAX);
    assert_eq!(ends, wanted);
    assert_eq!(tail, ends.last().copied().unwrap_or(0));
    let (ends, tail, _) = scan(&split, usize::MAX);
    assert!(ends.is_sorted_by(|a, b| a < b));
    assert_eq!(joined(&ends, bytes), wanted);
    assert_eq!(tail, ends.last().copied().unwrap_or(0));

    let cap = usize::from(cap);
    for feed in [&[bytes][..], &split] {
        let (ends, tail, refused) = scan(feed, cap);
        let starts = [0].into_iter().chain(ends.iter().copied());
        for (start, end) in starts.zip(&ends) {
            assert!(
                end - start <= cap as u64,
                "a frame of {} bytes passed {cap}",
                end - start
            );
        }
        assert_eq!(tail, ends.last().copied().unwrap_or(0));
        // With what was not framed yet the cap is passed exactly when it is refused.
        assert!(joined(&ends, bytes).iter().zip(&wanted).all(|(a, b)| a <= b));
        if !refused {
            assert!(bytes.len() as u64 - tail <= cap as u64);
            assert_eq!(joined(&ends, bytes), wanted);
        }
        let longest = [0]
            .into_iter()
            .chain(wanted.iter().copied())
            .zip(&wanted)
            .map(|(s, e)| e - s)
            .max();
        let longest = longest
            .unwrap_or(0)
            .max(bytes.len() as u64 - wanted.last().copied().unwrap_or(0));
        // A late LF shortens the frame before it by one byte.
        assert!(
            !refused || longest > cap as u64,
            "refused though the longest frame has {longest} of {cap} bytes"
        );
        assert!(refused || longest <= cap as u64 + 1);
    }
});
