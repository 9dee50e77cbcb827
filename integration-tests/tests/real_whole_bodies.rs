//! A client that asks for no stream gets the body that the server would have sent, though Aegis asks the server for a
//! stream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::client::Ended;
use aegis_integration_tests::process::Aegis;
use real::answer::{CHAT, ask, ask_meanwhile};
use real::body::{greedy, rambling, tool_call, with};
use real::{Llama, Tools};
use serde_json::{Value, json};

const LEGACY: &str = "/v1/completions";

/// A small model may repeat itself; that is not what is looked at here.
const NOTED_LOOPS: &str = "[rules.token_loop]\naction = \"note\"\n";

/// A request for a whole answer.
fn unstreamed(request: Value, more: Value) -> Value {
    with(with(request, json!({"stream": false})), more)
}

fn prompt(more: Value) -> Value {
    let request = json!({
        "model": "tiny", "prompt": "The license of", "max_tokens": 40, "n_predict": 40, "temperature": 0,
        "cache_prompt": false,
    });
    with(request, more)
}

/// The body as text, without what the server makes anew for each answer: ids, times, and how long the work took.
fn comparable(body: &[u8]) -> String {
    fn blank(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let took = name.ends_with("_ms") || name.ends_with("_per_second");
                    if took || name == "created" || (name == "id" && value.is_string()) {
                        *value = Value::Null;
                    }
                    blank(value);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(blank),
            _ => {}
        }
    }
    let mut value: Value =
        serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body)));
    blank(&mut value);
    value.to_string()
}

/// Asks the server itself and Aegis in front of it; both answers must be the same.
async fn compare(name: &str, llama: &Llama, aegis: &Aegis, path: &str, body: &Value) {
    let direct = ask(llama.addr(), path, body).await;
    let seen = ask(aegis.addr(), path, body).await;
    assert_eq!(
        (seen.status, seen.ended),
        (direct.status, Ended::Clean),
        "{name}: {seen}"
    );
    assert_eq!(direct.status == 200, name != "bad request", "{name}: {direct}");
    assert_eq!(
        seen.header("content-type"),
        direct.header("content-type"),
        "{name}"
    );
    assert_eq!(
        comparable(&seen.body),
        comparable(&direct.body),
        "{name}: the bodies differ"
    );
}

fn chats() -> Vec<(&'static str, Value)> {
    let of = |request: Value, more: Value| unstreamed(request, more);
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["a"],
        "properties": {"a": {"type": "string", "maxLength": 12}},
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let prefill = json!({"messages": [
        {"role": "user", "content": "Tell me about the license."}, {"role": "assistant", "content": "The"},
    ]});
    vec![
        ("length", of(greedy(40), json!({}))),
        ("seeded", of(rambling(200), json!({}))),
        ("natural end", of(rambling(400), json!({"ignore_eos": false}))),
        ("stop string", of(rambling(400), json!({"stop": [" the"]}))),
        (
            "logprobs",
            of(greedy(40), json!({"logprobs": true, "top_logprobs": 3})),
        ),
        ("two choices", of(rambling(40), json!({"n": 2}))),
        (
            "schema",
            of(
                greedy(600),
                json!({"response_format": format, "ignore_eos": false}),
            ),
        ),
        ("tools", of(tool_call(), json!({}))),
        (
            "timings of each token",
            of(greedy(5), json!({"timings_per_token": true})),
        ),
        ("progress", of(greedy(5), json!({"return_progress": true}))),
        (
            "options that it has already",
            of(greedy(5), json!({"stream_options": {"include_usage": false}})),
        ),
        ("prefill", of(greedy(5), prefill)),
        ("verbose", of(greedy(5), json!({"verbose": true}))),
        ("bad request", of(greedy(5), json!({"messages": "none"}))),
    ]
}

fn completions() -> Vec<(&'static str, &'static str, Value)> {
    let two = json!({"prompt": ["The license of", "Once upon"]});
    vec![
        ("legacy", LEGACY, prompt(json!({}))),
        ("legacy stop", LEGACY, prompt(json!({"stop": [" a"]}))),
        ("legacy logprobs", LEGACY, prompt(json!({"logprobs": 2}))),
        ("legacy choices", LEGACY, prompt(json!({"n": 2}))),
        ("legacy prompts", LEGACY, prompt(two.clone())),
        ("legacy echo", LEGACY, prompt(json!({"echo": true}))),
        ("native", "/completions", prompt(json!({}))),
        ("native logprobs", "/completions", prompt(json!({"n_probs": 2}))),
        ("native prompts", "/completions", prompt(two)),
        (
            "native tokens",
            "/completions",
            prompt(json!({"return_tokens": true})),
        ),
        (
            "native fields",
            "/completions",
            prompt(json!({"response_fields": ["content", "stop_type"]})),
        ),
    ]
}

#[tokio::test]
async fn whole_bodies_are_those_of_the_server() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, &["-np", "2", "-c", "8192"]).await;
    let aegis = Aegis::in_front_of(&llama.url(), NOTED_LOOPS).await;
    for (name, body) in chats() {
        compare(name, &llama, &aegis, CHAT, &body).await;
    }
    for (name, path, body) in completions() {
        compare(name, &llama, &aegis, path, &body).await;
    }
}

#[tokio::test]
async fn whole_bodies_with_reasoning_are_those_of_the_server() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start_thinking(&tools, "4096", &["--reasoning-budget", "12"]).await;
    let aegis = Aegis::in_front_of(&llama.url(), NOTED_LOOPS).await;
    for (name, tokens, more) in [
        ("only reasoning", 6, json!({})),
        ("reasoning and content", 60, json!({})),
        ("reasoning inline", 60, json!({"reasoning_format": "none"})),
    ] {
        let body = unstreamed(greedy(tokens), more);
        compare(name, &llama, &aegis, CHAT, &body).await;
    }
}

/// The server goes on with a whole answer whose client has left; with a stream it stops.
#[tokio::test]
async fn a_client_that_leaves_a_whole_answer_frees_the_slot() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, &["-np", "2", "-c", "65536"]).await;
    let aegis = Aegis::in_front_of(&llama.url(), NOTED_LOOPS).await;
    let asked = ask_meanwhile(aegis.addr(), unstreamed(rambling(30_000), json!({})));
    llama.wait_decoded(100).await;
    asked.abort();
    llama.wait_idle().await;
    let written = llama.written().await;
    assert!(
        (100..15_000).contains(&written),
        "{written} of 30,000 tokens were written"
    );
}

#[tokio::test]
async fn a_loop_in_a_whole_answer_ends_while_it_is_written() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, &["-np", "1", "-c", "65536"]).await;
    let aegis = Aegis::in_front_of(&llama.url(), "[rules.token_loop]\naction = \"cut\"\n").await;
    let answer = ask(aegis.addr(), CHAT, &unstreamed(greedy(20_000), json!({}))).await;
    assert_eq!(
        answer.error_code().as_deref(),
        Some("A201_token_loop"),
        "{answer}"
    );
    llama.wait_idle().await;
    let written = llama.written().await;
    assert!(
        (20..10_000).contains(&written),
        "{written} of 20,000 tokens were written"
    );
}
