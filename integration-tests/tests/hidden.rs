//! Several streams need a hidden request at once, and `hidden_max` lets fewer of them wait for their answers together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Answer, Ended, Manner, Request};
use aegis_integration_tests::events;
use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::script::{EndHow, Script, Step};
use aegis_integration_tests::scripted::Upstream;
use aegis_integration_tests::seen::Seen;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const CONFIG: &str =
    "[upstream]\nflavour = \"llama-server\"\n[corrections]\nhidden_max = 1\nresume_wait_s = 60\n";
const BEGINS: &str = "Quiet rivers carry the morn";
const GOES_ON: &str = "ing light.";
/// Longest wait for a request to come.
const LIMIT: Duration = Duration::from_secs(20);

fn path(name: &str) -> String {
    format!("/{name}/v1/chat/completions")
}

fn says(text: &str) -> Vec<Step> {
    let text = Step::Text {
        text: text.to_owned(),
        channel: "content".to_owned(),
        piece: 3,
        times: 1,
        choice: 0,
        gap_ms: 0,
    };
    vec![Step::Role { choice: 0 }, text]
}

/// The rest of an answer, to its end.
fn rest() -> Script {
    let finish = Step::Finish {
        reason: "stop".to_owned(),
        choice: 0,
    };
    Script::stream([says(GOES_ON), vec![finish, Step::Done]].concat())
}

/// The first answer to this client breaks off; this is the second.
fn breaks(upstream: &Upstream, name: &str, second: Script) {
    let drop = Step::End { how: EndHow::Drop };
    upstream.script(&path(name), Script::stream([says(BEGINS), vec![drop]].concat()));
    upstream.script(&path(name), Script { number: 2, ..second });
}

fn asks(addr: SocketAddr, name: &str) -> JoinHandle<Answer> {
    let body = r#"{"stream":true,"messages":[{"role":"user","content":"Go on."}]}"#;
    let request = Request::post(&path(name), body);
    tokio::spawn(async move { client::send(addr, &request, Manner::default()).await })
}

#[track_caller]
fn is_whole(answer: &Answer) {
    assert_eq!((answer.status, answer.ended), (200, Ended::Clean), "{answer}");
    let reading = events::read(&answer.body);
    assert_eq!(reading.lane("content"), format!("{BEGINS}{GOES_ON}"), "{answer}");
    assert_eq!(
        (reading.roles.len(), reading.finishes.len(), reading.dones),
        (1, 1, 1),
        "{answer}"
    );
    assert!(reading.errors.is_empty(), "{answer}");
}

/// Those of the upstream's requests that go on from the text that is out, in the order in which they came.
fn hidden(upstream: &Upstream) -> Vec<Arc<Seen>> {
    let mut seen = upstream.seen();
    seen.retain(|seen| String::from_utf8_lossy(&seen.body).contains(BEGINS));
    seen
}

/// Waits for request number `n` of all, from 1.
async fn wait_for(upstream: &Upstream, n: usize) -> Arc<Seen> {
    let seen = upstream.wait_seen(n - 1, LIMIT).await;
    seen.unwrap_or_else(|| panic!("request {n} did not come"))
}

#[tokio::test]
async fn hidden_requests_wait_for_their_turn() {
    let upstream = Upstream::start().await;
    let names = ["one", "two", "three"];
    for name in names {
        let slow = Script {
            head_after_ms: 200,
            ..rest()
        };
        breaks(&upstream, name, slow);
    }
    let aegis = Aegis::in_front_of(&upstream.url(), CONFIG).await;
    for stream in names.map(|name| asks(aegis.addr(), name)) {
        is_whole(&stream.await.unwrap());
    }
    let hidden = hidden(&upstream);
    assert_eq!(hidden.len(), names.len());
    for pair in hidden.windows(2) {
        let answered = pair[0].answered().expect("its stream is whole");
        assert!(
            pair[1].at >= answered,
            "{} came while {} had no answer yet",
            pair[1].target,
            pair[0].target
        );
    }
}

/// A place is for the wait, not for the answer: one that takes its time keeps nobody else waiting.
#[tokio::test]
async fn a_place_is_free_again_when_the_answer_begins() {
    let upstream = Upstream::start().await;
    let endless = [says(GOES_ON), vec![Step::End { how: EndHow::Hang }]].concat();
    breaks(&upstream, "endless", Script::stream(endless));
    breaks(&upstream, "other", rest());
    let aegis = Aegis::in_front_of(&upstream.url(), CONFIG).await;
    let endless = asks(aegis.addr(), "endless");
    let begun = wait_for(&upstream, 2).await;
    is_whole(&asks(aegis.addr(), "other").await.unwrap());
    assert_eq!(begun.ended(), None, "the other answer is still being written");
    endless.abort();
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_back() {
    let upstream = Upstream::start().await;
    let silent = Script {
        no_head: Some(EndHow::Hang),
        ..Script::default()
    };
    breaks(&upstream, "silent", silent);
    breaks(&upstream, "other", rest());
    let aegis = Aegis::in_front_of(&upstream.url(), CONFIG).await;
    let silent = asks(aegis.addr(), "silent");
    let waits = wait_for(&upstream, 2).await;
    let other = asks(aegis.addr(), "other");
    wait_for(&upstream, 3).await.wait_ended(LIMIT).await;
    // Were there a place, the next request would be here within this time.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(hidden(&upstream).len(), 1, "two wait at once");
    assert_eq!(waits.ended(), None);
    silent.abort();
    is_whole(&other.await.unwrap());
    assert!(waits.wait_ended(LIMIT).await.is_some(), "its slot is freed, too");
}
