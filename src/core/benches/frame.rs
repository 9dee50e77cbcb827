//! Time to read one frame of a token stream: `cargo bench -p aegis-core --bench frame`.
#![allow(clippy::unwrap_used, reason = "a benchmark whose input is wrong must stop")]

mod prose;

use aegis_core::dialect::{Dialect, Template};
use aegis_core::sse::parse::{parse, parse_any};
use criterion::{Criterion, Throughput};
use std::hint::black_box;

/// A chunk as llama-server writes it.
fn frame(text: &str) -> Vec<u8> {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"content\":{text}}}}}],\
         \"created\":1760000000,\"id\":\"chatcmpl-dE4nUbXwq1JkqjG3Ls0fQ2tZ7vYx9aBc\",\"model\":\"qwen2.5-7b\",\
         \"system_fingerprint\":\"b6700-0123abcd\",\"object\":\"chat.completion.chunk\"}}\n\n"
    )
    .into_bytes()
}

fn frames(c: &mut Criterion) {
    let text = prose::prose(1);
    let tokens = prose::tokens(&text);
    let (first, second, escaped) = (frame(tokens[0]), frame(tokens[1]), frame("\"a\"\n"));
    let mut template = Template::default();
    template.learn(&first, &Dialect::Chat.frame(&first).unwrap());
    assert!(template.read(&second).is_some() && template.read(&escaped).is_none());

    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    group.bench_function("sse_fast_path", |b| {
        b.iter(|| parse(black_box(&second)).unwrap().unwrap());
    });
    group.bench_function("sse_eventsource_stream", |b| {
        b.iter(|| parse_any(black_box(&second)).unwrap().unwrap());
    });
    group.bench_function("dialect_by_template", |b| {
        b.iter(|| template.read(black_box(&second)).unwrap());
    });
    group.bench_function("dialect_parsed", |b| {
        b.iter(|| Dialect::Chat.frame(black_box(&second)).unwrap());
    });
    group.bench_function("dialect_parsed_and_learned", |b| {
        b.iter(|| {
            let facts = Dialect::Chat.frame(black_box(&second)).unwrap();
            template.learn(&second, &facts);
            facts
        });
    });
    group.bench_function("dialect_parsed_with_escapes", |b| {
        b.iter(|| Dialect::Chat.frame(black_box(&escaped)).unwrap());
    });
    group.finish();
}

fn main() {
    let mut criterion = prose::quick();
    frames(&mut criterion);
    criterion.final_summary();
}
