//! Aegis in front of a real llama-server with a real (very small) model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::client::{Ended, Manner, Request, send};
use aegis_integration_tests::process::Aegis;
use real::answer::{CHAT, ask, ask_meanwhile, cut_with, finished, patient};
use real::body::{greedy, normalised, rambling, tool_call, with, without_digits};
use real::{Llama, Tools};
use serde_json::{Value, json};
use std::time::Duration;

/// Enough for streams that last: 32,768 tokens in each of two slots.
const TWO_LONG_SLOTS: &[&str] = &["-np", "2", "-c", "65536"];
const ONE_LONG_SLOT: &[&str] = &["-np", "1", "-c", "65536"];

/// Long streams are cut by what the test does to them, not by a loop that the model may fall into.
const NO_LOOP_RULE: &str = "[rules.token_loop]\nenabled = false\n";

/// What becomes of an answer that is not corrected; corrections have a suite of their own.
const NO_CORRECTIONS: &str = "[corrections]\ncorrections_max = 0\n";

#[track_caller]
fn one_incident(incidents: &[Value], code: &str, shadow: bool) {
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(
        (&incidents[0]["code"], &incidents[0]["shadow"]),
        (&json!(code), &json!(shadow)),
        "{incidents:#?}"
    );
}

#[tokio::test]
async fn answers_are_those_of_the_server_byte_for_byte() {
    let Some(tools) = Tools::find() else { return };
    let plain = Llama::start(&tools, &["-np", "1", "-c", "4096"]).await;
    let thinking = Llama::start_thinking(&tools, "4096", &["--reasoning-budget", "12"]).await;
    let prompt = json!({
        "model": "tiny", "prompt": "The license of", "max_tokens": 40, "temperature": 0, "stream": true, "cache_prompt": false,
    });
    let usage = json!({"stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 3});
    let whole = json!({"stream": false});
    let cases = [
        ("chat", &plain, CHAT, greedy(40)),
        ("seeded", &plain, CHAT, rambling(400)),
        ("usage and logprobs", &plain, CHAT, with(greedy(40), usage)),
        ("two choices", &plain, CHAT, with(rambling(40), json!({"n": 2}))),
        (
            "stop string",
            &plain,
            CHAT,
            with(rambling(400), json!({"stop": [" the"]})),
        ),
        ("tools", &plain, CHAT, tool_call()),
        ("reasoning", &thinking, CHAT, greedy(40)),
        (
            "progress",
            &plain,
            CHAT,
            with(greedy(5), json!({"return_progress": true})),
        ),
        ("completions", &plain, "/v1/completions", prompt.clone()),
        ("whole chat", &plain, CHAT, with(greedy(40), whole.clone())),
        ("whole tools", &plain, CHAT, with(tool_call(), whole.clone())),
        (
            "whole completions",
            &plain,
            "/v1/completions",
            with(prompt.clone(), whole),
        ),
        (
            "bad request",
            &plain,
            CHAT,
            json!({"stream": true, "messages": "none"}),
        ),
        (
            "native completion",
            &plain,
            "/completion",
            with(prompt, json!({"n_predict": 40})),
        ),
    ];
    // A small model at temperature 0 may repeat itself within 40 tokens: that is not what is looked at here.
    let more = "[rules.token_loop]\naction = \"note\"\n";
    let aegis = [
        Aegis::in_front_of(&plain.url(), more).await,
        Aegis::in_front_of(&thinking.url(), more).await,
    ];
    for (name, llama, path, body) in cases {
        let through = &aegis[usize::from(llama.addr() == thinking.addr())];
        let direct = ask(llama.addr(), path, &body).await;
        let seen = ask(through.addr(), path, &body).await;
        assert_eq!(
            (seen.status, seen.ended),
            (direct.status, Ended::Clean),
            "{name}: {seen}"
        );
        assert_eq!(
            seen.header("content-type"),
            direct.header("content-type"),
            "{name}"
        );
        assert!(seen.header("x-aegis-request-id").is_some(), "{name}");
        assert_eq!(normalised(&seen.body), normalised(&direct.body), "{name}");
        match name {
            "tools" => {
                let call = finished(&seen).lane("tool_arguments.0").to_owned();
                assert!(
                    serde_json::from_str::<Value>(&call).is_ok_and(|v| v["city"].is_string()),
                    "{call}"
                );
            }
            "reasoning" => assert!(!finished(&seen).lane("reasoning").is_empty(), "{seen}"),
            "chat" | "completions" => assert!(finished(&seen).lane("content").len() > 40, "{seen}"),
            _ => {}
        }
    }
    assert_eq!(aegis[0].incidents(), [] as [Value; 0]);
    assert_eq!(aegis[1].incidents(), [] as [Value; 0]);
}

#[tokio::test]
async fn other_endpoints_pass_untouched() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, &["-np", "2", "-c", "4096"]).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    let preflight = Request::bare("OPTIONS", CHAT)
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type");
    let messages = json!({"messages": [{"role": "user", "content": "Hello"}]}).to_string();
    let requests = [
        Request::bare("GET", "/v1/models"),
        Request::bare("GET", "/health"),
        Request::bare("HEAD", "/health"),
        Request::bare("GET", "/props"),
        Request::bare("GET", "/slots"),
        Request::bare("GET", "/metrics"),
        Request::bare("GET", "/nowhere?a=%2F&b"),
        Request::bare("GET", CHAT),
        Request::bare("DELETE", "/v1/models"),
        preflight,
        Request::post("/tokenize", r#"{"content": "The license of"}"#),
        Request::post("/detokenize", r#"{"tokens": [300, 301, 302]}"#),
        Request::post("/apply-template", messages),
    ];
    for request in requests {
        let name = format!("{} {}", request.method, request.target);
        let direct = send(llama.addr(), &request, Manner::default()).await;
        let seen = send(aegis.addr(), &request, Manner::default()).await;
        assert_eq!(
            (seen.status, seen.ended),
            (direct.status, Ended::Clean),
            "{name}: {seen}"
        );
        for (header, value) in &direct.headers {
            let own = matches!(
                header.as_str(),
                "connection" | "keep-alive" | "transfer-encoding" | "date"
            );
            // The counters grow between two looks, and their text with them.
            let counted = header == "content-length" && request.target == "/metrics";
            assert!(
                own || counted || seen.header(header) == Some(value.as_str()),
                "{name}: {header}: {value}: {:?}",
                seen.headers
            );
        }
        match request.target.as_str() {
            "/metrics" => assert_eq!(without_digits(&seen.body), without_digits(&direct.body), "{name}"),
            _ => assert_eq!(normalised(&seen.body), normalised(&direct.body), "{name}"),
        }
    }
}

#[tokio::test]
async fn a_real_loop_is_cut() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_LONG_SLOT).await;
    let aegis = Aegis::in_front_of(&llama.url(), NO_CORRECTIONS).await;
    let body = greedy(6000);
    let direct = ask(llama.addr(), CHAT, &body).await;
    let all = finished(&direct).lane("content").to_owned();
    let cut = cut_with(&ask(aegis.addr(), CHAT, &body).await, "A201_token_loop");
    let released = cut.lane("content");
    eprintln!(
        "the model loops for {} characters, {} were released: …{:?}",
        all.len(),
        released.len(),
        tail(released)
    );
    assert!(
        all.starts_with(released),
        "what was released is not what the server sent: {released:?}"
    );
    assert!(
        released.len() < all.len() / 2,
        "the loop was cut late: {} of {}",
        released.len(),
        all.len()
    );
    one_incident(&aegis.wait_incidents(1).await, "A201_token_loop", false);
    llama.wait_idle().await;
}

#[tokio::test]
async fn shadow_mode_tells_of_a_loop_and_changes_nothing() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_LONG_SLOT).await;
    let aegis = Aegis::in_front_of(&llama.url(), "[policy]\nmode = \"shadow\"\n").await;
    let body = greedy(3000);
    let direct = ask(llama.addr(), CHAT, &body).await;
    let seen = ask(aegis.addr(), CHAT, &body).await;
    finished(&seen);
    assert_eq!(normalised(&seen.body), normalised(&direct.body));
    one_incident(&aegis.wait_incidents(1).await, "A201_token_loop", true);
}

fn tail(text: &str) -> String {
    text.chars()
        .skip(text.chars().count().saturating_sub(120))
        .collect()
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_slot() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let aegis = Aegis::in_front_of(&llama.url(), NO_LOOP_RULE).await;
    let leaving = Manner {
        leave_after: Some(20_000),
        ..patient()
    };
    let request = Request::post(CHAT, rambling(30_000).to_string());
    let left = send(aegis.addr(), &request, leaving).await;
    assert_eq!(left.ended, Ended::Left, "{left}");
    // The stream would go on for minutes: an idle slot within two seconds is the client's leaving, passed on.
    let freed = tokio::time::timeout(Duration::from_secs(2), llama.wait_idle()).await;
    eprintln!(
        "the slot was idle after {:?}",
        freed.expect("the slot is still busy 2 s after its client left")
    );
}

#[tokio::test]
async fn a_killed_server_is_an_error_and_its_successor_is_served() {
    let Some(tools) = Tools::find() else { return };
    let mut llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let config = format!("{NO_LOOP_RULE}{NO_CORRECTIONS}");
    let mut aegis = Aegis::in_front_of(&llama.url(), &config).await;
    let stream = ask_meanwhile(aegis.addr(), rambling(30_000));
    llama.wait_decoded(100).await;
    llama.kill();
    let reading = cut_with(&stream.await.unwrap(), "A204_upstream_lost");
    assert!(!reading.lane("content").is_empty(), "text came before the kill");
    one_incident(&aegis.wait_incidents(1).await, "A204_upstream_lost", false);

    let refused = ask(aegis.addr(), CHAT, &greedy(5)).await;
    assert_eq!(
        (refused.status, refused.error_code().as_deref()),
        (502, Some("A601_upstream_connect")),
        "{refused}"
    );
    assert!(aegis.is_running());

    let llama = Llama::start_at(&tools, llama.addr().port(), TWO_LONG_SLOTS).await;
    let served = ask(aegis.addr(), CHAT, &greedy(5)).await;
    assert_eq!(finished(&served).finishes, [(0, "length".to_owned())]);
    llama.wait_idle().await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_a_stall() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let config = format!("{NO_LOOP_RULE}[rules.stall]\nafter_s = 0.5\n");
    let aegis = Aegis::in_front_of(&llama.url(), &config).await;
    let stream = ask_meanwhile(aegis.addr(), rambling(30_000));
    llama.wait_decoded(100).await;
    llama.freeze();
    let reading = cut_with(&stream.await.unwrap(), "A203_stall");
    assert!(!reading.lane("content").is_empty(), "text came before the stall");
    one_incident(&aegis.wait_incidents(1).await, "A203_stall", false);
}

#[tokio::test]
async fn a_long_prompt_is_not_a_stall() {
    let Some(tools) = Tools::find() else { return };
    // Small batches make the prompt slow: seconds until the first token, with progress to be seen all the while.
    let llama = Llama::start(&tools, &["-np", "1", "-c", "65536", "-b", "32", "-ub", "32"]).await;
    let config = "[rules.first_token_stall]\nafter_s = 0.3\n[rules.stall]\nafter_s = 0.3\n";
    let aegis = Aegis::in_front_of(&llama.url(), config).await;
    let text = "The program is a work that the reader may copy. ".repeat(300);
    let body = with(
        greedy(5),
        json!({"messages": [{"role": "user", "content": text}]}),
    );
    let answer = ask(aegis.addr(), CHAT, &body).await;
    assert_eq!(finished(&answer).finishes, [(0, "length".to_owned())]);
    let last = String::from_utf8_lossy(&answer.body).into_owned();
    let timings = last
        .lines()
        .rev()
        .find(|line| line.contains("\"timings\""))
        .unwrap();
    let timings: Value = serde_json::from_str(timings.strip_prefix("data: ").unwrap()).unwrap();
    let prompt_ms = timings["timings"]["prompt_ms"].as_f64().unwrap();
    eprintln!("the prompt took {prompt_ms:.0} ms");
    assert!(
        prompt_ms > 1500.0,
        "the prompt was too quick to tell anything: {prompt_ms} ms"
    );
    assert_eq!(aegis.incidents(), [] as [Value; 0]);
}

#[tokio::test]
async fn a_queued_request_is_not_a_stall() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_LONG_SLOT).await;
    let config = format!("{NO_LOOP_RULE}[rules.first_token_stall]\nafter_s = 0.3\n");
    let aegis = Aegis::in_front_of(&llama.url(), &config).await;
    let first = ask_meanwhile(aegis.addr(), rambling(6000));
    llama.wait_decoded(10).await;
    let second = ask(aegis.addr(), CHAT, &greedy(5)).await;
    assert_eq!(finished(&second).finishes, [(0, "length".to_owned())]);
    let (waited, _) = second.arrivals[0];
    eprintln!("the second stream waited {waited:?} for its slot");
    assert!(
        waited > Duration::from_millis(1500),
        "the queue was too short to tell anything: {waited:?}"
    );
    finished(&first.await.unwrap());
    assert_eq!(aegis.incidents(), [] as [Value; 0]);
}

#[tokio::test]
async fn a_stream_is_finished_after_sigterm() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let mut aegis =
        Aegis::in_front_of(&llama.url(), &format!("{NO_LOOP_RULE}[limits]\ndrain_s = 100\n")).await;
    let stream = ask_meanwhile(aegis.addr(), rambling(4000));
    llama.wait_decoded(50).await;
    aegis.terminate();
    let answer = stream.await.unwrap();
    assert_eq!(finished(&answer).finishes, [(0, "length".to_owned())]);
    let status = aegis
        .wait_exit(Duration::from_secs(10))
        .await
        .expect("it exits once its streams are done");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let mut aegis = Aegis::in_front_of(&llama.url(), &format!("{NO_LOOP_RULE}[limits]\ndrain_s = 1\n")).await;
    let stream = ask_meanwhile(aegis.addr(), rambling(30_000));
    llama.wait_decoded(50).await;
    aegis.terminate();
    cut_with(&stream.await.unwrap(), "A609_shutting_down");
    let status = aegis
        .wait_exit(Duration::from_secs(10))
        .await
        .expect("it exits when the time is over");
    assert!(status.success(), "{status}");
    llama.wait_idle().await;
}
