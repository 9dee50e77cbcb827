//! The harness itself: what the client reports is what the scripted upstream did. No Aegis in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Ended, Manner, Payload, Request};
use aegis_integration_tests::probe::Probe;
use aegis_integration_tests::script::{EndHow, Framing, Script, Step};
use aegis_integration_tests::scripted::{Outcome, Upstream};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn raw(text: &str) -> Step {
    Step::Raw {
        text: text.to_owned(),
    }
}

#[tokio::test]
async fn every_end_is_told_apart() {
    for framing in [Framing::Chunked, Framing::Length] {
        for (how, ended) in [
            (EndHow::Close, Ended::Clean),
            (EndHow::Drop, Ended::Truncated),
            (EndHow::Reset, Ended::Reset),
        ] {
            // A reset throws away what the peer has not read yet; and a client that has its whole body may leave at once.
            let pause = if how == EndHow::Reset { 100 } else { 0 };
            let steps = vec![raw("half of it"), Step::Sleep { ms: pause }, Step::End { how }];
            let upstream = Upstream::with(Script {
                framing,
                ..Script::stream(steps)
            })
            .await;
            let answer = client::send(upstream.addr(), &Request::post("/x", "{}"), Manner::default()).await;
            assert_eq!(
                (answer.ended, answer.body.as_slice()),
                (ended, &b"half of it"[..]),
                "{framing:?} {how:?}"
            );
            let seen = upstream.seen().pop().unwrap();
            let (outcome, _) = seen.wait_ended(Duration::from_secs(10)).await.unwrap();
            // A client that has its whole body may leave before the script is over.
            if how != EndHow::Close {
                assert_eq!(outcome, Outcome::Served);
            }
        }
    }
    let upstream = Upstream::with(Script {
        framing: Framing::Eof,
        ..Script::stream(vec![raw("all")])
    })
    .await;
    let answer = client::send(upstream.addr(), &Request::bare("GET", "/x"), Manner::default()).await;
    assert_eq!(
        (answer.ended, answer.body.as_slice()),
        (Ended::Clean, &b"all"[..])
    );
    for (how, ended) in [(EndHow::Drop, Ended::NoAnswer), (EndHow::Reset, Ended::Reset)] {
        let upstream = Upstream::with(Script {
            no_head: Some(how),
            ..Script::default()
        })
        .await;
        let answer = client::send(upstream.addr(), &Request::bare("GET", "/x"), Manner::default()).await;
        assert_eq!((answer.status, answer.ended), (0, ended));
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_seen_to_leave() {
    let upstream = Upstream::with(Script::stream(vec![
        raw("0123456789"),
        Step::End { how: EndHow::Hang },
    ]))
    .await;
    let manner = Manner {
        leave_after: Some(5),
        ..Manner::default()
    };
    let answer = client::send(upstream.addr(), &Request::post("/x", "{}"), manner).await;
    assert_eq!(answer.ended, Ended::Left);
    let (outcome, _) = upstream.seen()[0]
        .wait_ended(Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::PeerLeft);
}

#[tokio::test]
async fn a_hanging_answer_times_out() {
    let upstream = Upstream::with(Script::stream(vec![raw("x"), Step::End { how: EndHow::Hang }])).await;
    let manner = Manner {
        limit: Duration::from_millis(200),
        ..Manner::default()
    };
    let answer = client::send(upstream.addr(), &Request::post("/x", "{}"), manner).await;
    assert_eq!(
        (answer.ended, answer.body.as_slice()),
        (Ended::TimedOut, &b"x"[..])
    );
}

#[tokio::test]
async fn writes_block_when_nobody_reads() {
    let upstream = Upstream::with(Script::stream(vec![Step::Flood { bytes: 256 << 20 }])).await;
    let manner = Manner {
        pause: Duration::from_millis(300),
        limit: Duration::from_millis(900),
        ..Manner::default()
    };
    let answer = client::send(upstream.addr(), &Request::post("/x", "{}"), manner).await;
    assert_eq!(answer.ended, Ended::TimedOut);
    let seen = upstream.seen().pop().unwrap();
    seen.wait_ended(Duration::from_secs(10)).await.unwrap();
    assert!(seen.sent_bytes.load(Ordering::SeqCst) < 64 << 20);
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let upstream = Upstream::with(Script::answer(200, "text/plain", Framing::Length, b"ok")).await;
    let pieces = vec![b"ab".to_vec(), b"\0\xff".to_vec()];
    let request = Request {
        payload: Payload::Chunks(pieces),
        ..Request::post("/p?q=%20", "")
    }
    .header("X-A", "1");
    let answer = client::send(upstream.addr(), &request, Manner::default()).await;
    assert_eq!(answer.status, 200);
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(
        (seen.target.as_str(), seen.body.as_slice()),
        ("/p?q=%20", &b"ab\0\xff"[..])
    );
    assert_eq!(seen.header("x-a"), Some("1"));
}

#[tokio::test]
async fn probes_and_scripts_in_turn() {
    let upstream = Upstream::start().await;
    let get = |path: &'static str| {
        let addr = upstream.addr();
        async move {
            client::send(
                addr,
                &Request::bare("GET", path),
                Manner {
                    limit: Duration::from_secs(1),
                    ..Manner::default()
                },
            )
            .await
        }
    };
    assert_eq!(get("/health").await.json()["status"], "ok");
    upstream.health(Probe::Unavailable);
    assert_eq!(get("/health").await.status, 503);
    upstream.health(Probe::Hang);
    assert_eq!(get("/health").await.ended, Ended::TimedOut);
    upstream.slots(Probe::BusyProgress);
    let (first, second) = (get("/slots").await.json(), get("/slots").await.json());
    assert_eq!(first[0]["is_processing"], true);
    assert_ne!(
        first[0]["next_token"][0]["n_decoded"],
        second[0]["next_token"][0]["n_decoded"]
    );
    assert_eq!(upstream.looks(), 5);
    assert_eq!(get("/nothing").await.status, 404);
    upstream.script("/turn", Script::answer(200, "text/plain", Framing::Length, b"1"));
    upstream.script("/turn", Script::answer(200, "text/plain", Framing::Length, b"2"));
    let bodies = [
        get("/turn").await.body,
        get("/turn").await.body,
        get("/turn").await.body,
    ];
    assert_eq!(bodies, [b"1", b"2", b"2"]);
}
