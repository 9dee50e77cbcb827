//! Hidden requests as the relay drives them: a model that is scripted, an upstream that fails, and one answer at the client.

use super::*;
use crate::capabilities::{Capabilities, Flavour, Known};
use crate::continuation::Plan;
use crate::correction::Corrections;
use crate::incident::CorrectionEnd;
use proptest::prelude::*;
use serde_json::Value;

pub(super) const REQUEST: &str =
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Go on."}]}"#;

pub(super) fn correcting(request: &str, flavour: Flavour, corrections_max: u32) -> Relay {
    correcting_by(rulebook(), request, flavour, corrections_max)
}

pub(super) fn correcting_by(
    rulebook: Rulebook,
    request: &str,
    flavour: Flavour,
    corrections_max: u32,
) -> Relay {
    let guard = Guard {
        rulebook: Arc::new(rulebook),
        corrections: Corrections {
            corrections_max,
            ..Corrections::default()
        },
        ..Guard::default()
    };
    let facts = crate::request::read(request.as_bytes(), 64).unwrap();
    Relay::new(Arc::new(guard), Dialect::Chat, Arc::new(facts), None).with_source(Source {
        body: Bytes::copy_from_slice(request.as_bytes()),
        known: Known::new(Capabilities::from(flavour)),
    })
}

/// A chunk as a server with its own id writes it.
pub(super) fn chunk(attempt: usize, delta: &Value, finish: &Value) -> String {
    let frame = json!({"id":format!("chatcmpl-{attempt}"),"object":"chat.completion.chunk","created":attempt,"model":"m",
        "choices":[{"index":0,"delta":delta,"finish_reason":finish}]});
    format!("data: {frame}\n\n")
}

pub(super) fn role(attempt: usize) -> String {
    chunk(attempt, &json!({"role":"assistant","content":null}), &Value::Null)
}

pub(super) fn say(attempt: usize, text: &str) -> String {
    chunk(attempt, &json!({"content":text}), &Value::Null)
}

pub(super) fn think(attempt: usize, text: &str) -> String {
    chunk(attempt, &json!({"reasoning_content":text}), &Value::Null)
}

pub(super) fn over(attempt: usize) -> String {
    chunk(attempt, &json!({}), &json!("stop")) + "data: [DONE]\n\n"
}

/// What a client makes of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) ids: Vec<String>,
    pub(super) roles: usize,
    pub(super) finishes: usize,
    pub(super) done: usize,
    pub(super) errors: Vec<String>,
}

pub(super) fn seen(bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for line in std::str::from_utf8(bytes).unwrap().lines() {
        let Some(data) = line.strip_prefix("data: ") else {
            assert!(line.is_empty() || line.starts_with(':'), "{line}");
            continue;
        };
        assert_eq!(seen.done, 0, "nothing after [DONE]");
        if data == "[DONE]" {
            seen.done += 1;
            continue;
        }
        let value: Value = serde_json::from_str(data).unwrap();
        if let Some(code) = value["error"]["code"].as_str() {
            seen.errors.push(code.to_owned());
            continue;
        }
        let id = value["id"].as_str().unwrap_or_default().to_owned();
        if !seen.ids.contains(&id) {
            seen.ids.push(id);
        }
        for choice in value["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            seen.roles += usize::from(delta.get("role").is_some());
            seen.content
                .push_str(delta["content"].as_str().unwrap_or_default());
            seen.reasoning
                .push_str(delta["reasoning_content"].as_str().unwrap_or_default());
            seen.finishes += usize::from(choice["finish_reason"].is_string());
        }
    }
    seen
}

pub(super) fn drain(relay: &mut Relay, out: &mut Vec<u8>) {
    while let Some(bytes) = relay.take_output() {
        out.extend_from_slice(&bytes);
    }
}

/// Feeds a stream that is cut into pieces and then ends, and takes what leaves meanwhile.
pub(super) fn stream_in_pieces(relay: &mut Relay, bytes: &[u8], cuts: &[usize], out: &mut Vec<u8>) {
    let now = Instant::now();
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut start = 0;
    for end in cuts.into_iter().chain([bytes.len()]) {
        relay.on_bytes(now, Bytes::copy_from_slice(&bytes[start..end]));
        drain(relay, out);
        start = end;
    }
    relay.on_end(now, &UpstreamEnd::Eof);
    drain(relay, out);
}

/// Feeds each attempt's stream, and its end where it did not finish; gives the client's bytes and the hidden requests.
fn attempts(relay: &mut Relay, streams: &[String]) -> (Vec<u8>, Vec<Value>) {
    let now = Instant::now();
    let (mut out, mut asks) = (Vec::new(), Vec::new());
    for stream in streams {
        relay.on_bytes(now, Bytes::copy_from_slice(stream.as_bytes()));
        relay.on_end(now, &UpstreamEnd::Eof);
        drain(relay, &mut out);
        if let Some(ask) = relay.take_ask() {
            asks.push(serde_json::from_slice(&ask.body).unwrap());
            relay.on_answer(now, None);
        }
    }
    drain(relay, &mut out);
    (out, asks)
}

pub(super) const LOOP: &str = "The same sentence again and again, it never ends. ";

#[test]
fn a_loop_is_resumed_from_its_first_period() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let mut first = role(1) + &say(1, "Well.");
    for word in LOOP.repeat(8).split_inclusive(' ') {
        first += &say(1, &format!(" {}", word.trim_end()));
    }
    let second = role(2) + &say(2, " It") + &say(2, " ends.") + &over(2);
    let (out, asks) = attempts(&mut relay, &[first, second]);
    let seen = seen(&out);
    assert_eq!(
        (seen.ids.as_slice(), seen.roles, seen.finishes, seen.done),
        (&["chatcmpl-1".to_owned()][..], 1, 1, 1)
    );
    assert!(
        seen.content.starts_with("Well. The same") && seen.content.ends_with(" It ends."),
        "{seen:?}"
    );
    let messages = asks[0]["messages"].as_array().unwrap();
    let prefill = messages[1]["content"].as_str().unwrap();
    assert_eq!(
        format!("{prefill} It ends."),
        seen.content,
        "the text goes on where the prefill ends"
    );
    assert!(
        messages[0]["content"]
            .as_str()
            .unwrap()
            .starts_with("Go on.\n\n[Note:")
    );
    assert!(!String::from_utf8_lossy(&out).contains("Note:"));
    let incidents = relay.take_incidents();
    assert_eq!(incidents.len(), 1);
    let correction = incidents[0].correction.as_ref().unwrap();
    assert_eq!(
        (incidents[0].decision, correction.plan, correction.outcome),
        (Decision::Correct, Plan::Resume, CorrectionEnd::Joined)
    );
}

#[test]
fn a_loop_that_comes_back_is_critical() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let mut stream = role(1);
    for word in LOOP.repeat(12).split_inclusive(' ') {
        stream += &say(1, &format!(" {}", word.trim_end()));
    }
    let (out, asks) = attempts(&mut relay, &[stream.clone(), stream]);
    assert_eq!(
        (asks.len(), seen(&out).errors),
        (1, vec!["A201_token_loop".to_owned()])
    );
    let decisions: Vec<_> = relay
        .take_incidents()
        .iter()
        .map(|i| (i.decision, i.severity))
        .collect();
    assert_eq!(
        decisions,
        [
            (Decision::Correct, Severity::Minor),
            (Decision::Cut, Severity::Critical)
        ]
    );
}

#[test]
fn nothing_is_asked_where_nothing_can_be_joined() {
    for extra in [r#","n":2"#, r#","logprobs":true"#] {
        let request = REQUEST.replace(r#","messages""#, &format!(r#"{extra},"messages""#));
        let mut relay = correcting(&request, Flavour::LlamaServer, 2);
        let (out, asks) = attempts(&mut relay, &[role(1) + &say(1, "Half an")]);
        assert_eq!(
            (asks.len(), seen(&out).errors),
            (0, vec!["A204_upstream_lost".to_owned()])
        );
        let incident = &relay.take_incidents()[0];
        assert_eq!(incident.unavailable.as_ref().unwrap().code, Code::NotInjectable);
    }
}

#[test]
fn corrections_are_counted() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let half = |attempt, text: &str| role(attempt) + &say(attempt, text);
    let (out, asks) = attempts(&mut relay, &[half(1, "one"), half(2, " two"), half(3, " three")]);
    let seen = seen(&out);
    assert_eq!(
        (asks.len(), seen.content.as_str(), seen.done),
        (2, "one two three", 1)
    );
    assert_eq!(seen.errors, ["A204_upstream_lost"]);
    let last = relay.take_incidents().pop().unwrap();
    assert_eq!(last.unavailable.unwrap().code, Code::CorrectionsExhausted);
}

#[test]
fn a_refused_prefill_is_asked_for_in_another_way() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let now = Instant::now();
    relay.on_bytes(now, Bytes::from(role(1) + &say(1, "The first half of it")));
    relay.on_end(now, &UpstreamEnd::Eof);
    assert_eq!(relay.take_ask().unwrap().plan, Plan::Resume);
    relay.on_refused(now, "400");
    assert_eq!(relay.take_ask().unwrap().plan, Plan::Append);
    relay.on_refused(now, "400 again");
    let mut out = Vec::new();
    drain(&mut relay, &mut out);
    assert_eq!(seen(&out).errors, ["A204_upstream_lost"]);
    let incidents = relay.take_incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(
        (
            incidents[0].decision,
            incidents[0].correction.as_ref().unwrap().outcome
        ),
        (Decision::Cut, CorrectionEnd::Failed)
    );
}

#[test]
fn a_client_that_leaves_while_it_waits_is_an_incident() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let now = Instant::now();
    relay.on_bytes(now, Bytes::from(role(1) + &say(1, "Half")));
    relay.on_end(now, &UpstreamEnd::Eof);
    relay.on_waiting();
    assert!(relay.take_ask().is_some());
    relay.on_client_left(now);
    let incidents = relay.take_incidents();
    assert_eq!(
        incidents[0].correction.as_ref().unwrap().outcome,
        CorrectionEnd::Abandoned
    );
    assert_eq!(incidents.len(), 1);
}

#[test]
fn white_space_waits_for_the_token_after_it() {
    let mut relay = correcting(REQUEST, Flavour::LlamaServer, 2);
    let now = Instant::now();
    let mut out = Vec::new();
    relay.on_bytes(now, Bytes::from(role(1) + &say(1, "end.") + &say(1, "\n\n")));
    drain(&mut relay, &mut out);
    assert_eq!(seen(&out).content, "end.");
    relay.on_bytes(now, Bytes::from(say(1, "Next")));
    drain(&mut relay, &mut out);
    assert_eq!(seen(&out).content, "end.\n\nNext");
}

/// One answer that is interrupted several times.
#[derive(Debug, Clone)]
struct Broken {
    reasoning: Vec<String>,
    content: Vec<String>,
    /// After how many frames each attempt but the last breaks off.
    breaks: Vec<usize>,
    flavour: Flavour,
    /// The server repeats what it was given.
    echoes: bool,
    /// Characters of a token in later attempts.
    chars: usize,
    cuts: Vec<usize>,
}

fn broken() -> impl Strategy<Value = Broken> {
    let token = prop_oneof![
        4 => " ?[a-zé]{1,6}",
        1 => Just(", ".to_owned()),
        1 => Just("\n\n".to_owned()),
        1 => Just(" \"q\\\"".to_owned()),
        1 => Just("🦀".to_owned()),
        1 => Just(" ha".to_owned()),
    ];
    let flavour = prop::sample::select(vec![
        Flavour::LlamaServer,
        Flavour::Vllm,
        Flavour::Sglang,
        Flavour::LmStudio,
        Flavour::Ollama,
    ]);
    (
        prop::collection::vec(" ?[a-z]{1,5}", 0..5),
        prop::collection::vec(token, 1..30),
        prop::collection::vec(0usize..20, 0..4),
        flavour,
        1usize..9,
        prop::collection::vec(any::<usize>(), 0..10),
    )
        .prop_map(|(reasoning, content, breaks, flavour, chars, cuts)| Broken {
            reasoning,
            content,
            breaks,
            // One that may echo and does not cannot be told from one that says the same again.
            echoes: Capabilities::from(flavour).echoes,
            flavour,
            chars,
            cuts,
        })
}

fn tokens(text: &str, chars: usize) -> Vec<String> {
    let scalars: Vec<char> = text.chars().collect();
    scalars.chunks(chars).map(|c| c.iter().collect()).collect()
}

impl Broken {
    /// The frames of an attempt, from what it was asked: the model says the same every time.
    fn frames(&self, attempt: usize, ask: Option<&Value>) -> Vec<String> {
        let (reasoning, content) = (self.reasoning.concat(), self.content.concat());
        let last = ask.map(|ask| ask["messages"].as_array().unwrap().last().unwrap().clone());
        let prefill = last.filter(|message| message["role"] == "assistant");
        let mut frames = vec![role(attempt)];
        match prefill {
            None if attempt == 1 => {
                frames.extend(self.reasoning.iter().map(|t| think(attempt, t)));
                frames.extend(self.content.iter().map(|t| say(attempt, t)));
            }
            None => {
                frames.extend(tokens(&reasoning, self.chars).iter().map(|t| think(attempt, t)));
                frames.extend(tokens(&content, self.chars).iter().map(|t| say(attempt, t)));
            }
            Some(message) => {
                let prefill = message["content"].as_str().unwrap();
                let rest = content
                    .strip_prefix(prefill)
                    .expect("the prefill is the answer so far");
                let echo = if self.echoes { prefill } else { "" };
                let text = format!("{echo}{rest}");
                frames.extend(tokens(&text, self.chars).iter().map(|t| say(attempt, t)));
            }
        }
        frames
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// However often an answer breaks off, whatever the upstream repeats and however its bytes are cut: the client gets
    /// the one answer, with one id, one role, one finish and one `[DONE]`.
    #[test]
    fn a_broken_answer_arrives_whole(case in broken()) {
        let request = REQUEST.replace(r#""stream":true"#, r#""stream":true,"temperature":0"#);
        let mut relay = correcting(&request, case.flavour, 8);
        let now = Instant::now();
        let (mut out, mut ask) = (Vec::new(), None);
        for attempt in 1..=case.breaks.len() + 1 {
            let frames = case.frames(attempt, ask.as_ref());
            let stream = match case.breaks.get(attempt - 1) {
                Some(n) => frames.into_iter().take(*n).collect::<String>(),
                None => frames.concat() + &over(attempt),
            };
            stream_in_pieces(&mut relay, stream.as_bytes(), &case.cuts, &mut out);
            ask = relay.take_ask().map(|ask| serde_json::from_slice(&ask.body).unwrap());
            if ask.is_some() {
                relay.on_answer(now, None);
            }
        }
        drain(&mut relay, &mut out);
        let got = seen(&out);
        prop_assert_eq!(&got.content, &case.content.concat(), "{:?}", got);
        prop_assert_eq!(&got.reasoning, &case.reasoning.concat(), "{:?}", got);
        prop_assert_eq!((got.ids.len(), got.roles, got.finishes, got.done), (1, 1, 1, 1), "{:?}", got);
        prop_assert!(got.errors.is_empty());
        let incidents = relay.take_incidents();
        prop_assert_eq!(incidents.len(), case.breaks.len());
        prop_assert!(incidents.iter().all(|i| i.decision == Decision::Correct));
    }
}
