//! Text for the benchmarks that reads like an answer and never repeats itself for long, and criterion's settings.

use criterion::Criterion;
use std::time::Duration;

/// Characters of one token: about what tokenisers make of English.
pub(crate) const TOKEN_CHARS: usize = 4;

const OPENINGS: &[&str] = &[
    "In practice",
    "By contrast",
    "During the first year",
    "On most farms",
    "According to the survey",
    "As a rule",
    "At higher altitudes",
    "Once the frost is over",
    "For small kitchens",
    "In the older literature",
    "When rain is scarce",
    "Where two rivers meet",
    "After a long voyage",
];

const SUBJECTS: &[&str] = &[
    "the head gardener",
    "a patient reader",
    "the harbour master",
    "every second household",
    "the youngest apprentice",
    "our neighbour across the lane",
    "the committee",
    "a well-kept ledger",
    "the bridge",
    "most of the orchard",
    "the translator",
];

const VERBS: &[&str] = &[
    "rarely mentions",
    "has to account for",
    "depends on",
    "would gladly exchange",
    "quietly improves",
    "cannot do without",
    "measures twice before trusting",
    "was surprised by",
    "carries the cost of",
];

const OBJECTS: &[&str] = &[
    "the slope of the roof",
    "three kinds of apples",
    "a loan from the village bank",
    "letters written before the war",
    "salt, flour and a little patience",
    "the café's opening hours",
    "the width of the road (about 4.5 metres)",
    "an argument nobody remembers",
    "the colour of the glaze",
    "last winter's firewood",
    "whatever the tide leaves behind",
    "a second pair of hands",
    "\"the old way of doing things\"",
    "rules that fit on one page",
    "soil rich in lime",
    "the price of copper in 1874",
    "a map with two mistakes",
];

const ENDINGS: &[&str] = &[
    ", and that is why the plan was changed.",
    ", although few would say so aloud.",
    "; the difference is small but steady.",
    ".",
    ", which takes between 20 and 35 minutes.",
    " – at least until the harvest.",
    ", as the second table shows.",
];

/// Running text of `sentences` sentences in paragraphs; the same each time.
pub(crate) fn prose(sentences: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut pick = |from: &[&'static str]| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        from[(state >> 33) as usize % from.len()]
    };
    let mut text = String::new();
    for n in 1..=sentences {
        let parts = [
            pick(OPENINGS),
            pick(SUBJECTS),
            pick(VERBS),
            pick(OBJECTS),
            pick(ENDINGS),
        ];
        text.push_str(&format!(
            "{}, {} {} {}{}",
            parts[0], parts[1], parts[2], parts[3], parts[4]
        ));
        text.push_str(if n % 5 == 0 { "\n\n" } else { " " });
    }
    text
}

/// `text` in tokens of [`TOKEN_CHARS`] characters.
pub(crate) fn tokens(text: &str) -> Vec<&str> {
    let starts: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .step_by(TOKEN_CHARS)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &text[*start..end])
        .collect()
}

/// Criterion with times short enough to run all benchmarks while one waits.
pub(crate) fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(40)
        .configure_from_args()
}
