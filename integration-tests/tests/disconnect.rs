//! Clients that leave, clients that do not read, and a proxy that is told to stop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Answer, Ended, Manner, Request};
use aegis_integration_tests::events;
use aegis_integration_tests::h2c;
use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::script::{EndHow, Framing, Script, Step};
use aegis_integration_tests::scripted::{Outcome, Upstream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"stream":true,"messages":[]}"#;

fn text(text: &str, gap_ms: u64) -> Step {
    Step::Text {
        text: text.to_owned(),
        channel: "content".to_owned(),
        piece: 4,
        times: 1,
        choice: 0,
        gap_ms,
    }
}

fn finish() -> Step {
    Step::Finish {
        reason: "stop".to_owned(),
        choice: 0,
    }
}

/// Nothing but the client's leaving can end these answers, so that they end at all is the proof; the time is printed.
#[tokio::test]
async fn a_client_that_leaves_frees_the_upstream() {
    let hanging = |steps: Vec<Step>| Script::stream([steps, vec![Step::End { how: EndHow::Hang }]].concat());
    let upstream = Upstream::start().await;
    upstream.script(
        CHAT,
        hanging(vec![Step::Role { choice: 0 }, text("On and on", 0)]),
    );
    upstream.script(
        "/other",
        hanging(vec![Step::Raw {
            text: "x".repeat(500),
        }]),
    );
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    for (what, request, h2) in [
        ("guarded, http/1.1", Request::post(CHAT, STREAM), false),
        ("guarded, h2c", Request::post(CHAT, STREAM), true),
        ("unguarded, http/1.1", Request::bare("GET", "/other"), false),
        ("unguarded, h2c", Request::bare("GET", "/other"), true),
    ] {
        let manner = Manner {
            leave_after: Some(100),
            ..Manner::default()
        };
        let answer = if h2 {
            h2c::send(aegis.addr(), &request, manner).await
        } else {
            client::send(aegis.addr(), &request, manner).await
        };
        let left = Instant::now();
        assert_eq!(answer.ended, Ended::Left, "{what}: {answer}");
        let seen = upstream.seen().pop().unwrap();
        let (outcome, at) = seen
            .wait_ended(Duration::from_secs(20))
            .await
            .unwrap_or_else(|| panic!("{what}: never freed"));
        assert_eq!(outcome, Outcome::PeerLeft);
        println!("{what}: freed after {:?}", at.saturating_duration_since(left));
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_frees_the_upstream() {
    let upstream = Upstream::with(Script {
        no_head: Some(EndHow::Hang),
        ..Script::default()
    })
    .await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    for body in [STREAM, r#"{"stream":false,"messages":[]}"#] {
        let mut stream = TcpStream::connect(aegis.addr()).await.unwrap();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let before = upstream.seen().len();
        let seen = match upstream.wait_seen(before, Duration::from_secs(10)).await {
            Some(seen) => seen,
            None => upstream
                .seen()
                .pop()
                .expect("the request arrived before it was looked for"),
        };
        let left = Instant::now();
        drop(stream);
        let (outcome, at) = seen
            .wait_ended(Duration::from_secs(20))
            .await
            .expect("the upstream is freed");
        assert_eq!(outcome, Outcome::PeerLeft);
        println!("{body}: freed after {:?}", at.saturating_duration_since(left));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_the_upstream() {
    const FLOOD: u64 = 256 << 20;
    let flood = Script::stream(vec![
        Step::Role { choice: 0 },
        Step::Flood { bytes: FLOOD },
        finish(),
        Step::Done,
    ]);
    let upstream = Upstream::with(flood).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let mut stream = TcpStream::connect(aegis.addr()).await.unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{STREAM}",
        STREAM.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let seen = upstream
        .wait_seen(0, Duration::from_secs(10))
        .await
        .expect("the request arrives");
    // The flood stops by itself once every buffer on the way is full: wait until it has stood still for a second.
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = seen.sent_bytes.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(
            now < FLOOD,
            "the whole flood was taken from an upstream whose client does not read"
        );
    }
    let memory = aegis.peak_memory_bytes();
    println!(
        "the upstream could write {} KiB; peak memory {} KiB",
        last / 1024,
        memory / 1024
    );
    assert!(last > 0, "nothing was taken at all");
    assert!(memory < 128 << 20, "{memory} bytes of memory");
    drop(stream);
    assert!(
        seen.wait_ended(Duration::from_secs(20)).await.is_some(),
        "the upstream is freed"
    );
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let flood = Script::stream(vec![
        Step::Role { choice: 0 },
        Step::Flood { bytes: 8 << 20 },
        finish(),
        Step::Done,
    ]);
    let upstream = Upstream::with(flood).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "[rules.token_loop]\nenabled = false").await;
    let manner = Manner {
        pause: Duration::from_millis(1),
        ..Manner::default()
    };
    let answer = client::send(aegis.addr(), &Request::post(CHAT, STREAM), manner).await;
    assert_eq!(answer.ended, Ended::Clean);
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(answer.body.len() as u64, seen.sent_bytes.load(Ordering::SeqCst));
    assert!(answer.body.starts_with(&seen.sent()), "the bytes changed");
    assert_eq!(events::read(&answer.body).dones, 1);
}

/// Sends a request, ends Aegis as soon as the upstream has it, and returns what the client got.
async fn terminated_meanwhile(upstream: &Upstream, aegis: &mut Aegis) -> Answer {
    let addr = aegis.addr();
    let running =
        tokio::spawn(
            async move { client::send(addr, &Request::post(CHAT, STREAM), Manner::default()).await },
        );
    upstream
        .wait_seen(0, Duration::from_secs(10))
        .await
        .expect("the request arrives");
    aegis.terminate();
    running.await.unwrap()
}

#[tokio::test]
async fn sigterm_lets_running_streams_end() {
    let slow = Script::stream(vec![
        Step::Role { choice: 0 },
        text("Steady to the very end.", 100),
        finish(),
        Step::Done,
    ]);
    let upstream = Upstream::with(slow).await;
    let mut aegis = Aegis::in_front_of_script(&upstream.url(), "[limits]\ndrain_s = 30").await;
    let addr = aegis.addr();
    let answer = terminated_meanwhile(&upstream, &mut aegis).await;
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(answer.ended, Ended::Clean, "{answer}");
    assert!(answer.body == seen.sent(), "the stream changed: {answer}");
    let status = aegis
        .wait_exit(Duration::from_secs(20))
        .await
        .expect("it ends once its streams have");
    assert!(status.success(), "{status}");
    assert_eq!(
        client::send(addr, &Request::bare("GET", "/x"), Manner::default())
            .await
            .ended,
        Ended::NoAnswer
    );
}

#[tokio::test]
async fn sigterm_ends_requests_that_have_no_head_yet() {
    let upstream = Upstream::with(Script {
        no_head: Some(EndHow::Hang),
        ..Script::stream(vec![])
    })
    .await;
    let mut aegis = Aegis::in_front_of_script(&upstream.url(), "[limits]\ndrain_s = 0.5").await;
    let answer = terminated_meanwhile(&upstream, &mut aegis).await;
    assert_eq!(
        (answer.status, answer.error_code().as_deref()),
        (503, Some("A609_shutting_down")),
        "{answer}"
    );
    assert!(
        aegis.wait_exit(Duration::from_secs(20)).await.is_some(),
        "the process ends"
    );
}

#[tokio::test]
async fn sigterm_cuts_what_outlasts_the_drain() {
    let endless = Script::stream(vec![
        Step::Role { choice: 0 },
        text("Never done", 0),
        Step::End { how: EndHow::Hang },
    ]);
    let upstream = Upstream::with(endless).await;
    let mut aegis = Aegis::in_front_of_script(&upstream.url(), "[limits]\ndrain_s = 1").await;
    let answer = terminated_meanwhile(&upstream, &mut aegis).await;
    assert_eq!(
        answer.error_code().as_deref(),
        Some("A609_shutting_down"),
        "{answer}"
    );
    assert_eq!(answer.ended, Ended::Clean, "{answer}");
    assert_eq!(events::read(&answer.body).dones, 1);
    assert!(
        aegis.wait_exit(Duration::from_secs(20)).await.is_some(),
        "it ends after the drain"
    );
    let incidents = aegis.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0]["code"], "A609_shutting_down");
}

#[tokio::test]
async fn many_streams_at_once_stay_apart() {
    let upstream = Upstream::start().await;
    for i in 0..50 {
        let own = format!("Stream number {i} says its own words and no others. ");
        upstream.script(
            &format!("/{i}{CHAT}"),
            Script::stream(vec![
                Step::Role { choice: 0 },
                text(&own, 5),
                finish(),
                Step::Done,
            ]),
        );
    }
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let addr = aegis.addr();
    let mut running = tokio::task::JoinSet::new();
    for i in 0..50 {
        running.spawn(async move {
            (
                i,
                client::send(
                    addr,
                    &Request::post(&format!("/{i}{CHAT}"), STREAM),
                    Manner::default(),
                )
                .await,
            )
        });
    }
    while let Some(done) = running.join_next().await {
        let (i, answer) = done.unwrap();
        assert_eq!(answer.ended, Ended::Clean, "{i}: {answer}");
        assert_eq!(
            events::read(&answer.body).lane("content"),
            format!("Stream number {i} says its own words and no others. ")
        );
    }
}

#[tokio::test]
async fn keep_alive_connections_serve_one_request_after_another() {
    use tokio::io::AsyncReadExt;
    let upstream = Upstream::with(Script::answer(200, "text/plain", Framing::Length, b"ok")).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let mut stream = TcpStream::connect(aegis.addr()).await.unwrap();
    for _ in 0..20 {
        stream
            .write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert!(
                stream.read_buf(&mut answer).await.unwrap() > 0,
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
    assert_eq!(upstream.seen().len(), 20);
}
