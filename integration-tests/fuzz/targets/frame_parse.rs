//! Frames, parted by 0xFF: the fast path reads what `eventsource-stream` reads, the template what the parser reads.
#![no_main]

use aegis_core::dialect::{Dialect, Template};
use aegis_core::event::FrameFacts;
use aegis_core::sse::parse::{parse, parse_any};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let frames: Vec<&[u8]> = bytes.split(|b| *b == 0xFF).collect();
    for frame in &frames {
        match (parse(frame), parse_any(frame)) {
            (Ok(fast), Ok(slow)) => assert_eq!(fast, slow),
            (Err(_), Err(_)) => {}
            (fast, slow) => panic!("{fast:?} against {slow:?}"),
        }
    }
    for dialect in [Dialect::Chat, Dialect::Completions] {
        // As the relay does it: whatever the template cannot read, it learns from.
        let mut template = Template::default();
        for frame in &frames {
            let parsed = dialect.frame(frame);
            match (template.read(frame), parsed) {
                // The template leaves the model's name out, which the relay needs only once.
                (Some(facts), Ok(parsed)) => assert_eq!(
                    facts,
                    FrameFacts {
                        model: None,
                        ..parsed
                    }
                ),
                (Some(facts), Err(error)) => panic!("{facts:?} of a frame that is {error}"),
                (None, Ok(parsed)) => template.learn(frame, &parsed),
                (None, Err(error)) => assert!(!error.to_string().is_empty()),
            }
        }
    }
});
