mod corrections;
mod edges;
mod faulty;
mod splits;

use super::*;
use crate::decide::{Decision, OnFailure, Policy};
use crate::limits::{FINDINGS_MAX, Limits};
use crate::rule::{Action, Severity};
use crate::rules::forbidden_phrase::{Phrases, Settings};
use crate::rules::{CodePolicy, Rulebook};
use crate::stall::{Heartbeat, StallSettings};
use serde_json::json;
use std::time::Duration;

fn rulebook() -> Rulebook {
    let settings = Settings {
        literals: vec!["launch code".into(), "código".into()],
        patterns: vec!["sk-[a-z0-9]{8}".into()],
        ..Settings::default()
    };
    let mut book = Rulebook::default();
    book.phrases = Some(Arc::new(Phrases::compile(&settings).unwrap()));
    book
}

fn guard(policy: Policy) -> Arc<Guard> {
    Arc::new(Guard {
        rulebook: Arc::new(rulebook()),
        policy,
        ..Guard::default()
    })
}

fn relay(policy: Policy, json: bool) -> Relay {
    let request = RequestFacts {
        stream: true,
        choices: 1,
        json,
        ..RequestFacts::default()
    };
    Relay::new(guard(policy), Dialect::Chat, Arc::new(request), None)
}

fn content(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices":[{"index":0,"delta":{"content":text},"finish_reason":null}]})
    )
}

fn tool(index: u32, arguments: &str) -> String {
    let call = json!([{"index":index,"function":{"arguments":arguments}}]);
    format!(
        "data: {}\n\n",
        json!({"choices":[{"index":0,"delta":{"tool_calls":call}}]})
    )
}

fn finish(reason: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({"choices":[{"index":0,"delta":{},"finish_reason":reason}]})
    )
}

const DONE: &str = "data: [DONE]\n\n";

fn output(relay: &mut Relay) -> String {
    let mut out = Vec::new();
    while let Some(bytes) = relay.take_output() {
        out.extend_from_slice(&bytes);
    }
    String::from_utf8(out).unwrap()
}

/// Feeds `stream` in one piece and ends it properly.
fn run(relay: &mut Relay, stream: &str) -> (String, Vec<Incident>) {
    let now = Instant::now();
    relay.on_bytes(now, Bytes::from(stream.to_owned()));
    relay.on_end(now, &UpstreamEnd::Eof);
    (output(relay), relay.take_incidents())
}

fn codes(incidents: &[Incident]) -> Vec<(Code, Decision, bool)> {
    incidents.iter().map(|i| (i.code, i.decision, i.shadow)).collect()
}

#[test]
fn a_healthy_stream_passes_byte_for_byte() {
    let stream = [
        ": ping\n\n",
        &content("Hello"),
        &content(" world"),
        &finish("stop"),
        DONE,
    ]
    .concat();
    let mut relay = relay(Policy::default(), false);
    assert_eq!(run(&mut relay, &stream), (stream, vec![]));
    assert_eq!(relay.end(), Some(End::Clean));
}

#[test]
fn the_first_impossible_byte_never_leaves() {
    let good = [content("{\"a\":"), content("[1")].concat();
    let stream = [&good, &content(",,]"), &content("}"), &finish("stop"), DONE].concat();
    let mut relay = relay(Policy::default(), true);
    let (out, incidents) = run(&mut relay, &stream);
    assert!(out.starts_with(&good) && out.ends_with(DONE), "{out}");
    assert_eq!(out.matches("A101_broken_json").count(), 2, "in message and code");
    assert!(!out.contains("finish_reason\":\"stop"));
    assert_eq!(codes(&incidents), [(Code::BrokenJson, Decision::Cut, false)]);
    assert_eq!(incidents[0].bytes_released, good.len() as u64);
}

#[test]
fn a_truncated_value_is_found_before_its_finish_leaves() {
    let stream = [content("{\"a\":\"b"), finish("length"), DONE.into()].concat();
    let (out, incidents) = run(&mut relay(Policy::default(), true), &stream);
    assert!(out.contains("A103_truncated_json") && !out.contains("length\"}"));
    assert_eq!(incidents[0].code, Code::TruncatedJson);
}

#[test]
fn a_phrase_never_leaves_half() {
    let clean = content("the ");
    let stream = [
        &clean,
        &content("laun"),
        &content("ch co"),
        &content("de is 1"),
        &finish("stop"),
        DONE,
    ]
    .concat();
    let (out, incidents) = run(&mut relay(Policy::default(), false), &stream);
    assert!(out.starts_with(&clean) && !out.contains("laun\""), "{out}");
    assert_eq!(codes(&incidents), [(Code::ForbiddenPhrase, Decision::Cut, false)]);
    assert_eq!(incidents[0].span, [4, 15]);
}

#[test]
fn what_does_not_become_a_phrase_is_held_and_then_leaves() {
    let mut relay = relay(Policy::default(), false);
    let now = Instant::now();
    let (first, second) = (content("to laun"), content("der money"));
    relay.on_bytes(now, Bytes::from(first.clone()));
    assert_eq!(output(&mut relay), "");
    relay.on_bytes(now, Bytes::from(second.clone()));
    assert_eq!(output(&mut relay), first + &second);
    let rest = [content("a launch"), finish("stop")].concat();
    relay.on_bytes(now, Bytes::from(rest.clone()));
    assert_eq!(output(&mut relay), rest, "the finish resolves what was held");
}

#[test]
fn tool_calls_leave_whole_or_not_at_all() {
    let calls = [tool(0, ""), tool(0, "{\"a\""), tool(1, "{}"), tool(0, ":1}")].concat();
    let mut whole = relay(Policy::default(), false);
    whole.on_bytes(
        Instant::now(),
        Bytes::from([content("I call."), calls.clone()].concat()),
    );
    assert_eq!(output(&mut whole), content("I call."));
    let end = [finish("tool_calls"), DONE.into()].concat();
    assert_eq!(run(&mut whole, &end).0, calls.clone() + &end);

    let mut lost = relay(Policy::default(), false);
    let (out, incidents) = run(&mut lost, &calls);
    assert!(
        out.starts_with("data: {\"error\"") && out.contains("A204_upstream_lost"),
        "{out}"
    );
    assert_eq!(codes(&incidents), [(Code::UpstreamLost, Decision::Cut, false)]);
}

#[test]
fn an_error_of_the_upstream_passes_unless_a_call_is_held() {
    let error = "data: {\"error\":{\"message\":\"slot died\"}}\n\n";
    let plain = [&content("a"), error].concat();
    assert_eq!(run(&mut relay(Policy::default(), false), &plain), (plain, vec![]));
    let (out, incidents) = run(
        &mut relay(Policy::default(), false),
        &[&tool(0, "{"), error].concat(),
    );
    assert!(
        out.contains("the upstream reported: slot died") && !out.contains("tool_calls"),
        "{out}"
    );
    assert_eq!(incidents.len(), 1);
}

#[test]
fn every_way_to_lose_a_stream_is_loud() {
    let broken = UpstreamEnd::Broken("connection reset".into());
    let (a, done) = (content("a"), [content("a"), DONE.into()].concat());
    let old = [&content("a"), "error: {\"message\":\"old\"}\n\n"].concat();
    let finished = [content("a"), finish("stop")].concat();
    let half = [&content("a"), "data: {\"choi"].concat();
    for (stream, how, why) in [
        (
            a.as_str(),
            &UpstreamEnd::Eof,
            "closed the stream before the answer was finished",
        ),
        ("", &UpstreamEnd::Eof, "closed the stream before"),
        (&done, &UpstreamEnd::Eof, "said [DONE] without a finish reason"),
        (&old, &UpstreamEnd::Eof, "the upstream reported: old"),
        (&a, &broken, "connection reset"),
        (&finished, &broken, "connection reset"),
        (&half, &broken, "connection reset"),
    ] {
        let mut relay = relay(Policy::default(), false);
        relay.on_bytes(Instant::now(), Bytes::from(stream.to_owned()));
        relay.on_end(Instant::now(), how);
        let out = output(&mut relay);
        assert!(out.contains(why) && out.ends_with(DONE), "{stream:?}: {out}");
        assert_eq!(
            codes(&relay.take_incidents()),
            [(Code::UpstreamLost, Decision::Cut, false)]
        );
        assert_eq!(relay.end(), Some(End::Clean));
    }
}

#[test]
fn a_missing_done_or_blank_line_is_no_fault() {
    for tail in [
        "",
        "data: [DONE]",
        "data: [DONE]\n",
        "data: [DONE]\r\n\r\n",
        ": bye",
    ] {
        let stream = [&content("a"), &finish("stop"), tail].concat();
        assert_eq!(
            run(&mut relay(Policy::default(), false), &stream),
            (stream, vec![]),
            "{tail:?}"
        );
    }
    let mut broken = relay(Policy::default(), false);
    broken.on_bytes(
        Instant::now(),
        Bytes::from([&content("a"), &finish("stop"), DONE].concat()),
    );
    broken.on_end(Instant::now(), &UpstreamEnd::Broken("late reset".into()));
    assert_eq!((broken.end(), broken.has_incidents()), (Some(End::Clean), false));
}

#[test]
fn an_unfinished_last_event_is_ruled_too() {
    let stream = [&content("x "), content("launch code").trim_end()].concat();
    let (out, incidents) = run(&mut relay(Policy::default(), false), &stream);
    assert!(!out.contains("launch code\""), "{out}");
    assert_eq!(incidents[0].code, Code::ForbiddenPhrase);
}

#[test]
fn text_after_the_finish_is_ruled_too() {
    let stream = [&content("x"), &finish("stop"), &content("launch code"), DONE].concat();
    let (out, incidents) = run(&mut relay(Policy::default(), false), &stream);
    assert!(!out.contains("launch code\""), "{out}");
    assert_eq!(codes(&incidents), [(Code::ForbiddenPhrase, Decision::Cut, false)]);
    let late = [
        content("x"),
        finish("stop"),
        tool(0, "{}"),
        content("y laun"),
        DONE.into(),
    ]
    .concat();
    assert_eq!(
        run(&mut relay(Policy::default(), false), &late),
        (late, vec![]),
        "nothing is lost"
    );
}

#[test]
fn shadow_changes_nothing_and_records_everything() {
    let shadow = Policy {
        mode: Mode::Shadow,
        ..Policy::default()
    };
    let stream = [content("launch code"), tool(0, "{"), content("more")].concat();
    let mut relay = relay(shadow, false);
    let (out, incidents) = run(&mut relay, &stream);
    assert_eq!(out, stream);
    assert_eq!(relay.end(), Some(End::Clean), "as the upstream ended it");
    assert_eq!(
        codes(&incidents),
        [
            (Code::ForbiddenPhrase, Decision::Cut, true),
            (Code::UpstreamLost, Decision::Cut, true)
        ]
    );
}

#[test]
fn frames_that_cannot_be_read_follow_on_failure() {
    let odd = "data: {\"choices\":7}\n\n";
    let stream = [&content("a"), odd, &content("b"), &finish("stop"), DONE].concat();
    let (out, incidents) = run(&mut relay(Policy::default(), false), &stream);
    assert_eq!(
        (out, codes(&incidents)),
        (
            stream.clone(),
            vec![(Code::UndecodableFrame, Decision::Pass, false)]
        )
    );
    let closed = Policy {
        on_failure: OnFailure::Closed,
        ..Policy::default()
    };
    let (out, incidents) = run(&mut relay(closed, false), &stream);
    assert!(out.starts_with(&content("a")) && !out.contains(odd) && out.contains("A506_undecodable_frame"));
    assert_eq!(incidents.len(), 1);
}

fn small(policy: Policy, limits: Limits) -> Relay {
    let guard = Guard {
        limits,
        policy,
        ..Guard::default()
    };
    Relay::new(Arc::new(guard), Dialect::Chat, Arc::default(), None)
}

#[test]
fn a_frame_without_end_is_cut_at_the_cap_and_passed_in_shadow() {
    let limits = Limits {
        frame_bytes_max: 64,
        ..Limits::default()
    };
    let mut enforced = small(Policy::default(), limits);
    let now = Instant::now();
    for _ in 0..100 {
        enforced.on_bytes(now, Bytes::from_static(b"0123456789"));
    }
    assert!(output(&mut enforced).contains("A603_frame_too_large"));
    assert_eq!(enforced.ring.held_bytes(), 70, "nothing is stored after the cut");
    let mut shadow = small(
        Policy {
            mode: Mode::Shadow,
            ..Policy::default()
        },
        limits,
    );
    let stream = "x".repeat(200) + "\n\n" + DONE;
    assert_eq!(run(&mut shadow, &stream).0, stream);
}

#[test]
fn a_full_ring_follows_on_failure() {
    let limits = Limits {
        ring_bytes_max: 300,
        ..Limits::default()
    };
    let call = [
        tool(0, "{\"a\":"),
        tool(0, "1234567890"),
        tool(0, "12345"),
        tool(0, "}"),
    ]
    .concat();
    let end = [finish("tool_calls"), DONE.into()].concat();
    let mut open = small(Policy::default(), limits);
    open.on_bytes(Instant::now(), Bytes::from(call.clone()));
    assert_eq!(output(&mut open), call);
    let (out, incidents) = run(&mut open, &end);
    assert_eq!(
        (out, codes(&incidents)),
        (end.clone(), vec![(Code::HoldExhausted, Decision::Pass, false)])
    );
    let mut closed = small(
        Policy {
            on_failure: OnFailure::Closed,
            ..Policy::default()
        },
        limits,
    );
    closed.on_bytes(Instant::now(), Bytes::from(call));
    let (out, _) = run(&mut closed, &end);
    assert!(out.starts_with("data: {\"error\"") && out.contains("A503_hold_exhausted"));
}

#[test]
fn incidents_that_change_nothing_are_bounded() {
    let odd = "data: {\"choices\":7}\n\n".repeat(1000);
    let mut relay = relay(Policy::default(), false);
    let (out, incidents) = run(&mut relay, &odd);
    assert!(out.starts_with(&odd) && out.contains("A204_upstream_lost"));
    assert_eq!(incidents.len(), FINDINGS_MAX + 1, "and the one that ends it");
}

#[test]
fn silence_asks_and_death_cuts() {
    let settings = StallSettings {
        after: Duration::from_secs(3),
        ..StallSettings::default()
    };
    let t0 = Instant::now();
    let clock = StallClock::new(settings, t0);
    let mut relay = Relay::new(
        guard(Policy::default()),
        Dialect::Chat,
        Arc::default(),
        Some(clock),
    );
    relay.on_bytes(t0, Bytes::from(content("a")));
    // A ping is not progress.
    relay.on_bytes(t0 + Duration::from_secs(2), Bytes::from_static(b":\n\n"));
    let due = relay.deadline().unwrap();
    assert_eq!(due, t0 + Duration::from_secs(3));
    relay.on_time(due);
    assert!(relay.take_heartbeat_request() && !relay.take_heartbeat_request());
    relay.on_heartbeat(due, &Heartbeat::Dead("connection refused".into()));
    assert!(output(&mut relay).contains("no token for 3.0 s, and connection refused (A204_upstream_lost)"));
    assert_eq!((relay.end(), relay.deadline()), (Some(End::Clean), None));
}

#[test]
fn done_without_a_finish_is_replaced_by_the_error() {
    let stream = [content("a"), DONE.into()].concat();
    let (out, _) = run(&mut relay(Policy::default(), false), &stream);
    assert_eq!(out.matches("[DONE]\n").count(), 1, "{out}");
    let mut shadow = relay(
        Policy {
            mode: Mode::Shadow,
            ..Policy::default()
        },
        false,
    );
    let (out, incidents) = run(&mut shadow, &stream);
    assert_eq!(
        (out, codes(&incidents)),
        (stream.clone(), vec![(Code::UpstreamLost, Decision::Cut, true)])
    );
    let mut book = rulebook();
    book.set(
        Code::UpstreamLost,
        CodePolicy {
            enabled: false,
            severity: Severity::Minor,
            action: Action::Cut,
            chosen: true,
        },
    );
    let guard = Guard {
        rulebook: Arc::new(book),
        ..Guard::default()
    };
    let mut off = Relay::new(Arc::new(guard), Dialect::Chat, Arc::default(), None);
    assert_eq!(run(&mut off, &stream), (stream, vec![]));
    assert_eq!(off.end(), Some(End::Broken), "never a clean end");
}
