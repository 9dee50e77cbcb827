//! The relay over streams of deltas, raw bytes, pings, silence and heartbeats, under any policy and any limits.
//!
//! Whatever comes: what leaves is the beginning of what came, and at most one cut behind it; and with limits that are
//! not reached, any split of the same bytes leaves the same bytes and the same incidents.
#![no_main]

use aegis_core::correction::Corrections;
use aegis_core::decide::{Decision, Fallback, Mode, OnFailure, Policy};
use aegis_core::dialect::Dialect;
use aegis_core::error::Code;
use aegis_core::incident::Incident;
use aegis_core::limits::Limits;
use aegis_core::relay::{End, Guard, Relay, UpstreamEnd};
use aegis_core::release::{Release, ReleasePolicy};
use aegis_core::request::RequestFacts;
use aegis_core::rules::Rulebook;
use aegis_core::rules::forbidden_phrase::{Phrases, Settings};
use aegis_core::stall::{Heartbeat, StallClock, StallSettings};
use aegis_fuzz::pieces;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

#[derive(Debug, arbitrary::Arbitrary)]
enum Step<'a> {
    Text { lane: u8, text: &'a str, times: u8 },
    Phrase { lane: u8, index: u8 },
    Raw(&'a [u8]),
    Finish { choice: bool, reason: u8 },
    Ping,
    Done,
    UpstreamError,
    Wait { ms: u16 },
    Abort,
}

#[derive(Debug, arbitrary::Arbitrary)]
struct Input<'a> {
    shadow: bool,
    closed: bool,
    note: bool,
    json: bool,
    tools: bool,
    completions: bool,
    clock: bool,
    crlf: bool,
    complete: [bool; 3],
    /// Bytes of a frame and of the ring; `None` are the defaults, which no input reaches.
    small: Option<(u8, u16)>,
    heartbeats: [u8; 3],
    broken: bool,
    cuts: Vec<u16>,
    steps: Vec<Step<'a>>,
}

/// Pieces of text that rules care about.
const PHRASES: &[&str] = &[
    "launch code",
    "laun",
    "ch code",
    "sk-",
    "abcd",
    "{\"a\":",
    "[1,",
    "]",
    "}",
    "\"",
    "\\",
    "```",
    " ",
    "\n",
    "é漢🦀",
];

fn rulebook() -> Arc<Rulebook> {
    static BOOK: OnceLock<Arc<Rulebook>> = OnceLock::new();
    Arc::clone(BOOK.get_or_init(|| {
        let settings = Settings {
            literals: vec!["launch code".into(), "é漢".into()],
            patterns: vec!["sk-[a-z0-9]{4}".into()],
            ..Settings::default()
        };
        let phrases = Phrases::compile(&settings).expect("the phrases are sound");
        let mut book = Rulebook::default();
        book.phrases = Some(Arc::new(phrases));
        Arc::new(book)
    }))
}

/// What the relay is given, in order.
enum Event {
    Bytes(Vec<u8>),
    Wait(Duration),
    Abort,
}

impl Input<'_> {
    fn relay(&self, start: Instant) -> Relay {
        let release = |complete| {
            if complete {
                Release::Complete
            } else {
                Release::Rules
            }
        };
        let guard = Guard {
            rulebook: rulebook(),
            policy: Policy {
                mode: if self.shadow { Mode::Shadow } else { Mode::Enforce },
                on_failure: if self.closed {
                    OnFailure::Closed
                } else {
                    OnFailure::Open
                },
            },
            corrections: Corrections {
                on_not_injectable: if self.note { Fallback::Note } else { Fallback::Cut },
                ..Corrections::default()
            },
            release: ReleasePolicy {
                content: release(self.complete[0]),
                reasoning: release(self.complete[1]),
                tool_arguments: release(self.complete[2]),
            },
            limits: self.small.map_or_else(Limits::default, |(frame, ring)| Limits {
                frame_bytes_max: usize::from(frame),
                ring_bytes_max: usize::from(ring),
                ..Limits::default()
            }),
            ..Guard::default()
        };
        let request = RequestFacts {
            stream: true,
            choices: 1,
            json: self.json,
            tools: self.tools,
            ..RequestFacts::default()
        };
        let dialect = if self.completions {
            Dialect::Completions
        } else {
            Dialect::Chat
        };
        let stall = StallSettings {
            first_token_after: Duration::from_secs(10),
            after: Duration::from_secs(5),
            silence_max: Duration::from_secs(60),
            ..StallSettings::default()
        };
        let clock = self.clock.then(|| StallClock::new(stall, start));
        Relay::new(Arc::new(guard), dialect, Arc::new(request), clock)
    }

    fn frame(&self, lane: u8, text: &str) -> serde_json::Value {
        let choice = u8::from(lane & 8 != 0);
        if self.completions {
            return json!({"choices": [{"index": choice, "text": text}]});
        }
        let delta = match lane % 8 {
            0..=3 => json!({"content": text}),
            4 => json!({"reasoning_content": text}),
            5 => json!({"refusal": text}),
            k => json!({"tool_calls": [{"index": k - 6, "function": {"arguments": text}}]}),
        };
        json!({"model": "m", "choices": [{"index": choice, "delta": delta}]})
    }

    /// The steps as events; bytes that follow each other are one event.
    fn events(&self) -> Vec<Event> {
        let blank = if self.crlf { "\r\n\r\n" } else { "\n\n" };
        let mut events = Vec::new();
        let mut bytes: Vec<u8> = Vec::new();
        for step in &self.steps {
            let mut say = |data: String| bytes.extend_from_slice(format!("data: {data}{blank}").as_bytes());
            match step {
                Step::Text { lane, text, times } => {
                    (0..=*times).for_each(|_| say(self.frame(*lane, text).to_string()));
                }
                Step::Phrase { lane, index } => {
                    say(self
                        .frame(*lane, PHRASES[usize::from(*index) % PHRASES.len()])
                        .to_string());
                }
                Step::Finish { choice, reason } => {
                    let reason =
                        ["stop", "length", "tool_calls", "content_filter", "odd"][usize::from(*reason % 5)];
                    let choice = u8::from(*choice);
                    say(json!({"choices": [{"index": choice, "delta": {}, "text": "", "finish_reason": reason}]})
                        .to_string());
                }
                Step::Done => say("[DONE]".into()),
                Step::UpstreamError => say(json!({"error": {"message": "slot died"}}).to_string()),
                Step::Ping => bytes.extend_from_slice(format!(": ping{blank}").as_bytes()),
                Step::Raw(raw) => bytes.extend_from_slice(raw),
                Step::Wait { ms } => {
                    events.push(Event::Bytes(std::mem::take(&mut bytes)));
                    events.push(Event::Wait(Duration::from_millis(u64::from(*ms))));
                }
                Step::Abort => {
                    events.push(Event::Bytes(std::mem::take(&mut bytes)));
                    events.push(Event::Abort);
                }
            }
            if bytes.len() > 1 << 16 {
                break;
            }
        }
        events.push(Event::Bytes(bytes));
        events
    }

    fn heartbeat(&self, n: usize) -> Heartbeat {
        match self.heartbeats[n % self.heartbeats.len()] % 4 {
            0 => Heartbeat::Alive,
            1 => Heartbeat::Busy { work: n as u64 / 2 },
            2 => Heartbeat::Idle,
            _ => Heartbeat::Dead("connection refused".into()),
        }
    }

    /// Runs all events; the bytes of each are cut at `cuts`. Returns what left, what was recorded, and the end.
    fn run(&self, events: &[Event], cuts: &[u16], start: Instant) -> (Vec<u8>, Vec<Incident>, Option<End>) {
        let (mut relay, mut now, mut asked) = (self.relay(start), start, 0);
        let (mut out, mut came) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Bytes(bytes) => {
                    for piece in pieces(bytes, cuts) {
                        came.extend_from_slice(piece);
                        relay.on_bytes(now, Bytes::copy_from_slice(piece));
                        take(&mut relay, &mut out, &came);
                    }
                }
                Event::Wait(time) => {
                    now += *time;
                    if relay.deadline().is_some_and(|due| due <= now) {
                        relay.on_time(now);
                    }
                    if relay.take_heartbeat_request() {
                        asked += 1;
                        relay.on_heartbeat(now, &self.heartbeat(asked));
                    }
                }
                Event::Abort => relay.on_abort(now, Code::ShuttingDown, "it is over"),
            }
            take(&mut relay, &mut out, &came);
        }
        let how = if self.broken {
            UpstreamEnd::Broken("reset".into())
        } else {
            UpstreamEnd::Eof
        };
        relay.on_end(now, &how);
        take(&mut relay, &mut out, &came);
        assert_eq!((relay.deadline(), relay.output_bytes()), (None, 0));
        (out, relay.take_incidents(), relay.end())
    }
}

/// Takes all output; as long as the stream is open, what left is the beginning of what came.
fn take(relay: &mut Relay, out: &mut Vec<u8>, came: &[u8]) {
    while let Some(piece) = relay.take_output() {
        assert!(!piece.is_empty());
        out.extend_from_slice(&piece);
    }
    assert!(relay.bytes_released() as usize <= came.len());
    // What was mended is no longer what came.
    if relay.end().is_none() && !relay.has_incidents() {
        assert_eq!(out.len() as u64, relay.bytes_released());
        assert!(came.starts_with(out));
    }
}

/// The beginning of what came, and behind it at most one error event and `[DONE]`.
fn assert_sound(out: &[u8], incidents: &[Incident], end: Option<End>, events: &[Event]) {
    let bytes = events.iter().filter_map(|e| {
        if let Event::Bytes(b) = e {
            Some(b.as_slice())
        } else {
            None
        }
    });
    let came = bytes.collect::<Vec<_>>().concat();
    if incidents.iter().any(|i| i.decision == Decision::Repair && !i.shadow) {
        return assert!(end.is_some());
    }
    let cuts: Vec<&Incident> = incidents
        .iter()
        .filter(|i| i.decision != Decision::Pass && !i.shadow)
        .collect();
    match cuts.as_slice() {
        [] => {
            assert!(came.starts_with(out));
            // Only an abort in shadow mode ends a stream with bytes still to come.
            let aborted = events.iter().any(|e| matches!(e, Event::Abort));
            assert!(aborted || came == out, "{} of {} bytes", out.len(), came.len());
            assert!(end.is_some());
        }
        [cut] => {
            assert_eq!(Some(*cut), incidents.last(), "nothing is recorded after the cut");
            let (passed, own) = out.split_at(cut.bytes_released as usize);
            assert!(came.starts_with(passed));
            let own = std::str::from_utf8(own).expect("Aegis writes text");
            let event = own
                .strip_prefix("data: ")
                .and_then(|o| o.strip_suffix("\n\ndata: [DONE]\n\n"));
            let error: serde_json::Value =
                serde_json::from_str(event.expect("one error, then the end")).unwrap();
            assert_eq!(error["error"]["code"], cut.code.as_str());
            assert_eq!(end, Some(End::Clean));
        }
        more => panic!("one stream was cut {} times", more.len()),
    }
}

fuzz_target!(|input: Input<'_>| {
    let (events, start) = (input.events(), Instant::now());
    let whole = input.run(&events, &[], start);
    let split = input.run(&events, &input.cuts, start);
    for (out, incidents, end) in [&whole, &split] {
        assert_sound(out, incidents, *end, &events);
    }
    // How much is held at once, and so whether a small ring overflows, does depend on the pieces.
    if input.small.is_none() {
        assert_eq!(whole.1, split.1);
        assert_eq!(
            String::from_utf8_lossy(&whole.0),
            String::from_utf8_lossy(&split.0)
        );
        assert_eq!(whole.2, split.2);
    }
});
