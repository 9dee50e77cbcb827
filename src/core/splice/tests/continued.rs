//! Random texts, cut anywhere and gone on with by upstreams that repeat all, a part, or nothing of what they are given.

use super::*;
use proptest::prelude::*;

/// What the upstream says before it goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Nothing,
    /// The whole text that it was given.
    All,
    /// The last part of it, from that share of it on.
    Tail(f64),
}

fn texts() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "river ", "flows", " \n\n", "  ", "\"", "\\", "🚀", "é", " 12", ", and", "</think>", "{\"a\":",
        "\u{2028}", "水",
    ]);
    prop_oneof![
        3 => prop::collection::vec(words, 2..40).prop_map(|words| words.concat()),
        1 => "(ab ){2,12}[a-c ]{1,8}",
        1 => (2usize..6, "[a-b\"\n🚀 ]{1,5}").prop_map(|(times, text)| text.repeat(times)),
        1 => "\\PC{2,30}",
    ]
}

/// Splits a text into tokens of those lengths, over and over.
fn tokens(text: &str, lengths: &[usize]) -> Vec<String> {
    let (mut left, mut lengths, mut tokens) = (text, lengths.iter().cycle(), Vec::new());
    while !left.is_empty() {
        let (token, rest) = left.split_at(left.ceil_char_boundary(*lengths.next().unwrap()));
        tokens.push(token.to_owned());
        left = rest;
    }
    tokens
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..12, 1..12)
}

/// A later answer: who speaks (as llama-server or vLLM says it), its tokens, the finish, usage, and the end.
fn answer(tokens: &[String], vllm: bool) -> Vec<Bytes> {
    let speaker = json!({"role": "assistant", "content": if vllm { json!("") } else { Value::Null }});
    let mut progress = chunk("later", &speaker, None);
    progress["prompt_progress"] = json!({"total": 9, "processed": 9});
    let mut frames = vec![data(&progress), data(&chunk("later", &speaker, None))];
    frames.extend(tokens.iter().map(|token| content("later", token)));
    frames.push(data(&chunk("later", &json!({}), Some("stop"))));
    let mut usage = chunk("later", &json!({}), None);
    usage["choices"] = json!([]);
    usage["usage"] = json!({"completion_tokens": 9, "prompt_tokens": 9, "total_tokens": 18});
    frames.push(data(&usage));
    frames.push("data: [DONE]\n\n".into());
    frames
}

/// What is true of the frames of one answer.
fn is_one_answer(frames: &[Bytes]) {
    let last = frames.last().unwrap();
    assert_eq!(last, "data: [DONE]\n\n");
    let chunks: Vec<Value> = frames[..frames.len() - 1].iter().map(value).collect();
    for chunk in &chunks {
        for (name, first) in [("id", "id"), ("model", "model"), ("created", "created")] {
            assert_eq!(chunk[name], chunks[0][first]);
        }
    }
    let count = |pointer: &str| {
        let values = chunks.iter().filter_map(|chunk| chunk.pointer(pointer));
        values.filter(|value| !value.is_null()).count()
    };
    assert_eq!(count("/choices/0/delta/role"), 1);
    assert_eq!(count("/choices/0/finish_reason"), 1);
    assert_eq!(count("/usage"), 1);
}

/// The longest end of `text` that counts as an overlap and begins `continuation`.
fn overlap(text: &str, continuation: &str) -> usize {
    let mut repeat = repeat::Repeat::new(None, Some(text)).unwrap();
    repeat.feed(continuation).unwrap_or_else(|| repeat.end())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// The client's text is the text, whatever the upstream repeats of it; and it is one answer.
    #[test]
    fn the_text_is_whole_and_comes_once(
        text in texts(),
        cut in 0.0..1.0f64,
        says in prop_oneof![1 => Just(Says::Nothing), 1 => Just(Says::All), 3 => (0.0..1.0f64).prop_map(Says::Tail)],
        known in any::<bool>(),
        first in lengths(),
        later in lengths(),
        vllm in any::<bool>(),
    ) {
        let out = tokens(&text, &first);
        let (kept, _) = out.split_at(((out.len() as f64 * cut) as usize).max(1));
        let told = kept.concat();
        let rest = &text[told.len()..];
        // A prompt ends behind a word, and the spaces come again with the next one.
        let (given, spaces) = told.split_at(told.trim_end().len());
        let begins = match says {
            Says::Nothing => "",
            Says::All => given,
            Says::Tail(share) => {
                let tail = &given[given.ceil_char_boundary((given.len() as f64 * share) as usize)..];
                // Models begin again with a word.
                tail.find(' ').map_or(tail, |space| &tail[space..])
            }
        };
        let continuation = format!("{begins}{spaces}{rest}");
        let mut joint = Joint { spaced: spaces.to_owned(), ..Joint::default() };
        match says {
            // An upstream that is known to prefill, or one that is only asked to go on.
            Says::Nothing if known => {}
            Says::All if known => joint.echo = Some(given.to_owned()),
            _ => {
                joint.echo = Some(given.to_owned());
                joint.overlap = Some(given.to_owned());
                prop_assume!(!given.is_empty());
                // What the text itself repeats cannot be told from what the upstream repeats.
                prop_assume!(says == Says::All || !continuation.starts_with(given));
                prop_assume!(says == Says::All || overlap(given, &continuation) == begins.len());
            }
        }
        let mut frames = vec![role("first")];
        frames.extend(kept.iter().map(|token| content("first", token)));
        let mut splice = chat(identity(), joint);
        let answer = answer(&tokens(&continuation, &later), vllm);
        frames.extend(spliced(&mut splice, answer));
        let mut left = Vec::new();
        splice.end(&mut left);
        prop_assert!(left.is_empty(), "[DONE] is the end of all waiting");
        prop_assert_eq!(said(&frames[..frames.len() - 1], Channel::Content), text);
        is_one_answer(&frames);
    }

    /// However the continuation is split, the client's text is the same, also where a repeat cannot be told.
    #[test]
    fn any_split_gives_the_same_text(
        given in texts(),
        begins in 0.0..1.0f64,
        rest in texts(),
        (echoes, overlaps, spaced) in (any::<bool>(), any::<bool>(), "[ \n]{0,3}"),
        lengths in lengths(),
        finishes in any::<bool>(),
    ) {
        let begins = &given[given.ceil_char_boundary((given.len() as f64 * begins) as usize)..];
        let continuation = format!("{begins}{rest}");
        let joint = Joint {
            echo: Some(given.clone()).filter(|_| echoes),
            overlap: Some(given.clone()).filter(|_| overlaps),
            spaced,
            ..Joint::default()
        };
        let text = |tokens: &[String]| {
            let mut splice = chat(identity(), joint.clone());
            let mut frames = answer(tokens, false);
            frames.truncate(if finishes { frames.len() - 1 } else { tokens.len() + 2 });
            let mut out = spliced(&mut splice, frames);
            splice.end(&mut out);
            said(&out, Channel::Content)
        };
        prop_assert_eq!(text(&tokens(&continuation, &lengths)), text(&[continuation]));
    }

    /// Where nothing can be repeated nothing waits and nothing is cut: each frame gives its own at once.
    #[test]
    fn without_a_joint_nothing_waits(text in texts(), lengths in lengths()) {
        let mut splice = chat(identity(), Joint::default());
        for token in tokens(&text, &lengths) {
            let out = spliced(&mut splice, [content("later", &token)]);
            prop_assert_eq!(shown(&out), shown(&[content("first", &token)]));
        }
    }

    /// Reasoning that comes again is shown once, however it is split.
    #[test]
    fn the_same_thought_is_shown_once(text in texts(), cut in 0.0..1.0f64, lengths in lengths()) {
        let told = &text[..text.ceil_char_boundary((text.len() as f64 * cut) as usize)];
        let joint = Joint { reasoning: crate::continuation::Shown::Same(told.to_owned()), ..Joint::default() };
        let mut splice = chat(identity(), joint);
        let (mut out, mut hidden) = (Vec::new(), String::new());
        for token in tokens(&text, &lengths) {
            splice.frame(reasoning("later", &token), &mut out);
            hidden.push_str(splice.hidden_reasoning());
        }
        prop_assert_eq!(hidden, told);
        prop_assert_eq!(said(&out, Channel::Reasoning), &text[told.len()..]);
    }

    /// Whatever comes, nothing panics, and what is no repeat is not lost.
    #[test]
    fn any_frames_pass(frames in prop::collection::vec("(data: )?(event: x\n)?.{0,30}\n\n", 1..6), given in ".{0,8}") {
        for dialect in [Dialect::Chat, Dialect::Completions] {
            let mut splice = Splice::new(dialect, identity(), echo(&given), Spent { kept: 1, discarded: 1, prefilled: 1 });
            let mut out = spliced(&mut splice, frames.iter().map(|frame| Bytes::from(frame.clone())));
            splice.end(&mut out);
            prop_assert_eq!(out.len(), frames.len());
        }
    }
}
