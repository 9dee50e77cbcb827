//! Time the rules take for one token of four characters: `cargo bench -p aegis-core --bench rules`.
//!
//! Each run judges a whole answer; `elem/s` counts its tokens.
#![allow(clippy::unwrap_used, reason = "a benchmark whose input is wrong must stop")]

mod prose;

use aegis_core::decide::OnFailure;
use aegis_core::event::{Channel, FinishReason, LaneId};
use aegis_core::request::RequestFacts;
use aegis_core::rule::{LaneContext, LaneEnd, Rule};
use aegis_core::rules::Rulebook;
use aegis_core::rules::broken_json::{self, BrokenJson};
use aegis_core::rules::forbidden_phrase::{ForbiddenPhrase, Phrases, Settings};
use aegis_core::rules::token_loop::{self, TokenLoop};
use aegis_core::sentinel::Sentinel;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use std::sync::Arc;

const LANE: LaneId = LaneId::first(Channel::Content);

fn phrases() -> Arc<Phrases> {
    let literals = [
        "launch code",
        "BEGIN RSA PRIVATE KEY",
        "as an AI language model",
        "Internal use only",
    ];
    let settings = Settings {
        literals: literals.map(str::to_owned).to_vec(),
        patterns: vec![
            "sk-[A-Za-z0-9]{20,48}".into(),
            r"(?-u:\b)AKIA[0-9A-Z]{16}(?-u:\b)".into(),
        ],
        ..Settings::default()
    };
    Arc::new(Phrases::compile(&settings).unwrap())
}

/// The prose as the records of a JSON answer.
fn json(text: &str) -> String {
    let records = text.split("\n\n").enumerate();
    let records =
        records.map(|(n, text)| serde_json::json!({"number": n, "checked": n % 3 == 0, "text": text}));
    serde_json::json!({"records": records.collect::<Vec<_>>()}).to_string()
}

/// Runs one rule over all tokens.
fn rule<R: Rule>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, text: &str, make: impl Fn() -> R) {
    let tokens = prose::tokens(text);
    group.throughput(Throughput::Elements(tokens.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            let (mut rule, mut at, mut raised) = (make(), 0, Vec::new());
            for token in &tokens {
                rule.feed(at, token, &mut raised);
                at += token.len() as u64;
            }
            rule.end(at, LaneEnd::Finished(FinishReason::Stop), &mut raised);
            assert!(raised.is_empty(), "{raised:?}");
        });
    });
}

/// Runs the sentinel with all rules that the request calls for over all tokens.
fn sentinel(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    text: &str,
    book: &Arc<Rulebook>,
    json: bool,
) {
    let tokens = prose::tokens(text);
    let request = Arc::new(RequestFacts {
        choices: 1,
        json,
        ..RequestFacts::default()
    });
    group.throughput(Throughput::Elements(tokens.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            let mut sentinel = Sentinel::new(Arc::clone(book), Arc::clone(&request), OnFailure::Open);
            let mut findings = Vec::new();
            for token in &tokens {
                sentinel.feed(LANE, token, &mut findings);
            }
            sentinel.finish(0, FinishReason::Stop, &mut findings);
            assert!(findings.is_empty(), "{findings:?}");
        });
    });
}

fn main() {
    let mut criterion = prose::quick();
    let text = prose::prose(400);
    let records = json(&text);
    let request = RequestFacts {
        choices: 1,
        json: true,
        ..RequestFacts::default()
    };
    let context = LaneContext {
        lane: LANE,
        request: &request,
    };
    let phrases = phrases();
    let mut book = Rulebook::default();
    book.phrases = Some(Arc::clone(&phrases));
    let book = Arc::new(book);

    let mut group = criterion.benchmark_group("rules");
    rule(&mut group, "broken_json", &records, || {
        BrokenJson::new(&broken_json::Settings::default(), &context)
    });
    rule(&mut group, "token_loop", &text, || {
        TokenLoop::new(&token_loop::Settings::default(), &context)
    });
    rule(&mut group, "forbidden_phrase", &text, || {
        ForbiddenPhrase::new(Arc::clone(&phrases), &context)
    });
    sentinel(&mut group, "all_on_prose", &text, &book, false);
    sentinel(&mut group, "all_on_json", &records, &book, true);
    group.finish();
    criterion.final_summary();
}
