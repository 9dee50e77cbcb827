//! Hidden requests at the edges: events that are cut in two, errors that quote what is hidden, plans that turn out wrong.

use super::corrections::*;
use super::*;
use crate::capabilities::Flavour;
use crate::continuation::Plan;
use serde_json::Value;

fn feed(relay: &mut Relay, text: &str) {
    relay.on_bytes(Instant::now(), Bytes::copy_from_slice(text.as_bytes()));
}

fn taken(relay: &mut Relay) -> String {
    let mut out = Vec::new();
    drain(relay, &mut out);
    String::from_utf8(out).unwrap()
}

fn lose(relay: &mut Relay) {
    relay.on_end(Instant::now(), &UpstreamEnd::Eof);
}

/// The hidden request, and that its answer begins.
fn answered(relay: &mut Relay) -> (Plan, Value) {
    let ask = relay.take_ask().expect("a hidden request");
    relay.on_answer(Instant::now(), None);
    (ask.plan, serde_json::from_slice(&ask.body).unwrap())
}

pub(super) fn prefill(ask: &Value) -> &str {
    let last = ask["messages"].as_array().unwrap().last().unwrap();
    let content = last["content"].as_str().unwrap_or_default();
    if last["role"] == "assistant" { content } else { "" }
}

pub(super) fn looped(attempt: usize, times: usize) -> String {
    let words = LOOP.repeat(times);
    let words = words
        .split_inclusive(' ')
        .map(|word| format!(" {}", word.trim_end()));
    words.map(|word| say(attempt, &word)).collect()
}

/// What is left of an event that broke off is never glued to what Aegis writes.
#[test]
fn an_answer_may_break_off_at_any_byte() {
    let whole = "Hello there, friend.";
    let (told, torn) = (role(1) + &say(1, "Hello"), say(1, " there,"));
    for cut in 0..=torn.len() {
        let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
        feed(&mut relay, &(told.clone() + &torn[..cut]));
        lose(&mut relay);
        relay.on_waiting();
        let (_, ask) = answered(&mut relay);
        let rest = whole.strip_prefix(prefill(&ask)).unwrap();
        feed(&mut relay, &(role(2) + &say(2, rest) + &over(2)));
        lose(&mut relay);
        let out = taken(&mut relay);
        let seen = seen(out.as_bytes());
        assert_eq!(
            (seen.content.as_str(), seen.finishes, seen.done),
            (whole, 1, 1),
            "cut at {cut}: {out}"
        );
        assert!(!out.contains("\n:\n:"), "{out}");
    }
    // Where nothing is asked again, the error is an event of its own.
    for tail in ["da", ":", "data: {\"x", torn.trim_end()] {
        let mut relay = correcting(REQUEST, Flavour::LlamaServer, 0);
        feed(&mut relay, &(told.clone() + tail));
        lose(&mut relay);
        assert_eq!(
            seen(taken(&mut relay).as_bytes()).errors,
            ["A204_upstream_lost"],
            "{tail}"
        );
    }
}

const QUOTING: &str = "{\"message\":\"cannot parse [Note: a first attempt\",\"code\":400}";

/// Servers quote the request in their errors.
#[test]
fn errors_that_quote_a_hidden_turn_stay_inside() {
    let events = [
        format!("error: {QUOTING}\n\n"),
        format!("data: {{\"error\":{QUOTING}}}\n\n"),
    ];
    for (event, enabled) in events.iter().flat_map(|event| [(event, true), (event, false)]) {
        let mut book = rulebook();
        let policy = book.policy(Code::UpstreamLost);
        book.set(Code::UpstreamLost, CodePolicy { enabled, ..policy });
        let mut relay = correcting_by(book, REQUEST, Flavour::LlamaServer, 1);
        feed(&mut relay, &(role(1) + &looped(1, 8)));
        let (_, ask) = answered(&mut relay);
        assert!(ask.to_string().contains("[Note: a first attempt"));
        feed(&mut relay, &(role(2) + event));
        lose(&mut relay);
        let out = taken(&mut relay);
        assert!(!out.contains("first attempt"), "{event}: {out}");
        let incidents = format!("{:?}", relay.take_incidents());
        assert!(!incidents.contains("cannot parse"), "{incidents}");
        assert!(
            seen(out.as_bytes()).errors == ["A204_upstream_lost"] || !enabled,
            "{out}"
        );
        assert_eq!(relay.end(), Some(if enabled { End::Clean } else { End::Broken }));
    }
}

/// A thought behind the beginning of the content: the server has put that inside the thought, or lost it.
#[test]
fn an_upstream_that_thinks_behind_a_prefill_is_asked_in_another_way() {
    let mut relay = correcting(REQUEST, Flavour::Vllm, 2);
    feed(&mut relay, &(role(1) + &think(1, "Hm.") + &say(1, "It ran")));
    lose(&mut relay);
    assert_eq!(answered(&mut relay).0, Plan::Resume);
    feed(&mut relay, &(role(2) + &think(2, " a cat.")));
    assert!(relay.is_asking(), "what it says is no part of the answer");
    let (plan, ask) = answered(&mut relay);
    assert_eq!((plan, prefill(&ask)), (Plan::Append, ""));
    feed(
        &mut relay,
        &(role(3) + &think(3, "Let me see.") + &say(3, " a dog.") + &over(3)),
    );
    lose(&mut relay);
    let seen = seen(taken(&mut relay).as_bytes());
    assert_eq!(
        (seen.content.as_str(), seen.reasoning.as_str()),
        ("It ran a dog.", "Hm.")
    );
    assert_eq!((seen.ids.len(), seen.finishes, seen.done), (1, 1, 1));
    assert_eq!(relay.take_incidents().len(), 1);
}

#[test]
fn what_can_be_mended_is_mended_though_a_loop_was_corrected() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    feed(&mut relay, &(role(1) + &looped(1, 8)));
    answered(&mut relay);
    feed(
        &mut relay,
        &(role(2) + &say(2, " Done.") + &say(2, &" ".repeat(700))),
    );
    let seen = seen(taken(&mut relay).as_bytes());
    assert_eq!(
        (seen.finishes, seen.done, seen.errors.len()),
        (1, 1, 0),
        "{seen:?}"
    );
    assert!(seen.content.ends_with(" Done."));
    let decisions: Vec<_> = relay.take_incidents().iter().map(|i| i.decision).collect();
    assert_eq!(decisions, [Decision::Correct, Decision::Repair]);
}

#[test]
fn a_loop_in_another_lane_is_corrected_too() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 3);
    let thoughts = LOOP.repeat(8);
    let thoughts = thoughts
        .split_inclusive(' ')
        .map(|word| think(1, &format!(" {}", word.trim_end())));
    feed(&mut relay, &(role(1) + &thoughts.collect::<String>()));
    answered(&mut relay);
    feed(&mut relay, &(role(2) + &looped(2, 8)));
    answered(&mut relay);
    feed(&mut relay, &(role(3) + &looped(3, 8)));
    assert_eq!(seen(taken(&mut relay).as_bytes()).errors, ["A201_token_loop"]);
}

/// Closers of a choice that Aegis cannot speak for.
#[test]
fn closers_never_go_to_another_choice() {
    let request = RequestFacts {
        stream: true,
        choices: 2,
        json: true,
        ..RequestFacts::default()
    };
    let mut relay = Relay::new(guard(Policy::default()), Dialect::Chat, Arc::new(request), None);
    let delta = |choice: u32, delta: &Value, finish: &Value| {
        format!(
            "data: {}\n\n",
            json!({"id":"x","choices":[{"index":choice,"delta":delta,"finish_reason":finish}]})
        )
    };
    feed(
        &mut relay,
        &delta(0, &json!({"content":"{\"x\":\"hel"}), &Value::Null),
    );
    feed(
        &mut relay,
        &delta(1, &json!({"content":"{\"a\":\"b\""}), &Value::Null),
    );
    feed(&mut relay, &delta(0, &json!({"content":"lo"}), &Value::Null));
    feed(&mut relay, &delta(1, &json!({}), &json!("length")));
    let out = taken(&mut relay);
    assert!(!out.contains("\"content\":\"}\""), "{out}");
    assert!(
        relay
            .take_incidents()
            .iter()
            .all(|i| i.decision != Decision::Repair)
    );
}

/// Calls under one index, in pieces that look alike.
#[test]
fn calls_of_one_index_are_judged_apart() {
    let request = r#"{"model":"m","stream":true,"messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":{"required":["city"]}}}]}"#;
    let head = |id: &str| {
        let call = json!([{"index":0,"id":id,"type":"function","function":{"name":"f","arguments":""}}]);
        chunk(1, &json!({"tool_calls":call}), &Value::Null)
    };
    let piece = |text: &str| {
        let call = json!([{"index":0,"function":{"arguments":text}}]);
        chunk(1, &json!({"tool_calls":call}), &Value::Null)
    };
    let call =
        |id: &str, city: &str, end: &str| head(id) + &piece("{\"city\":\"") + &piece(city) + &piece(end);
    let finish = chunk(1, &json!({}), &json!("tool_calls")) + "data: [DONE]\n\n";
    let mut relay = correcting(request, Flavour::LlamaServer, 2);
    let sound = role(1) + &call("a", "Paris", "\"}") + &call("b", "Rome", "\"}") + &finish;
    feed(&mut relay, &sound);
    lose(&mut relay);
    assert_eq!(taken(&mut relay), sound);
    assert!(relay.take_incidents().is_empty());
    // What lacks a bracket is not mended where the frames know another call by that index.
    let mut relay = correcting(request, Flavour::LlamaServer, 2);
    feed(
        &mut relay,
        &(role(1) + &call("a", "Paris", "\"}") + &call("b", "Rome", "\"") + &finish),
    );
    assert_eq!(relay.take_ask().unwrap().plan, Plan::Redo);
}

/// A thinking loop whose corrected request dies unheard is still a thinking loop.
#[test]
fn a_reused_correction_keeps_its_fault() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 3);
    let words = LOOP.repeat(8);
    let thoughts = words
        .split_inclusive(' ')
        .map(|word| think(1, &format!(" {}", word.trim_end())));
    feed(&mut relay, &(role(1) + &thoughts.collect::<String>()));
    let first = answered(&mut relay);
    assert_eq!(first.0, Plan::Resume);
    feed(&mut relay, &role(2));
    lose(&mut relay);
    assert_eq!(answered(&mut relay), first);
}

/// A corrected request that dies before it said a word is made again with its correction.
#[test]
fn a_correction_outlives_a_request_that_was_not_heard() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 3);
    feed(&mut relay, &(role(1) + &looped(1, 8)));
    let (_, first) = answered(&mut relay);
    feed(&mut relay, &role(2));
    lose(&mut relay);
    let (_, second) = answered(&mut relay);
    assert_eq!(first, second);
    feed(&mut relay, &(role(3) + &say(3, " And")));
    lose(&mut relay);
    let (_, third) = answered(&mut relay);
    assert!(!third.to_string().contains("Note:"), "the answer to it was heard");
}

#[test]
fn white_space_does_not_wait_for_ever() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let now = Instant::now();
    relay.on_bytes(now, Bytes::from(role(1) + &say(1, "end.\n")));
    assert_eq!(seen(taken(&mut relay).as_bytes()).content, "");
    let deadline = relay.deadline().unwrap();
    relay.on_time(deadline);
    assert_eq!(seen(taken(&mut relay).as_bytes()).content, "end.\n");
    assert!(relay.take_incidents().is_empty());
    // What is held for a reason is held on.
    relay.on_bytes(deadline, Bytes::from(say(1, "launch")));
    relay.on_bytes(deadline, Bytes::from(say(1, " code")));
    assert!(!taken(&mut relay).contains("launch"));
}

/// An error that blames the request passes, without the text that will never be whole.
#[test]
fn a_fault_of_the_request_passes_behind_white_space() {
    let error = "data: {\"error\":{\"message\":\"too long\",\"code\":400}}\n\n";
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    feed(&mut relay, &(role(1) + &say(1, "Good morn ") + error));
    assert!(!relay.is_asking());
    lose(&mut relay);
    let out = taken(&mut relay);
    assert!(out.contains("Good morn ") && out.ends_with(error), "{out}");
    assert!(relay.take_incidents().is_empty());
    // What waits for more than a word is lost with the answer, loudly.
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 0);
    feed(
        &mut relay,
        &(role(1) + &say(1, "Good") + &say(1, " launch") + error),
    );
    assert_eq!(seen(taken(&mut relay).as_bytes()).errors, ["A204_upstream_lost"]);
    assert_eq!(relay.take_incidents().len(), 1);
    // A client that waits for one body gets the error at once, and nothing else.
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    relay.guard = Arc::new(Guard {
        collects: true,
        ..(*relay.guard).clone()
    });
    feed(
        &mut relay,
        &(role(1) + &say(1, "Good") + &say(1, " launch") + error),
    );
    let out = taken(&mut relay);
    assert!(!out.contains("launch") && out.ends_with(error), "{out}");
}
