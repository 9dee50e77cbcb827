//! The primary alone against the tour's client, and the tour against a proxy that guards nothing.

use super::answers::JSON_TRUNCATED;
use super::client::{End, Received, post};
use super::model::Model;
use super::primary::{Primary, start};
use super::script::FAST;
use super::table::{Palette, WIDTH};
use super::{DEMO_CONFIG, FORBIDDEN_PHRASE, Stage, cases, curl_hints, tour};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(20);
const CHAT: &str = "/v1/chat/completions";

async fn primary() -> Primary {
    start(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), FAST).expect("an address")
}

fn ask(model: Model, more: Value) -> Value {
    let mut body = json!({"model": model.name(), "stream": true, "messages": [{"role": "user", "content": "Why is the sea salty?"}]});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

async fn stream(model: Model, more: Value) -> Received {
    let primary = primary().await;
    let received = post(primary.address(), CHAT, &ask(model, more), LIMIT).await;
    assert_eq!(
        (received.status, received.garbled, received.roles),
        (200, 0, 1),
        "{received:?}"
    );
    received
}

async fn get(address: SocketAddr, path: &str) -> Value {
    let mut socket = TcpStream::connect(address).await.expect("the primary listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn a_healthy_stream_has_one_role_one_finish_and_a_usage() {
    let received = stream(Model::Healthy, json!({"stream_options": {"include_usage": true}})).await;
    assert!(received.looks_complete());
    assert_eq!(received.finish.as_deref(), Some("stop"));
    assert!(
        received
            .content
            .starts_with("On your question \"Why is the sea salty\": Rain dissolves")
    );
    assert!(received.usage.is_some_and(|tokens| tokens > 50));
    let without = stream(Model::Healthy, json!({"max_tokens": 4})).await;
    assert_eq!((without.usage, without.finish.as_deref()), (None, Some("length")));
}

#[tokio::test]
async fn the_raw_bytes_are_those_of_a_llama_server() {
    let primary = primary().await;
    let body = ask(Model::Healthy, json!({"max_tokens": 2, "n": 2})).to_string();
    let mut socket = TcpStream::connect(primary.address())
        .await
        .expect("the primary listens");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(
        answer
            .to_lowercase()
            .contains("content-type: text/event-stream\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{answer}");
    let frames: Vec<&str> = answer.lines().filter(|line| line.starts_with("data: ")).collect();
    for (frame, start) in frames.iter().zip([
        r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":"#,
        r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"On"}}],"created":"#,
        r#"data: {"choices":[{"finish_reason":null,"index":1,"delta":{"role":"assistant","content":null}}],"created":"#,
        r#"data: {"choices":[{"finish_reason":null,"index":1,"delta":{"content":"A"}}],"created":"#,
    ]) {
        assert!(frame.starts_with(start), "{frame}\ndoes not start with\n{start}");
    }
    let finish = r#"data: {"choices":[{"finish_reason":"length","index":1,"delta":{}}],"created":"#;
    let last = frames[frames.len() - 2];
    assert!(
        last.starts_with(finish)
            && last.contains(r#""object":"chat.completion.chunk","timings":{"cache_n":0,"#)
    );
}

#[tokio::test]
async fn bodies_and_streams_say_the_same() {
    let primary = primary().await;
    for more in [
        json!({}),
        cases::weather_tool(),
        json!({"response_format": {"type": "json_object"}}),
    ] {
        let streamed = post(primary.address(), CHAT, &ask(Model::Healthy, more.clone()), LIMIT).await;
        let mut body = ask(Model::Healthy, more);
        body["stream"] = json!(false);
        let whole = post(primary.address(), CHAT, &body, LIMIT).await;
        assert_eq!(
            (&whole.content, &whole.calls, &whole.finish),
            (&streamed.content, &streamed.calls, &streamed.finish)
        );
        assert!(whole.usage.is_some());
    }
    let legacy = json!({"prompt": "Why is the sea salty?", "stream": true});
    let streamed = post(primary.address(), "/v1/completions", &legacy, LIMIT).await;
    assert!(
        streamed.looks_complete() && streamed.content.contains("Rain dissolves"),
        "{streamed:?}"
    );
    let whole = post(
        primary.address(),
        "/v1/completions",
        &json!({"prompt": "Why is the sea salty?"}),
        LIMIT,
    )
    .await;
    assert_eq!(whole.content, streamed.content);
}

#[tokio::test]
async fn a_tool_call_comes_whole() {
    let received = stream(Model::ToolCall, cases::weather_tool()).await;
    assert_eq!(received.finish.as_deref(), Some("tool_calls"));
    let [(name, arguments)] = received.calls.as_slice() else {
        panic!("one call, not {:?}", received.calls)
    };
    assert_eq!(name, "get_weather");
    let arguments: Value = serde_json::from_str(arguments).expect("valid arguments");
    assert_eq!(arguments, json!({"city": "Lisbon", "unit": "celsius"}));
}

#[tokio::test]
async fn each_fault_is_what_it_says() {
    let looped = stream(Model::Loop, json!({"max_tokens": 600})).await;
    assert!(looped.content.matches("I should check that once more").count() > 10);
    let reasoning = stream(Model::ReasoningLoop, json!({"max_tokens": 600})).await;
    assert!(reasoning.content.is_empty() && reasoning.reasoning.matches("Let me reconsider").count() > 10);
    let broken = stream(Model::BrokenJson, json!({})).await;
    assert!(broken.looks_complete() && serde_json::from_str::<Value>(&broken.content).is_err());
    let truncated = stream(Model::TruncatedJson, json!({})).await;
    assert!(truncated.looks_complete() && truncated.content == JSON_TRUNCATED);
    let forbidden = stream(Model::Forbidden, json!({})).await;
    assert!(forbidden.looks_complete() && forbidden.content.contains(FORBIDDEN_PHRASE));
    let call = stream(Model::BrokenCall, cases::weather_tool()).await;
    assert!(call.looks_complete() && serde_json::from_str::<Value>(&call.calls[0].1).is_err());
    let stubborn = stream(Model::Stubborn, json!({"max_tokens": 600})).await;
    assert_eq!(stubborn.content, looped.content);
    let death = stream(Model::Death, json!({})).await;
    assert!(matches!(death.end, End::Broken(_)), "{death:?}");
    assert!(!death.content.is_empty() && death.finish.is_none() && !death.done);
}

#[tokio::test]
async fn a_dying_body_without_a_stream_drops_the_connection_too() {
    let primary = primary().await;
    let mut body = ask(Model::Death, json!({}));
    body["stream"] = json!(false);
    let received = post(primary.address(), CHAT, &body, LIMIT).await;
    assert!(
        matches!(received.end, End::Broken(_)) && received.status == 0,
        "{received:?}"
    );
}

/// Polls `/slots` until slot 0 satisfies `holds`; the test's own time limit ends a wait for something that never comes.
async fn slot_that(address: SocketAddr, holds: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let slot = get(address, "/slots").await[0].take();
            if holds(&slot) {
                return slot;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait)
        .await
        .expect("the slot gets there")
}

#[tokio::test]
async fn a_stall_leaves_an_idle_slot_that_is_free_when_the_client_leaves() {
    let primary = primary().await;
    let address = primary.address();
    let request = ask(Model::Stall, json!({}));
    let (received, slot) = tokio::join!(
        post(address, CHAT, &request, Duration::from_secs(1)),
        slot_that(address, |s| s["is_processing"] == false
            && s["next_token"][0]["n_decoded"].as_u64() > Some(0)),
    );
    assert_eq!((&received.end, &received.finish), (&End::Left, &None));
    assert!(!received.content.is_empty() && slot["next_token"][0]["has_next_token"] == false);
    let again = post(
        address,
        CHAT,
        &ask(Model::Healthy, json!({"n": super::slots::SLOTS})),
        LIMIT,
    )
    .await;
    assert!(again.looks_complete(), "all slots must be free again: {again:?}");
}

#[tokio::test]
async fn a_slow_start_shows_work_and_then_answers() {
    let primary = primary().await;
    let address = primary.address();
    let reading = |s: &Value, above: u64| {
        s["is_processing"] == true && s["n_prompt_tokens_processed"].as_u64() > Some(above)
    };
    let request = ask(Model::SlowStart, json!({}));
    let (received, processed) = tokio::join!(post(address, CHAT, &request, LIMIT), async {
        let first = slot_that(address, |s| reading(s, 0)).await["n_prompt_tokens_processed"].as_u64();
        let second =
            slot_that(address, |s| reading(s, first.unwrap_or(0))).await["n_prompt_tokens_processed"]
                .as_u64();
        (first, second)
    });
    assert!(received.looks_complete(), "{received:?}");
    assert!(processed.0 < processed.1);
}

#[tokio::test]
async fn the_other_endpoints_answer() {
    let primary = primary().await;
    let address = primary.address();
    assert_eq!(get(address, "/health").await, json!({"status": "ok"}));
    assert_eq!(get(address, "/props").await["total_slots"], super::slots::SLOTS);
    let models = get(address, "/v1/models").await;
    assert_eq!(models["data"].as_array().map(Vec::len), Some(Model::ALL.len()));
    assert_eq!(get(address, "/nope").await["error"]["type"], "not_found_error");
    let refused = post(address, CHAT, &json!({"stream": true}), LIMIT).await;
    assert_eq!(
        (refused.status, refused.error.map(|e| e.code).as_deref()),
        (400, Some("400"))
    );
}

#[tokio::test]
async fn a_tour_without_a_guard_is_not_as_expected() {
    let primary = primary().await;
    // Shorter limits where somebody waits for nothing; the faults stay what they are.
    let patience = Duration::from_millis(500);
    let mut cases = cases::CASES.to_vec();
    for case in cases
        .iter_mut()
        .filter(|c| matches!(c.direct, cases::Direct::Endless | cases::Direct::Silent))
    {
        case.direct_limit = patience;
    }
    let mut out = Vec::new();
    // Whoever answers without an id of Aegis's own has nothing in the log.
    let stage = Stage {
        primary: primary.address(),
        aegis: primary.address(),
        incidents: Path::new("no such file"),
    };
    let palette = Palette { colours: false };
    let report = tour::run(&cases, 4 * patience, stage, &mut out, palette)
        .await
        .unwrap();
    for (row, case) in report.rows.iter().zip(&cases) {
        let wanted = matches!(case.guarded, cases::Guarded::Same);
        assert_eq!(
            row.mismatches.is_empty(),
            wanted,
            "{}: {:?}",
            row.model,
            row.mismatches
        );
    }
    assert!(!report.ok());
    let text = String::from_utf8(out).expect("the table is text");
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert!(
        text.contains("9 of 12 not as expected") && text.contains("! A201_token_loop was expected, but"),
        "{text}"
    );
}

#[test]
fn the_config_and_the_hints_fit_the_primary() {
    crate::config::Config::parse(DEMO_CONFIG).expect("the config is sound");
    let config: toml::Table = DEMO_CONFIG.parse().expect("the config is TOML");
    assert_eq!(
        config["rules"]["forbidden_phrase"]["literals"][0].as_str(),
        Some(FORBIDDEN_PHRASE)
    );
    let hints = curl_hints(SocketAddr::from(([127, 0, 0, 1], 8181)));
    assert!(hints.contains("curl -N http://127.0.0.1:8181/v1/chat/completions"));
    let mut bodies = 0;
    for body in hints
        .lines()
        .filter_map(|l| l.trim().strip_prefix("-d '")?.strip_suffix('\''))
    {
        let body: Value = serde_json::from_str(body).expect("the hint's body is JSON");
        assert!(Model::ALL.iter().any(|m| body["model"] == m.name()));
        bodies += 1;
    }
    assert_eq!(bodies, 8, "{hints}");
}
