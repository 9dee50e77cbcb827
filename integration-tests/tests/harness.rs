//! The harness itself: what the client reports is what the scripted upstream did. No Aegis in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Ended, Manner, Payload, Request};
use aegis_integration_tests::flaky::{Cuts, Flaky};
use aegis_integration_tests::outage::{Gone, Outage};
use aegis_integration_tests::probe::Probe;
use aegis_integration_tests::refusal::Refusal;
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

fn ending(text: &str, how: EndHow, then_down: Option<Outage>) -> Script {
    Script {
        then_down,
        ..Script::stream(vec![raw(text), Step::End { how }])
    }
}

fn quick() -> Manner {
    Manner {
        limit: Duration::from_secs(5),
        ..Manner::default()
    }
}

/// Whether something becomes true within some seconds.
async fn until(mut holds: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..400 {
        if holds().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    false
}

#[tokio::test]
async fn answers_come_in_order_and_refusals_use_none_up() {
    let upstream = Upstream::start().await;
    upstream.answers(&["1", "2"].map(|text| ending(text, EndHow::Close, None)));
    upstream.refuses(&[Refusal {
        member: Some("flag".into()),
        last_role: Some("assistant".into()),
        status: 400,
        message: "no prefill".into(),
    }]);
    upstream.describes(std::iter::once(("/props".to_owned(), "{\"a\":1}".to_owned())).collect());
    let post = async |body: &str| client::send(upstream.addr(), &Request::post("/x", body), quick()).await;
    assert_eq!(post("{}").await.body, b"1");
    let flag = post(r#"{"flag":false}"#).await;
    assert_eq!(
        (flag.status, &flag.json()["error"]["message"]),
        (400, &"no prefill".into())
    );
    assert_eq!(post(r#"{"messages":[{"role":"assistant"}]}"#).await.status, 400);
    assert_eq!(post(r#"{"messages":[{"role":"user"}]}"#).await.body, b"2");
    assert_eq!(post("{}").await.body, b"2");
    let get = async |path| client::send(upstream.addr(), &Request::bare("GET", path), quick()).await;
    assert_eq!(get("/props").await.json()["a"], 1);
    assert_eq!(get("/v1/models").await.status, 404);
    assert_eq!(upstream.seen().len(), 5);
}

#[tokio::test]
async fn an_outage_refuses_connections_and_ends() {
    for how in [EndHow::Drop, EndHow::Reset, EndHow::Close] {
        let upstream = Upstream::start().await;
        let outage = Outage {
            ms: 1500,
            how: Gone::Refused,
        };
        // A reset throws away what the peer has not read yet.
        let pause = Step::Sleep { ms: 100 };
        let first = Script {
            then_down: Some(outage),
            ..Script::stream(vec![raw("1"), pause, Step::End { how }])
        };
        upstream.answers(&[first, ending("2", EndHow::Close, None)]);
        // A connection that was open before is closed as well.
        let mut idle = tokio::net::TcpStream::connect(upstream.addr()).await.unwrap();
        let get = async || client::send(upstream.addr(), &Request::bare("GET", "/x"), quick()).await;
        let answer = get().await;
        let ended = match how {
            EndHow::Close => Ended::Clean,
            EndHow::Reset => Ended::Reset,
            _ => Ended::Truncated,
        };
        assert_eq!(
            (answer.body.as_slice(), answer.ended),
            (&b"1"[..], ended),
            "{how:?}"
        );
        if how == EndHow::Close {
            // The client has its whole body before the upstream is gone.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(get().await.status, 0, "{how:?}: it is gone at once");
        assert_eq!(
            tokio::io::AsyncReadExt::read(&mut idle, &mut [0; 1])
                .await
                .unwrap_or(0),
            0
        );
        let back = until(async || get().await.status == 200).await;
        assert!(back, "{how:?}: it comes back");
    }
}

#[tokio::test]
async fn a_loading_server_says_so_everywhere() {
    let upstream = Upstream::start().await;
    let outage = Outage {
        ms: 1500,
        how: Gone::Loading,
    };
    upstream.answers(&[
        ending("1", EndHow::Drop, Some(outage)),
        ending("2", EndHow::Close, None),
    ]);
    let get = async |path| client::send(upstream.addr(), &Request::bare("GET", path), quick()).await;
    assert_eq!(get("/x").await.ended, Ended::Truncated);
    assert_eq!(get("/x").await.json()["error"]["type"], "unavailable_error");
    assert_eq!(get("/health").await.status, 503);
    assert_eq!(upstream.seen().len(), 1);
    assert!(until(async || get("/health").await.status == 200).await);
    assert_eq!(get("/x").await.body, b"2");
}

#[tokio::test]
async fn a_flaky_connection_breaks_as_often_as_told() {
    let steps = |text: &str| Step::Text {
        text: text.to_owned(),
        channel: "content".into(),
        piece: 1,
        times: 1,
        choice: 0,
        gap_ms: 0,
    };
    let upstream = Upstream::with(Script::stream(vec![steps("abcdef"), Step::Done])).await;
    let flaky = Flaky::in_front_of(upstream.addr()).await;
    let addr = flaky.url().strip_prefix("http://").unwrap().parse().unwrap();
    let text = async || {
        let answer = client::send(addr, &Request::post("/x", "{}"), quick()).await;
        let reading = aegis_integration_tests::events::read(&answer.body);
        (reading.lane("content").to_owned(), answer.ended)
    };
    assert_eq!(text().await, ("abcdef".into(), Ended::Clean));
    flaky.cut(Cuts {
        after: 2,
        torn: false,
        most: 2,
    });
    assert_eq!(text().await, ("ab".into(), Ended::Truncated));
    assert_eq!(text().await, ("ab".into(), Ended::Truncated));
    assert_eq!(text().await, ("abcdef".into(), Ended::Clean));
    assert_eq!(flaky.made(), 2);
    flaky.cut(Cuts {
        after: 2,
        torn: true,
        most: 1,
    });
    assert_eq!(text().await, ("ab".into(), Ended::Truncated));
    assert_eq!(flaky.made(), 1);
}
