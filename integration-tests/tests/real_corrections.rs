//! Hidden corrections against a real llama-server: a server that is killed, loops, a poisoned history.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::process::Aegis;
use real::answer::{CHAT, ask, ask_meanwhile, cut_with, finished, one_answer, text, timings, tokens};
use real::body::{greedy, with};
use real::{Llama, Tools};
use serde_json::json;
use std::time::{Duration, Instant};

/// One slot: a request that is asked again meets the cache of the one that broke off.
const ONE_SLOT: &[&str] = &["-np", "1", "-c", "8192"];
const TWO_LONG_SLOTS: &[&str] = &["-np", "2", "-c", "65536"];

/// The small model repeats itself; that is not what is looked at here.
const NO_LOOP_RULE: &str = "[rules.token_loop]\nenabled = false\n";

/// How a server goes away in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Going {
    /// SIGKILL: the connection ends at once.
    Killed,
    /// SIGTERM: no more tokens come, and the connection stays open until its client leaves.
    Asked,
}

#[tokio::test]
async fn kill_nine_and_restart() {
    let Some(tools) = Tools::find() else { return };
    gone_and_back(&tools, Going::Killed, NO_LOOP_RULE).await;
}

#[tokio::test]
async fn terminate_and_restart() {
    let Some(tools) = Tools::find() else { return };
    let config = format!("{NO_LOOP_RULE}[rules.stall]\nafter_s = 1\n");
    gone_and_back(&tools, Going::Asked, &config).await;
}

/// The server goes away in the middle of an answer and comes back: the client gets the answer that it would have got.
async fn gone_and_back(tools: &Tools, how: Going, config: &str) {
    let mut llama = Llama::start(tools, TWO_LONG_SLOTS).await;
    let aegis = Aegis::in_front_of(&llama.url(), config).await;
    // Text that does not repeat itself: a round too much or too few would show.
    let request = with(greedy(4000), json!({"repeat_penalty": 1.3, "repeat_last_n": 256}));
    let uninterrupted = text(&ask(llama.addr(), CHAT, &request).await);

    let stream = ask_meanwhile(aegis.addr(), request);
    llama.wait_decoded(100).await;
    match how {
        Going::Killed => llama.kill(),
        Going::Asked => llama.terminate().await,
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let restarted = Instant::now();
    let llama = Llama::start_at(tools, llama.addr().port(), TWO_LONG_SLOTS).await;
    let ready = restarted.elapsed();
    let answer = stream.await.unwrap();
    let reading = one_answer(&answer);
    assert_eq!(reading.finishes, [(0, "length".to_owned())]);
    assert!(
        reading.lane("content") == uninterrupted,
        "the answer differs from the uninterrupted one"
    );

    let incidents = aegis.wait_incidents(1).await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    let correction = &incidents[0]["correction"];
    assert_eq!(
        (
            &incidents[0]["code"],
            &incidents[0]["decision"],
            &correction["outcome"]
        ),
        (&json!("A204_upstream_lost"), &json!("correct"), &json!("joined")),
        "{incidents:#?}"
    );
    let timings = timings(&answer);
    eprintln!(
        "{how:?} after {} tokens, gone for 1 s, healthy {ready:?} after its start; the client waited {} ms and got {} \
         characters, equal to the uninterrupted answer; the resumed request read {} tokens in {} ms",
        correction["tokens_kept"],
        correction["waited_ms"],
        uninterrupted.len(),
        timings["prompt_n"],
        timings["prompt_ms"],
    );
    llama.wait_idle().await;
}

#[tokio::test]
async fn a_server_that_stays_away_is_lost() {
    let Some(tools) = Tools::find() else { return };
    let mut llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let config = format!("{NO_LOOP_RULE}[corrections]\nresume_wait_s = 1\n");
    let aegis = Aegis::in_front_of(&llama.url(), &config).await;
    let stream = ask_meanwhile(aegis.addr(), greedy(30_000));
    llama.wait_decoded(100).await;
    llama.kill();
    let reading = cut_with(&stream.await.unwrap(), "A204_upstream_lost");
    assert!(!reading.lane("content").is_empty(), "text came before the kill");
    let incidents = aegis.wait_incidents(1).await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["correction"]["outcome"], "failed", "{incidents:#?}");
}

#[tokio::test]
async fn a_real_loop_is_corrected() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_SLOT).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    let direct = text(&ask(llama.addr(), CHAT, &greedy(3000)).await);
    // The model loops again behind the joint, and a loop that comes back is cut.
    let answer = ask(aegis.addr(), CHAT, &greedy(3000)).await;
    let incidents = aegis.wait_incidents(2).await;
    let (first, last) = (&incidents[0], &incidents[incidents.len() - 1]);
    assert_eq!(
        (&first["decision"], &first["correction"]["outcome"]),
        (&json!("correct"), &json!("joined"))
    );
    assert_eq!(
        (&last["decision"], &last["severity"]),
        (&json!("cut"), &json!("critical")),
        "{incidents:#?}"
    );
    let reading = cut_with(&answer, "A201_token_loop");
    assert_eq!(
        (reading.roles.as_slice(), reading.names["id"].len()),
        (&[0][..], 1)
    );
    assert!(!String::from_utf8_lossy(&answer.body).contains("[Note: a first attempt"));
    // Up to the joint the answer is what the model says by itself.
    let kept = first["correction"]["tokens_kept"].as_u64().unwrap() as usize;
    let tokens = tokens(&answer);
    let (before, after) = tokens.split_at(kept);
    assert!(
        direct.starts_with(&before.concat()),
        "{before:?} is not the start of {direct:?}"
    );
    assert!(
        !before.is_empty() && !after.is_empty(),
        "{kept} of {} tokens",
        tokens.len()
    );
    eprintln!("{kept} tokens stayed, {} came behind the joint", after.len());
    llama.wait_idle().await;
}

#[tokio::test]
async fn a_real_thinking_loop_is_closed() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start_thinking(&tools, "8192", &[]).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    // Enough for the loop to be certain, and too few for the answer to fall into another.
    let request = greedy(120);
    let direct = finished(&ask(llama.addr(), CHAT, &request).await);
    assert_eq!(
        direct.lane("content"),
        "",
        "the model is to think until its tokens are used up"
    );
    let answer = ask(aegis.addr(), CHAT, &request).await;
    let reading = one_answer(&answer);
    eprintln!(
        "directly: {} characters of thought and no answer; through Aegis: {} characters of thought, then {:?}",
        direct.lane("reasoning").len(),
        reading.lane("reasoning").len(),
        reading.lane("content")
    );
    assert!(direct.lane("reasoning").starts_with(reading.lane("reasoning")));
    assert!(!reading.lane("content").is_empty());
    let incidents = aegis.wait_incidents(1).await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(
        (&incidents[0]["lane"], &incidents[0]["correction"]["plan"]),
        (&json!("reasoning"), &json!("resume")),
        "{incidents:#?}"
    );
}

#[tokio::test]
async fn a_poisoned_history_works() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_SLOT).await;
    let aegis = Aegis::in_front_of(&llama.url(), NO_LOOP_RULE).await;
    for (arguments, streamed) in [
        ("{\"path\": \"a", true),
        ("{\"path\": \"a", false),
        ("", true),
        ("{\"path\": a}", true),
    ] {
        let call =
            json!({"id": "c1", "type": "function", "function": {"name": "read", "arguments": arguments}});
        let request = with(
            greedy(16),
            json!({
                "stream": streamed,
                "messages": [
                    {"role": "user", "content": "Read a."},
                    {"role": "assistant", "content": null, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c1", "content": "an error"},
                    {"role": "user", "content": "Go on."},
                ],
            }),
        );
        let direct = ask(llama.addr(), CHAT, &request).await;
        let through = ask(aegis.addr(), CHAT, &request).await;
        eprintln!(
            "arguments {arguments:?}, stream {streamed}: direct {}, through Aegis {}",
            direct.status, through.status
        );
        assert_eq!(
            (direct.status, through.status),
            (500, 200),
            "{arguments:?}: {direct}\n{through}"
        );
        match streamed {
            true => drop(one_answer(&through)),
            false => assert_eq!(through.json()["choices"][0]["message"]["role"], "assistant"),
        }
    }
    let incidents = aegis.wait_incidents(4).await;
    assert_eq!(incidents.len(), 4, "{incidents:#?}");
    for incident in incidents {
        assert_eq!(
            (&incident["code"], &incident["decision"]),
            (&json!("A104_tool_arguments"), &json!("repair")),
            "{incident:#}"
        );
    }
}
