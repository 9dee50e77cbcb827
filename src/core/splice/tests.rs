mod continued;
mod streams;

use super::*;
use crate::continuation::Shown;
use serde_json::{Value, json};

/// The frame of a JSON object.
fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// A chunk of the answer `id`, with the members that llama-server writes.
fn chunk(id: &str, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "choices": [{"finish_reason": finish, "index": 0, "delta": delta}],
        "created": 100 + id.len(), "id": id, "model": format!("model of {id}"),
        "system_fingerprint": "b1", "object": "chat.completion.chunk",
    })
}

fn content(id: &str, text: &str) -> Bytes {
    data(&chunk(id, &json!({"content": text}), None))
}

fn reasoning(id: &str, text: &str) -> Bytes {
    data(&chunk(id, &json!({"reasoning_content": text}), None))
}

fn role(id: &str) -> Bytes {
    data(&chunk(id, &json!({"role": "assistant", "content": null}), None))
}

fn identity() -> Option<Identity> {
    Identity::read(Dialect::Chat, &role("first"))
}

fn spliced(splice: &mut Splice, frames: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut out = Vec::new();
    for frame in frames {
        splice.frame(frame, &mut out);
    }
    out
}

/// A joint that looks for an echo of `text`.
fn echo(text: &str) -> Joint {
    Joint {
        echo: Some(text.to_owned()),
        ..Joint::default()
    }
}

fn chat(identity: Option<Identity>, joint: Joint) -> Splice {
    Splice::new(Dialect::Chat, identity, joint, Spent::default())
}

fn value(frame: &Bytes) -> Value {
    let event = parse(frame).unwrap().unwrap();
    serde_json::from_str(&event.data).unwrap()
}

/// The text of a lane in some frames.
fn said(frames: &[Bytes], channel: Channel) -> String {
    let deltas = |frame| Dialect::Chat.frame(frame).unwrap().deltas;
    let frames = frames.iter().flat_map(|frame| deltas(frame));
    frames
        .filter(|delta| delta.lane.channel == channel)
        .map(|delta| delta.text.into_owned())
        .collect()
}

fn shown(frames: &[Bytes]) -> String {
    frames
        .iter()
        .map(|frame| String::from_utf8_lossy(frame))
        .collect()
}

#[test]
fn nothing_is_changed_where_nothing_was_seen() {
    let frames = [
        role("a"),
        role("a"),
        content("a", ""),
        content("a", "x"),
        Bytes::from_static(b": ping\r\n\r\n"),
        Bytes::from_static(b"\n"),
        Bytes::from_static(b"event: x\ndata: {\"choices\":[{\"delta\":{}}]}\n\n"),
        Bytes::from_static(b"data: {}\n\n"),
        data(&chunk("a", &json!({}), Some("stop"))),
        data(&json!({"choices": [], "usage": {"completion_tokens": 1}})),
        Bytes::from_static(b"data: [DONE]\n\n"),
    ];
    let mut splice = chat(None, Joint::default());
    for frame in frames {
        assert_eq!(spliced(&mut splice, [frame.clone()]), [frame]);
    }
}

#[test]
fn what_is_no_chunk_passes_as_it_is_behind_what_waits() {
    let mut splice = chat(identity(), echo("one two"));
    assert!(spliced(&mut splice, [role("b"), content("b", "one")]).is_empty());
    let ping = Bytes::from_static(b":\n\n");
    assert_eq!(
        spliced(&mut splice, [ping.clone()]),
        [ping],
        "a comment waits for nothing"
    );
    for last in [
        "data: {\"error\":{\"message\":\"x\"},\"id\":\"b\"}\n\n",
        "error: {\"message\":\"x\"}\n\n",
        "data: {\"choices\":7}\n\n",
        "data: nonsense\n\n",
        "data: [DONE]\n\n",
        "data: \u{0}\n\n",
    ] {
        let mut splice = chat(identity(), echo("one two"));
        let out = spliced(&mut splice, [content("b", "one"), last.into()]);
        assert_eq!(said(&out[..1], Channel::Content), "one", "{last}");
        assert_eq!(out[1], last, "{last}");
        // Before the content has begun there is nothing to be certain of.
        let mut splice = chat(identity(), echo("one two"));
        let out = spliced(
            &mut splice,
            [last.into(), content("b", "one two"), content("b", "!")],
        );
        assert_eq!(said(&out[1..], Channel::Content), "!", "{last}");
    }
}

#[test]
fn an_echo_is_dropped_and_a_text_of_its_own_is_not() {
    let two = || chat(identity(), echo("one two"));
    let out = spliced(
        &mut two(),
        ["one", " two", " three"].map(|text| content("b", text)),
    );
    assert_eq!(out, [content("first", " three")]);
    let out = spliced(&mut two(), ["one", " two three"].map(|text| content("b", text)));
    assert_eq!((out.len(), said(&out, Channel::Content)), (1, " three".into()));
    let mut splice = two();
    let out = spliced(&mut splice, ["one", " tw", "ice"].map(|text| content("b", text)));
    assert_eq!(out, ["one", " tw", "ice"].map(|text| content("first", text)));
    let mut splice = two();
    let mut out = spliced(&mut splice, ["one", " tw"].map(|text| content("b", text)));
    assert!(out.is_empty());
    splice.end(&mut out);
    assert_eq!(out, ["one", " tw"].map(|text| content("first", text)));
}

#[test]
fn a_frame_that_says_more_than_text_stays_without_it() {
    let mut last = chunk("b", &json!({"content": "two"}), Some("stop"));
    last["timings"] = json!({"cache_n": 4});
    let out = spliced(
        &mut chat(identity(), echo("one two")),
        [content("b", "one "), data(&last)],
    );
    let [frame] = out.as_slice() else {
        panic!("{out:?}")
    };
    let frame = value(frame);
    assert_eq!(
        frame["choices"][0],
        json!({"finish_reason": "stop", "index": 0, "delta": {"content": ""}})
    );
    assert_eq!(
        (&frame["id"], &frame["timings"]["cache_n"]),
        (&json!("first"), &json!(4))
    );
    for member in ["usage", "timings", "prompt_progress", "not_known"] {
        let mut frame = chunk("b", &json!({"content": "one two"}), None);
        frame[member] = json!({"a": 1});
        let out = spliced(&mut chat(identity(), echo("one two")), [data(&frame)]);
        assert_eq!(out.len(), 1, "{member}");
        assert_eq!(said(&out, Channel::Content), "", "{member}");
    }
    let mut frame = chunk("b", &json!({"content": "one two"}), None);
    frame["choices"][0]["logprobs"] = Value::Null;
    frame["service_tier"] = json!("default");
    assert!(spliced(&mut chat(identity(), echo("one two")), [data(&frame)]).is_empty());
}

#[test]
fn what_comes_behind_the_content_ends_the_wait() {
    let call = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]});
    for (delta, finish) in [
        (json!({}), Some("stop")),
        (call, None),
        (json!({"reasoning_content": "hm"}), None),
        (json!({"refusal": "no"}), None),
    ] {
        let mut splice = chat(identity(), echo("one two"));
        let last = data(&chunk("b", &delta, finish));
        // The thought in front of the content is none of these.
        let out = spliced(&mut splice, [reasoning("b", "hm"), content("b", "one"), last]);
        let want = [
            reasoning("first", "hm"),
            content("first", "one"),
            data(&chunk("first", &delta, finish)),
        ];
        assert_eq!(shown(&out), shown(&want), "{delta}");
    }
    // In one frame the content comes behind the reasoning, and in front of the finish.
    let both = data(&chunk("b", &json!({"reasoning": "hm", "content": "one"}), None));
    let last = data(&chunk("b", &json!({"content": " two"}), Some("stop")));
    let out = spliced(&mut chat(identity(), echo("one two")), [both, last]);
    assert_eq!(
        (said(&out, Channel::Content), said(&out, Channel::Reasoning)),
        (String::new(), "hm".into())
    );
}

#[test]
fn spaces_that_are_out_come_once() {
    let given = |spaced: &str, texts: &[&str]| {
        let joint = Joint {
            spaced: spaced.to_owned(),
            ..echo("one")
        };
        let out = spliced(
            &mut chat(identity(), joint),
            texts.iter().map(|text| content("b", text)),
        );
        (out.len(), said(&out, Channel::Content))
    };
    assert_eq!(given(" \n", &["one", " ", "\n x", " \n"]), (2, " x \n".into()));
    assert_eq!(given(" \n", &["one", "  x"]), (1, " x".into()));
    assert_eq!(given(" ", &["x"]), (1, "x".into()));
    assert_eq!(
        given("x", &["one", "x"]),
        (1, "x".into()),
        "nothing but white space"
    );
    assert_eq!(given(" ", &["one", "\u{a0}x"]), (1, "\u{a0}x".into()));
}

#[test]
fn reasoning_is_shown_once() {
    let of = |shown: Shown, texts: &[&str]| {
        let joint = Joint {
            reasoning: shown,
            ..Joint::default()
        };
        let mut splice = chat(identity(), joint);
        let mut hidden = Vec::new();
        let mut out = Vec::new();
        for text in texts {
            splice.frame(reasoning("b", text), &mut out);
            hidden.push(splice.hidden_reasoning().to_owned());
        }
        splice.frame(content("b", "answer"), &mut out);
        assert_eq!(said(&out, Channel::Content), "answer");
        assert_eq!(splice.hidden_reasoning(), "");
        (
            said(&out, Channel::Reasoning),
            hidden.concat(),
            splice.hides_reasoning(),
        )
    };
    let owned = |a: &str, b: &str, hides| (a.to_owned(), b.to_owned(), hides);
    let same = || Shown::Same("I see é".to_owned());
    assert_eq!(of(Shown::New, &["I", " see"]), owned("I see", "", false));
    assert_eq!(of(Shown::Dropped, &["I", " see"]), owned("", "I see", true));
    assert_eq!(
        of(same(), &["I see", " é", " it"]),
        owned(" it", "I see é", false)
    );
    assert_eq!(of(same(), &["I see é", " it"]), owned(" it", "I see é", false));
    assert_eq!(of(same(), &["I se", "e é it"]), owned(" it", "I see é", false));
    assert_eq!(of(same(), &["I see"]), owned("", "I see", true));
    assert_eq!(
        of(same(), &["I s", "aw é", "I see é"]),
        owned("", "I saw éI see é", true)
    );
    assert_eq!(of(same(), &["Oh"]), owned("", "Oh", true));
    assert_eq!(of(Shown::Same(String::new()), &["Oh"]), owned("Oh", "", false));
}

#[test]
fn hidden_reasoning_is_hidden_in_every_spelling() {
    let joint = Joint {
        reasoning: Shown::Dropped,
        ..Joint::default()
    };
    let mut splice = chat(identity(), joint);
    let delta = json!({"role": "assistant", "content": "", "reasoning": "a", "reasoning_content": "b",
        "reasoning_details": [{"text": "a"}]});
    assert!(spliced(&mut splice, [data(&chunk("b", &delta, None))]).is_empty());
    assert!(splice.hides_reasoning());
    let both = json!({"reasoning_content": "b", "content": "x"});
    let out = spliced(&mut splice, [data(&chunk("b", &both, None))]);
    assert_eq!(out, [content("first", "x")]);
}

#[test]
fn one_finish_however_often_the_server_says_it() {
    let finish = |id: &str| data(&chunk(id, &json!({}), Some("stop")));
    let mut usage = chunk("b", &json!({"role": "assistant"}), Some("stop"));
    usage["usage"] = json!({"completion_tokens": 1});
    let out = spliced(
        &mut chat(identity(), Joint::default()),
        [finish("b"), finish("b"), data(&usage)],
    );
    assert_eq!((out.len(), &out[0]), (2, &finish("first")));
    let last = value(&out[1]);
    assert_eq!(
        last["choices"][0],
        json!({"finish_reason": null, "index": 0, "delta": {}})
    );
    assert_eq!(last["usage"]["completion_tokens"], 1);
}

#[test]
fn a_long_echo_is_not_kept() {
    use crate::limits::REPEAT_WAITING_BYTES_MAX;
    let padded = |text: &str| {
        let mut frame = chunk("b", &json!({"content": text}), None);
        frame["obfuscation"] = json!("x".repeat(4096));
        data(&frame)
    };
    let pieces: Vec<String> = (0..600).map(|n| format!("{n} \"é\" ")).collect();
    let text = pieces.concat();
    let frames: Vec<Bytes> = pieces.iter().map(|piece| padded(piece)).collect();
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    assert!(bytes > 2 * REPEAT_WAITING_BYTES_MAX, "the test is long enough");
    let begun = || {
        let mut splice = chat(identity(), echo(&format!("{text}the end")));
        assert!(spliced(&mut splice, frames.clone()).is_empty());
        assert!(splice.opening.waiting_bytes() <= REPEAT_WAITING_BYTES_MAX);
        splice
    };
    let out = spliced(&mut begun(), [content("b", "the end"), content("b", "!")]);
    assert_eq!(said(&out, Channel::Content), "!");
    // None of it is lost when it was no echo.
    let out = spliced(&mut begun(), [content("b", "not the end")]);
    assert_eq!(said(&out, Channel::Content), format!("{text}not the end"));
    let (mut splice, mut out) = (begun(), Vec::new());
    splice.end(&mut out);
    assert_eq!(said(&out, Channel::Content), text);
}
