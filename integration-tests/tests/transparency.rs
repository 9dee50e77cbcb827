//! What is not guarded passes as if Aegis were not there: paths, methods, bodies, statuses, headers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Ended, Manner, Payload, Request};
use aegis_integration_tests::h2c;
use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::script::{Framing, Script};
use aegis_integration_tests::scripted::Upstream;

/// All 256 byte values, many times, in an order that is no text.
fn binary() -> Vec<u8> {
    (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

#[tokio::test]
async fn methods_paths_and_binary_bodies() {
    let upstream = Upstream::with(Script::answer(
        200,
        "application/octet-stream",
        Framing::Length,
        &binary(),
    ))
    .await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let with_body = |method: &str, target: &str| Request {
        method: method.to_owned(),
        ..Request::post(target, binary())
    };
    let requests = [
        Request::bare("GET", "/"),
        Request::bare("GET", "/v1/models"),
        Request::bare("GET", "/v1/chat/completions"),
        Request::bare("GET", "/a%2Fb/%C3%A4;p=1?q=a+b&q=%00&&#".trim_end_matches('#')),
        Request::bare("OPTIONS", "/v1/chat/completions").header("access-control-request-method", "POST"),
        Request::bare("DELETE", "/v1/models/x"),
        with_body("PUT", "/files/x"),
        with_body("PATCH", "/files/x"),
        with_body("POST", "/v1/embeddings"),
        with_body("POST", "/completion"),
        with_body("POST", "/tokenize"),
        with_body("PURGE", "/cache"),
        Request {
            payload: Payload::Chunks(binary().chunks(777).map(<[u8]>::to_vec).collect()),
            ..with_body("POST", "/upload")
        },
    ];
    for request in &requests {
        for h2 in [false, true] {
            let answer = if h2 {
                h2c::send(aegis.addr(), request, Manner::default()).await
            } else {
                client::send(aegis.addr(), request, Manner::default()).await
            };
            let what = format!("{} {} h2={h2}", request.method, request.target);
            assert_eq!(
                (answer.status, answer.ended),
                (200, Ended::Clean),
                "{what}: {answer}"
            );
            assert!(answer.body == binary(), "{what}: the answer changed");
            let seen = upstream.seen().pop().unwrap();
            assert_eq!(
                (seen.method.as_str(), seen.target.as_str()),
                (request.method.as_str(), request.target.as_str())
            );
            let sent = match &request.payload {
                Payload::Full(body) => body.clone(),
                Payload::Chunks(pieces) => pieces.concat(),
                _ => Vec::new(),
            };
            assert!(seen.body == sent, "{what}: the request's body changed");
        }
    }
}

#[tokio::test]
async fn head_requests_have_the_upstreams_head_and_no_body() {
    let upstream = Upstream::with(Script::answer(
        200,
        "application/json",
        Framing::Length,
        b"{\"a\":1}",
    ))
    .await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    for target in ["/v1/models", "/v1/chat/completions"] {
        let answer = client::send(aegis.addr(), &Request::bare("HEAD", target), Manner::default()).await;
        assert_eq!((answer.status, answer.ended), (200, Ended::Clean), "{answer}");
        assert_eq!(answer.header("content-length"), Some("7"), "{answer:?}");
        assert!(answer.body.is_empty());
        assert_eq!(upstream.seen().pop().unwrap().method, "HEAD");
    }
}

#[tokio::test]
async fn statuses_and_headers_pass() {
    let upstream = Upstream::start().await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    for status in [201, 204, 206, 301, 304, 401, 404, 418, 429, 500, 503] {
        upstream.clear("*");
        let mut script = Script::answer(
            status,
            "text/plain",
            Framing::Length,
            if matches!(status, 204 | 304) { b"" } else { b"body" },
        );
        let more = [
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("etag", "\"x\""),
            ("location", "/there"),
            ("x-odd", "\u{e4}"),
        ];
        script
            .headers
            .extend(more.map(|(n, v)| (n.to_owned(), v.to_owned())));
        upstream.script("*", script);
        let answer = client::send(aegis.addr(), &Request::bare("GET", "/thing"), Manner::default()).await;
        assert_eq!((answer.status, answer.ended), (status, Ended::Clean), "{answer}");
        let cookies: Vec<_> = answer
            .headers
            .iter()
            .filter(|(n, _)| n == "set-cookie")
            .map(|(_, v)| v.as_str())
            .collect();
        assert_eq!(cookies, ["a=1", "b=2"], "{status}");
        for (name, value) in [("etag", "\"x\""), ("location", "/there"), ("x-odd", "\u{e4}")] {
            assert_eq!(answer.header(name), Some(value), "{status}");
        }
    }
}

#[tokio::test]
async fn repeated_request_headers_and_the_host_arrive() {
    let upstream = Upstream::with(Script::answer(200, "text/plain", Framing::Length, b"ok")).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let request = Request::bare("GET", "/x")
        .header("x-twice", "1")
        .header("x-twice", "2")
        .header("cookie", "c=1");
    client::send(aegis.addr(), &request, Manner::default()).await;
    let seen = upstream.seen().pop().unwrap();
    let twice: Vec<_> = seen
        .headers
        .iter()
        .filter(|(n, _)| n == "x-twice")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(twice, ["1", "2"]);
    assert_eq!(seen.header("cookie"), Some("c=1"));
    assert_eq!(
        seen.headers.iter().filter(|(n, _)| n == "host").count(),
        1,
        "{:?}",
        seen.headers
    );
}

#[tokio::test]
async fn an_upgrade_never_leaves_the_checks_silently() {
    let upstream = Upstream::with(Script::answer(200, "application/json", Framing::Length, b"{}")).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let upgrade = |request: Request, to: &str| request.header("connection", "upgrade").header("upgrade", to);
    let guarded = || Request::post("/v1/chat/completions", r#"{"messages":[]}"#);
    let answer = client::send(aegis.addr(), &upgrade(guarded(), "websocket"), Manner::default()).await;
    println!("guarded, upgrade to websocket: {answer}");
    assert_eq!(
        (answer.status, answer.error_code().as_deref()),
        (426, Some("A610_upgrade_refused")),
        "{answer}"
    );
    assert!(upstream.seen().is_empty(), "an upgrade reached the upstream");
    // Some clients offer h2c with every request. A server may overlook that and answer in HTTP/1.1, which is checked.
    let answer = client::send(aegis.addr(), &upgrade(guarded(), "h2c"), Manner::default()).await;
    println!("guarded, upgrade to h2c: {answer}");
    assert_eq!(answer.status, 200, "{answer}");
    let open = upgrade(Request::bare("GET", "/ws"), "websocket");
    let answer = client::send(aegis.addr(), &open, Manner::default()).await;
    println!("unguarded, upgrade to websocket: {answer}");
    assert_ne!(answer.status, 101, "{answer}");
    assert!(
        upstream.seen().iter().all(|s| s.header("upgrade").is_none()),
        "an Upgrade header was passed on"
    );
}

#[tokio::test]
async fn stdout_has_one_line_and_every_answer_an_id() {
    let upstream = Upstream::with(Script::answer(200, "text/plain", Framing::Length, b"ok")).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let mut ids = Vec::new();
    for target in ["/x", "/v1/models", "/health", "/v1/chat/completions"] {
        let answer = client::send(aegis.addr(), &Request::bare("GET", target), Manner::default()).await;
        ids.push(
            answer
                .header("x-aegis-request-id")
                .unwrap_or_else(|| panic!("{target} has no id: {answer}"))
                .to_owned(),
        );
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "ids repeat");
    assert_eq!(aegis.stdout(), [format!("aegis listening on {}", aegis.url())]);
}
