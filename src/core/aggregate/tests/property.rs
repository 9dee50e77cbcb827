//! Answers made at random, streamed at random, and read back.

use super::super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What one delta brings.
#[derive(Debug, Clone)]
enum Piece {
    Content(String),
    Reasoning(String),
    Arguments(u32, String),
    Logprob(i32),
    Comment,
    Progress,
}

fn piece() -> impl Strategy<Value = Piece> {
    let text = prop_oneof!["[a-z \\\\\"\n]{0,6}", ".{0,4}", Just("é𝄞\u{1}".to_owned())];
    prop_oneof![
        4 => text.clone().prop_map(Piece::Content),
        2 => text.clone().prop_map(Piece::Reasoning),
        2 => (0u32..3, text).prop_map(|(call, text)| Piece::Arguments(call, text)),
        1 => (-9i32..0).prop_map(Piece::Logprob),
        1 => Just(Piece::Comment),
        1 => Just(Piece::Progress),
    ]
}

/// An answer: which choice says what, in the order of the stream.
fn answer() -> impl Strategy<Value = Vec<(u32, Piece)>> {
    prop::collection::vec((0u32..3, piece()), 1..30)
}

/// The frame of one piece, with one of the ways to end a line.
fn frame((choice, piece): &(u32, Piece), end: &str) -> String {
    let (delta, logprobs) = match piece {
        Piece::Content(text) => (json!({"content": text}), None),
        Piece::Reasoning(text) => (json!({"reasoning_content": text}), None),
        Piece::Arguments(call, text) => (
            json!({"tool_calls": [{"index": call, "id": format!("c{call}"), "function": {"name": "f", "arguments": text}}]}),
            None,
        ),
        Piece::Logprob(p) => (json!({"content": ""}), Some(json!({"content": [{"logprob": p}]}))),
        Piece::Comment => return format!(": ping{end}{end}"),
        Piece::Progress => (json!({"role": "assistant", "content": null}), None),
    };
    let mut part = json!({"index": choice, "finish_reason": null, "delta": delta});
    if let Some(logprobs) = logprobs {
        part["logprobs"] = logprobs;
    }
    let chunk = json!({"choices": [part], "id": "x", "object": "chat.completion.chunk"});
    format!("data: {chunk}{end}{end}")
}

/// The same answer as one body, made the simple way.
fn expected(pieces: &[(u32, Piece)]) -> Value {
    let mut choices = std::collections::BTreeMap::new();
    for (index, piece) in pieces {
        if matches!(piece, Piece::Comment) {
            continue;
        }
        let choice = choices.entry(*index).or_insert_with(|| {
            json!({"finish_reason": null, "index": index, "message": {"role": "assistant", "content": ""}})
        });
        let add = |old: &Value, text: &str| json!(old.as_str().unwrap_or_default().to_owned() + text);
        let message = &mut choice["message"];
        match piece {
            Piece::Content(text) => message["content"] = add(&message["content"], text),
            Piece::Reasoning(text) => message["reasoning_content"] = add(&message["reasoning_content"], text),
            Piece::Arguments(call, text) => {
                if message["tool_calls"].is_null() {
                    message["tool_calls"] = json!([]);
                }
                let calls = message["tool_calls"].as_array_mut().unwrap();
                let id = json!(format!("c{call}"));
                let at = calls.iter().position(|c| c["id"] == id).unwrap_or_else(|| {
                    calls.push(json!({"type": "function", "function": {"name": "f"}, "id": id}));
                    calls.sort_by_key(|c| c["id"].to_string());
                    calls.iter().position(|c| c["id"] == id).unwrap()
                });
                let arguments = add(&calls[at]["function"]["arguments"], text);
                calls[at]["function"]["arguments"] = arguments;
            }
            Piece::Logprob(p) => {
                if choice["logprobs"].is_null() {
                    choice["logprobs"] = json!({"content": []});
                }
                let list = choice["logprobs"]["content"].as_array_mut().unwrap();
                list.push(json!({"logprob": p}));
            }
            Piece::Comment | Piece::Progress => {}
        }
    }
    json!({"choices": choices.into_values().collect::<Vec<_>>(), "object": "chat.completion", "id": "x"})
}

fn fed(stream: &[u8], cuts: &[usize]) -> (Whole, bool) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(stream.len());
    let mut aggregate = Aggregate::new(Dialect::Chat);
    let (mut start, mut unreadable) = (0, false);
    for cut in cuts {
        unreadable |= aggregate.feed(&stream[start..cut]).is_err();
        start = cut;
    }
    (aggregate.finish(), unreadable)
}

proptest! {
    /// The body says what the stream said, wherever the stream is cut and however its lines end.
    #[test]
    fn the_body_says_what_the_stream_said(
        pieces in answer(),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let stream: String = pieces.iter().map(|piece| frame(piece, end)).collect();
        let (whole, unreadable) = fed(stream.as_bytes(), &cuts);
        prop_assert!(!unreadable);
        match whole {
            Whole::Body(body) => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                prop_assert_eq!(body, expected(&pieces));
            }
            other => {
                prop_assert_eq!(other, Whole::Empty);
                prop_assert!(pieces.iter().all(|(_, piece)| matches!(piece, Piece::Comment)));
            }
        }
    }

    /// Bytes that were damaged anywhere give the same result in any split, and never a body that is no JSON.
    #[test]
    fn any_split_of_any_bytes_gives_the_same(
        pieces in answer(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut stream = pieces.iter().map(|piece| frame(piece, "\n")).collect::<String>().into_bytes();
        for (at, byte) in damage {
            let at = at % stream.len();
            stream[at] = byte;
        }
        let whole = fed(&stream, &[]);
        prop_assert_eq!(&whole, &fed(&stream, &cuts));
        if let (Whole::Body(body), _) = whole {
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
        }
    }
}
