//! Any split of the same bytes, and of the same text into tokens, gives the same findings and the same output.

use super::*;
use crate::capabilities::{Flavour, Known};
use proptest::prelude::*;

/// Pieces of answers that the rules care about: broken and sound JSON, phrases and their beginnings, loops, counters,
/// white space, fences, escapes, several scripts.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "{\"a\":",
        "[1,2",
        "]",
        "}",
        "\"x\\u00e9\"",
        ",",
        "laun",
        "launch code",
        "ch code",
        "códi",
        "go",
        "sk-",
        "sk-abcd1234",
        "abcd1234",
        "```json\n",
        "```",
        "\n",
        "  ",
        "漢字かな",
        "🦀",
        "e\u{301}",
        "\\",
        "\"",
        "1.5e3",
        "item 46, ",
        "| a | b |\n",
        "-----",
        "\u{0}",
        "data: ",
    ]);
    let looped = ("[a-zé ]{1,24}", 2usize..60).prop_map(|(unit, n)| unit.repeat(n));
    let counted =
        (1u32..60, "[a-z ]{3,12}").prop_map(|(n, unit)| (0..n).map(|i| format!("{unit} {i}. ")).collect());
    prop_oneof![
        6 => fixed.prop_map(str::to_owned),
        3 => "[a-zA-Z0-9 .,é漢]{0,12}",
        1 => looped,
        1 => counted,
        1 => (1usize..700).prop_map(|n| " ".repeat(n)),
    ]
}

#[derive(Debug, Clone)]
struct Answer {
    json: bool,
    policy: Policy,
    /// (lane selector, text)
    texts: Vec<(u8, String)>,
    line_end: &'static str,
    finished: bool,
}

fn answer() -> impl Strategy<Value = Answer> {
    let policy = (any::<bool>(), any::<bool>()).prop_map(|(shadow, closed)| Policy {
        mode: if shadow { Mode::Shadow } else { Mode::Enforce },
        on_failure: if closed {
            OnFailure::Closed
        } else {
            OnFailure::Open
        },
    });
    (
        any::<bool>(),
        policy,
        prop::collection::vec((0u8..5, piece()), 0..14),
        prop::sample::select(vec!["\n", "\r\n"]),
        any::<bool>(),
    )
        .prop_map(|(json, policy, texts, line_end, finished)| Answer {
            json,
            policy,
            texts,
            line_end,
            finished,
        })
}

impl Answer {
    /// The SSE bytes, each text cut into deltas of `chars` characters.
    fn bytes(&self, chars: usize) -> Vec<u8> {
        let mut out = String::new();
        let mut push = |data: String| out.push_str(&format!("data: {data}{0}{0}", self.line_end));
        for (lane, text) in &self.texts {
            let scalars: Vec<char> = text.chars().collect();
            for part in scalars.chunks(chars) {
                let part: String = part.iter().collect();
                let (choice, delta) = match lane {
                    0 | 1 => (0, json!({"content": part})),
                    2 => (0, json!({"reasoning_content": part})),
                    3 => (
                        0,
                        json!({"tool_calls":[{"index":0,"function":{"arguments":part}}]}),
                    ),
                    _ => (1, json!({"content": part})),
                };
                push(json!({"choices":[{"index":choice,"delta":delta}]}).to_string());
            }
        }
        if self.finished {
            for choice in 0..2 {
                push(json!({"choices":[{"index":choice,"delta":{},"finish_reason":"stop"}]}).to_string());
            }
            push("[DONE]".into());
        }
        out.into_bytes()
    }

    fn relay(&self, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Incident>) {
        let (out, incidents, _) = self.run(relay(self.policy, self.json), bytes, cuts);
        (out, incidents)
    }

    /// The same where the upstream can be asked again: also the hidden request.
    fn asking_relay(&self, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Incident>, Option<Bytes>) {
        let request = corrections::REQUEST;
        let source = Source {
            body: Bytes::from_static(request.as_bytes()),
            known: Known::new(Flavour::LlamaServer.into()),
        };
        let relay = relay(self.policy, self.json).with_source(source);
        self.run(relay, bytes, cuts)
    }

    fn run(&self, mut relay: Relay, bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Incident>, Option<Bytes>) {
        let mut out = Vec::new();
        corrections::stream_in_pieces(&mut relay, bytes, cuts, &mut out);
        let ask = relay.take_ask().map(|ask| ask.body);
        (out, relay.take_incidents(), ask)
    }
}

/// What must not depend on how the text was cut into tokens: everything but the released bytes.
fn essence(incidents: Vec<Incident>) -> Vec<Incident> {
    let strip = |i: Incident| match i.lane {
        Some(_) => Incident {
            bytes_released: 0,
            ..i
        },
        // Offsets of the stream as a whole count its bytes, framing included.
        None => Incident {
            bytes_released: 0,
            offset: 0,
            span: [0, 0],
            ..i
        },
    };
    incidents.into_iter().map(strip).collect()
}

#[test]
fn the_late_half_of_a_line_end_goes_the_way_of_its_frame() {
    let flood = (0, " ".repeat(700));
    let mended_json = ["[1", ",", "]"].map(|text| (0, text.to_owned()));
    for (json, texts) in [
        (false, vec![(0, "Done.".into()), flood]),
        (true, mended_json.to_vec()),
    ] {
        let answer = Answer {
            json,
            policy: Policy::default(),
            texts,
            line_end: "\r\n",
            finished: true,
        };
        let bytes = answer.bytes(4);
        let whole = answer.relay(&bytes, &[]);
        assert_eq!(whole.1[0].decision, Decision::Repair);
        for cut in 0..bytes.len() {
            let split = answer.relay(&bytes, &[cut]);
            assert_eq!(
                String::from_utf8_lossy(&whole.0),
                String::from_utf8_lossy(&split.0),
                "cut at {cut}"
            );
            assert_eq!(whole.1, split.1, "cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Any split of the same bytes gives the same findings and, byte for byte, the same output.
    #[test]
    fn any_split_of_the_bytes_gives_the_same(answer in answer(), cuts in prop::collection::vec(any::<usize>(), 0..24)) {
        let bytes = answer.bytes(4);
        let whole = answer.relay(&bytes, &[]);
        let split = answer.relay(&bytes, &cuts);
        prop_assert_eq!(&whole.1, &split.1);
        prop_assert_eq!(String::from_utf8_lossy(&whole.0), String::from_utf8_lossy(&split.0));
        // Without an effective decision the stream is the upstream's; with one, a prefix and one error event.
        let cut = whole.1.iter().filter(|i| i.decision == Decision::Cut && !i.shadow).count();
        prop_assert!(cut <= 1);
        let mended = whole.1.iter().any(|i| i.decision == Decision::Repair && !i.shadow);
        if mended {
            // What is mended is compared with the other split alone.
        } else if cut == 0 {
            prop_assert_eq!(&whole.0, &bytes);
        } else {
            let tail = b"\n\ndata: [DONE]\n\n";
            prop_assert!(whole.0.ends_with(tail));
            let at = memchr::memmem::rfind(&whole.0, b"data: {\"error\"").unwrap();
            prop_assert!(bytes.starts_with(&whole.0[..at]));
        }
    }

    /// The same where the upstream can be asked again, up to the hidden request.
    #[test]
    fn any_split_gives_the_same_hidden_request(answer in answer(), cuts in prop::collection::vec(any::<usize>(), 0..24)) {
        let bytes = answer.bytes(4);
        let whole = answer.asking_relay(&bytes, &[]);
        let split = answer.asking_relay(&bytes, &cuts);
        prop_assert_eq!(&whole.1, &split.1);
        prop_assert_eq!(String::from_utf8_lossy(&whole.0), String::from_utf8_lossy(&split.0));
        prop_assert_eq!(whole.2, split.2);
    }

    /// Any split of the same text into tokens gives the same findings at the same offsets.
    #[test]
    fn any_split_into_tokens_gives_the_same(answer in answer(), chars in 1usize..90) {
        let whole = answer.relay(&answer.bytes(usize::MAX), &[]);
        let split = answer.relay(&answer.bytes(chars), &[]);
        prop_assert_eq!(essence(whole.1), essence(split.1));
    }
}
