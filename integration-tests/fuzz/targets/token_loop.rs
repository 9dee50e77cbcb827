//! The loop rule: text made of repeats, counters and noise gives the same finding in any split.
#![no_main]

use aegis_core::event::{Channel, FinishReason, LaneId};
use aegis_core::request::RequestFacts;
use aegis_core::rule::{LaneContext, LaneEnd};
use aegis_core::rules::token_loop::{Settings, TokenLoop};
use aegis_fuzz::{run, scalars, text_pieces};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, arbitrary::Arbitrary)]
struct Part<'a> {
    text: &'a str,
    times: u8,
    /// Write the number of the repeat after it.
    counted: bool,
}

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    repeats_min: u8,
    chars_min: u8,
    whitespace_chars_max: u8,
    whitespace_lines_max: u8,
    defaults: bool,
    counters: bool,
    arguments: bool,
    asked: Option<u16>,
    cuts: Vec<u16>,
    parts: Vec<Part<'a>>,
}

impl Input<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            for n in 0..=part.times {
                // Long enough for every block the rule can see, short enough for a quick run.
                if text.len() > 1 << 14 {
                    return text;
                }
                text.push_str(part.text);
                if part.counted {
                    text.push_str(&n.to_string());
                }
            }
        }
        text
    }

    fn settings(&self) -> Settings {
        if self.defaults {
            return Settings::default();
        }
        Settings {
            repeats_min: u32::from(self.repeats_min),
            chars_min: u32::from(self.chars_min),
            whitespace_chars_max: u32::from(self.whitespace_chars_max),
            whitespace_lines_max: u32::from(self.whitespace_lines_max),
            counters: self.counters,
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let request = RequestFacts {
        repeats_asked: input.asked.map(u32::from),
        ..RequestFacts::default()
    };
    let channel = if input.arguments {
        Channel::ToolArguments(0)
    } else {
        Channel::Content
    };
    let context = LaneContext {
        lane: LaneId::first(channel),
        request: &request,
    };
    let settings = input.settings();
    let judge = |pieces: &[&str], end| run(TokenLoop::new(&settings, &context), pieces, end);

    let text = input.text();
    let stop = LaneEnd::Finished(FinishReason::Stop);
    let whole = judge(&[&text], stop);
    assert!(whole.len() <= 1, "one lane, one loop: {whole:?}");
    assert_eq!(whole, judge(&scalars(&text), stop));
    assert_eq!(whole, judge(&text_pieces(&text, &input.cuts), LaneEnd::Lost));

    // What was found is found at the same place whatever comes after, and not before it.
    if let Some(raised) = whole.first() {
        let offset = raised.offset as usize;
        let (before, last) = text[..offset]
            .char_indices()
            .next_back()
            .expect("something was found");
        assert_eq!(judge(&[&text[..offset]], stop), whole);
        if !last.is_ascii_digit() && !text[..before].ends_with(|c: char| c.is_ascii_digit()) {
            assert!(
                judge(&[&text[..before]], stop).is_empty(),
                "found one scalar too late: {raised:?}"
            );
        }
    }
});
