//! Time one frame takes from the upstream's bytes to the client's: `cargo bench -p aegis-core --bench relay`.
//!
//! Each run relays a whole answer with every rule on; `elem/s` counts its frames.
#![allow(clippy::unwrap_used, reason = "a benchmark whose input is wrong must stop")]

mod prose;

use aegis_core::dialect::Dialect;
use aegis_core::relay::{End, Guard, Relay, UpstreamEnd};
use aegis_core::request::RequestFacts;
use aegis_core::rules::Rulebook;
use aegis_core::rules::forbidden_phrase::{Phrases, Settings};
use aegis_core::stall::{StallClock, StallSettings};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Throughput};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of one read when the upstream is faster than the proxy.
const READ_BYTES: usize = 16 * 1024;

/// The frames of an answer, as llama-server writes them.
fn frames(text: &str) -> Vec<String> {
    let chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let choice = serde_json::json!({"finish_reason": finish, "index": 0, "delta": delta});
        let data = serde_json::json!({"choices": [choice], "created": 1_760_000_000,
            "id": "chatcmpl-dE4nUbXwq1JkqjG3Ls0fQ2tZ7vYx9aBc", "model": "qwen2.5-7b",
            "system_fingerprint": "b6700-0123abcd", "object": "chat.completion.chunk"});
        format!("data: {data}\n\n")
    };
    let tokens = prose::tokens(text)
        .into_iter()
        .map(|t| chunk(serde_json::json!({"content": t}), None));
    tokens
        .chain([
            chunk(serde_json::json!({}), Some("stop")),
            "data: [DONE]\n\n".to_owned(),
        ])
        .collect()
}

fn guard() -> Arc<Guard> {
    let settings = Settings {
        literals: vec!["launch code".into(), "BEGIN RSA PRIVATE KEY".into()],
        patterns: vec!["sk-[A-Za-z0-9]{20,48}".into()],
        ..Settings::default()
    };
    let mut book = Rulebook::default();
    book.phrases = Some(Arc::new(Phrases::compile(&settings).unwrap()));
    Arc::new(Guard {
        rulebook: Arc::new(book),
        ..Guard::default()
    })
}

/// Relays `reads` one by one, and takes what each released.
fn relay(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    frames: &[String],
    reads: &[Bytes],
    json: bool,
) {
    let guard = guard();
    let request = Arc::new(RequestFacts {
        stream: true,
        choices: 1,
        json,
        ..RequestFacts::default()
    });
    let bytes: usize = reads.iter().map(Bytes::len).sum();
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function(name, |b| {
        b.iter_batched(
            || reads.to_vec(),
            |reads| {
                let now = Instant::now();
                let clock = StallClock::new(StallSettings::default(), now);
                let mut relay = Relay::new(
                    Arc::clone(&guard),
                    Dialect::Chat,
                    Arc::clone(&request),
                    Some(clock),
                );
                let mut out = 0;
                for read in reads {
                    relay.on_bytes(now, read);
                    while let Some(bytes) = relay.take_output() {
                        out += bytes.len();
                    }
                }
                relay.on_end(now, &UpstreamEnd::Eof);
                assert_eq!((out, relay.end()), (bytes, Some(End::Clean)));
            },
            BatchSize::LargeInput,
        );
    });
}

fn main() {
    let mut criterion = prose::quick();
    let text = prose::prose(200);
    let json_text = serde_json::json!({"text": text}).to_string();
    let mut group = criterion.benchmark_group("relay");
    for (name, text, json) in [("prose", &text, false), ("json", &json_text, true)] {
        let frames = frames(text);
        let single: Vec<Bytes> = frames.iter().map(|f| Bytes::from(f.clone())).collect();
        let all = Bytes::from(frames.concat());
        let starts = (0..all.len()).step_by(READ_BYTES);
        let large: Vec<Bytes> = starts
            .map(|s| all.slice(s..all.len().min(s + READ_BYTES)))
            .collect();
        relay(
            &mut group,
            &format!("{name}_frame_by_frame"),
            &frames,
            &single,
            json,
        );
        relay(
            &mut group,
            &format!("{name}_in_reads_of_16_kib"),
            &frames,
            &large,
            json,
        );
    }
    group.finish();
    criterion.final_summary();
}
