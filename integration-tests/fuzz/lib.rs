//! What the fuzz targets share: cutting an input into pieces, and running one rule over them.
#![forbid(unsafe_code)]

use aegis_core::rule::{LaneEnd, Raised, Rule};

/// Cuts `bytes` at the places that `cuts` names, each taken modulo the length. Empty pieces may come.
#[must_use]
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|c| usize::from(*c) % (bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let starts = [0].into_iter().chain(ends.clone());
    starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
}

/// The same for text: a cut inside a scalar moves to its start.
#[must_use]
pub fn text_pieces<'a>(text: &'a str, cuts: &[u16]) -> Vec<&'a str> {
    let boundary = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|c| boundary(usize::from(*c) % (text.len() + 1)))
        .collect();
    ends.sort_unstable();
    ends.push(text.len());
    let starts = [0].into_iter().chain(ends.clone());
    starts.zip(ends).map(|(start, end)| &text[start..end]).collect()
}

/// `text` scalar by scalar.
#[must_use]
pub fn scalars(text: &str) -> Vec<&str> {
    text.char_indices()
        .map(|(at, c)| &text[at..at + c.len_utf8()])
        .collect()
}

/// Feeds a rule a whole lane and returns what it raised.
///
/// # Panics
/// Where a finding does not lie in the lane, or its place depends on more than the text that was fed.
pub fn run(mut rule: impl Rule, pieces: &[&str], end: LaneEnd) -> Vec<Raised> {
    let (mut at, mut raised) = (0, Vec::new());
    for piece in pieces {
        rule.feed(at, piece, &mut raised);
        at += piece.len() as u64;
        assert!(
            rule.held_from().is_none_or(|held| held <= at),
            "text is held that never came"
        );
        assert!(
            raised.iter().all(|r| r.offset <= at),
            "found before it was there: {raised:?}"
        );
    }
    rule.end(at, end, &mut raised);
    let text = pieces.concat();
    for r in &raised {
        assert!(
            r.span.start <= r.span.end && r.span.end <= r.offset && r.offset <= at,
            "{r:?}"
        );
        for place in [r.span.start, r.span.end, r.offset] {
            assert!(text.is_char_boundary(place as usize), "{r:?} cuts a scalar");
        }
    }
    raised
}
