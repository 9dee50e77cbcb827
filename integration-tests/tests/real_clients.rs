//! What the users of real client libraries see: openai-python and openai-node, through Aegis, from a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::process::Aegis;
use real::body::{greedy, rambling, tool_call, with};
use real::{Llama, Tools, free_port};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use tokio::task::JoinHandle;

const SLOTS: &[&str] = &["-np", "2", "-c", "65536"];
const NO_LOOP_RULE: &str = "[rules.token_loop]\nenabled = false\n";

/// The clients, each in its styles and versions, by name.
fn clients(tools: &Tools) -> Vec<(&'static str, Command)> {
    vec![
        ("python", tools.python_client("sync")),
        ("python async", tools.python_client("async")),
        ("node 6", tools.node_client("openai")),
        ("node 7", tools.node_client("openai-current")),
    ]
}

/// Runs a client with this request, and gives the line that it prints.
fn run(name: &'static str, mut client: Command, url: &str, request: &Value) -> JoinHandle<Value> {
    client.arg(format!("{url}/v1")).arg(request.to_string());
    // A proxy of the environment is not part of the test.
    client.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
    tokio::task::spawn_blocking(move || {
        let output = client.output().unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let seen = serde_json::from_str(&text);
        seen.unwrap_or_else(|e| {
            panic!(
                "{name}: {e}: {text:?}\n{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    })
}

/// The error is an `APIError` with this code as its own attribute.
fn api_error<'s>(name: &str, seen: &'s Value, code: &str) -> &'s Value {
    let error = &seen["error"];
    let kinds = error["kinds"]
        .as_array()
        .unwrap_or_else(|| panic!("{name} raised nothing: {seen}"));
    assert!(kinds.iter().any(|kind| kind == "APIError"), "{name}: {seen}");
    assert_eq!(error["code"], code, "{name}: {seen}");
    assert_eq!(error["type"], "aegis_error", "{name}: {seen}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.len() > 20 && error["body"]["message"].is_string(),
        "{name}: {seen}"
    );
    error
}

#[tokio::test]
async fn answers_arrive_as_ever() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, SLOTS).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    let whole = with(greedy(20), json!({"stream": false}));
    for (index, (name, stream)) in clients(&tools).into_iter().enumerate() {
        let again = || clients(&tools).swap_remove(index).1;
        let streamed = run(name, stream, &aegis.url(), &greedy(20)).await.unwrap();
        let plain = run(name, again(), &aegis.url(), &whole).await.unwrap();
        let tool = run(name, again(), &aegis.url(), &tool_call()).await.unwrap();
        for seen in [&streamed, &plain, &tool] {
            assert!(seen["error"].is_null(), "{name}: {seen}");
        }
        assert_eq!(
            (&streamed["finish"], &streamed["text"]),
            (&json!("length"), &plain["text"]),
            "{name}: {streamed}"
        );
        assert!(streamed["chunks"].as_u64() > Some(20), "{name}: {streamed}");
        assert_eq!(
            (&tool["finish"], &tool["tools"]["0"]["name"]),
            (&json!("tool_calls"), &json!("get_weather")),
            "{tool}"
        );
        let arguments: Value =
            serde_json::from_str(tool["tools"]["0"]["arguments"].as_str().unwrap()).unwrap();
        assert!(
            arguments["city"].is_string() && arguments["unit"].is_string(),
            "{name}: {tool}"
        );
    }
    assert_eq!(aegis.incidents(), [] as [Value; 0]);
}

#[tokio::test]
async fn a_loop_raises_an_error_with_its_code() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, SLOTS).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    for (name, client) in clients(&tools) {
        let seen = run(name, client, &aegis.url(), &greedy(20_000)).await.unwrap();
        api_error(name, &seen, "A201_token_loop");
        assert!(
            seen["finish"].is_null() && seen["chunks"].as_u64() > Some(10),
            "{name}: {seen}"
        );
    }
    let incidents = aegis.wait_incidents(4).await;
    assert_eq!(incidents.len(), 4, "one for each client: {incidents:#?}");
}

#[tokio::test]
async fn a_killed_server_raises_an_error_with_its_code() {
    let Some(tools) = Tools::find() else { return };
    for (name, client) in clients(&tools) {
        let mut llama = Llama::start(&tools, SLOTS).await;
        let aegis = Aegis::in_front_of(&llama.url(), NO_LOOP_RULE).await;
        let client = run(name, client, &aegis.url(), &rambling(30_000));
        llama.wait_decoded(200).await;
        llama.kill();
        let seen = client.await.unwrap();
        api_error(name, &seen, "A204_upstream_lost");
        assert!(
            seen["finish"].is_null() && seen["chunks"].as_u64() > Some(1),
            "{name}: {seen}"
        );
    }
}

#[tokio::test]
async fn an_absent_server_raises_an_error_with_its_code() {
    let Some(tools) = Tools::find() else { return };
    let aegis = Aegis::in_front_of(&format!("http://127.0.0.1:{}", free_port()), "").await;
    for (name, client) in clients(&tools) {
        let seen = run(name, client, &aegis.url(), &greedy(5)).await.unwrap();
        let error = api_error(name, &seen, "A601_upstream_connect");
        assert_eq!(error["status"], 502, "{name}: {seen}");
        assert!(
            error["kinds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| kind == "InternalServerError"),
            "{name}: {seen}"
        );
    }
}
