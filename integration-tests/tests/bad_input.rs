//! What does not belong: broken requests, requests that are too large, smuggling, and upstreams that answer nonsense.
//!
//! Each answer is printed in one line, so that `--no-capture` shows a table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Answer, Ended, Manner, Payload, Request};
use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::script::{Framing, Script, Step};
use aegis_integration_tests::scripted::Upstream;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";

fn sound() -> Script {
    let content = |text: &str| Step::Text {
        text: text.to_owned(),
        channel: "content".to_owned(),
        piece: 4,
        times: 1,
        choice: 0,
        gap_ms: 0,
    };
    Script::stream(vec![
        Step::Role { choice: 0 },
        content("All is well."),
        Step::Finish {
            reason: "stop".to_owned(),
            choice: 0,
        },
        Step::Done,
    ])
}

async fn pair(config: &str) -> (Upstream, Aegis) {
    let upstream = Upstream::with(sound()).await;
    let aegis = Aegis::in_front_of_script(&upstream.url(), config).await;
    (upstream, aegis)
}

fn show(what: &str, answer: &Answer) {
    let body: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    println!(
        "{what:34} {:3} {:9} {body}",
        answer.status,
        format!("{:?}", answer.ended)
    );
}

async fn ask(aegis: &Aegis, what: &str, request: &Request) -> Answer {
    let answer = client::send(
        aegis.addr(),
        request,
        Manner {
            limit: Duration::from_secs(30),
            ..Manner::default()
        },
    )
    .await;
    show(what, &answer);
    answer
}

fn assert_refused(what: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.error_code().as_deref()),
        (status, Some(code)),
        "{what}: {answer}"
    );
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "aegis_error", "{what}");
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{what}");
    assert_eq!(
        answer.header("x-should-retry"),
        Some("false"),
        "{what}: a retry cannot help"
    );
}

/// Aegis still serves, and the upstream saw none of the bad requests.
async fn assert_unharmed(upstream: &Upstream, aegis: &mut Aegis, seen: usize) {
    assert_eq!(upstream.seen().len(), seen, "requests that reached the upstream");
    let good = Request::post(CHAT, r#"{"messages":[],"stream":true}"#);
    let answer = client::send(aegis.addr(), &good, Manner::default()).await;
    assert_eq!((answer.status, answer.ended), (200, Ended::Clean), "{answer}");
    assert!(aegis.is_running());
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_named() {
    let (upstream, mut aegis) = pair("").await;
    let deep = format!("{}{}", r#"{"messages":"#, "[".repeat(100_000));
    let cases: &[(&str, &[u8], &str)] = &[
        ("malformed JSON", br#"{"messages": [}, "stream": true}"#, "14"),
        ("trailing comma", br#"{"stream": true,}"#, "16"),
        ("truncated JSON", br#"{"stream": true"#, ""),
        ("two values", br"{} {}", "3"),
        ("an array", br"[1]", "object"),
        ("empty body", b"", "empty"),
        ("blank body", b" \r\n\t", "empty"),
        ("invalid UTF-8", b"{\"messages\":\"\xff\"}", "UTF-8"),
        (
            "a lone surrogate half in UTF-8",
            b"{\"messages\":\"\xed\xa0\x80\"}",
            "UTF-8",
        ),
        ("NUL in the body", b"{\"a\":\"\0\"}", "6"),
        ("stream: \"yes\"", br#"{"stream":"yes","messages":[]}"#, "stream"),
        ("stream: 1", br#"{"stream":1,"messages":[]}"#, "stream"),
        ("n: \"two\"", br#"{"n":"two","messages":[]}"#, "n"),
        ("n: -1", br#"{"n":-1,"messages":[]}"#, "n"),
        (
            "response_format: \"json\"",
            br#"{"response_format":"json","messages":[]}"#,
            "response_format",
        ),
        ("tools: {}", br#"{"tools":{},"messages":[]}"#, "tools"),
        (
            "stream twice",
            br#"{"stream":true,"stream":false,"messages":[]}"#,
            "stream",
        ),
        ("100,000 brackets deep", deep.as_bytes(), "deep"),
    ];
    for (what, body, named) in cases {
        let answer = ask(&aegis, what, &Request::post(CHAT, *body)).await;
        assert_refused(what, &answer, 400, "A604_bad_request");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(named),
            "{what}: the message does not name {named:?}: {message}"
        );
    }
    assert_unharmed(&upstream, &mut aegis, 0).await;
}

#[tokio::test]
async fn what_aegis_need_not_understand_is_the_upstreams_to_refuse() {
    let (upstream, aegis) = pair("").await;
    for body in [
        r#"{"messages":3,"stream":true}"#,
        r#"{"stream":true}"#,
        r#"{"messages":[{"role":7}],"stream":true,"temperature":"hot"}"#,
    ] {
        let answer = ask(&aegis, body, &Request::post(CHAT, body)).await;
        assert_eq!((answer.status, answer.ended), (200, Ended::Clean), "{answer}");
        assert_eq!(upstream.seen().last().unwrap().body, body.as_bytes());
    }
}

#[tokio::test]
async fn a_gigabyte_is_refused_and_never_held() {
    let (upstream, mut aegis) = pair("[limits]\nrequest_bytes_max = 1048576").await;
    let announced = Request {
        payload: Payload::Announced(1 << 30),
        ..Request::post(CHAT, "")
    };
    let answer = ask(&aegis, "1 GiB announced, nothing sent", &announced).await;
    assert_refused("announced", &answer, 413, "A608_body_too_large");
    let endless = Request {
        payload: Payload::Endless(1 << 30),
        ..Request::post(CHAT, "")
    };
    let answer = ask(&aegis, "1 GiB in chunks", &endless).await;
    assert_refused("chunked", &answer, 413, "A608_body_too_large");
    let memory = aegis.peak_memory_bytes();
    println!("peak memory {} KiB", memory / 1024);
    assert!(
        memory < 256 << 20,
        "{memory} bytes of memory for a body of at most 1 MiB"
    );
    assert_unharmed(&upstream, &mut aegis, 0).await;
}

#[tokio::test]
async fn a_megabyte_of_header_is_refused() {
    let (upstream, mut aegis) = pair("").await;
    let large = Request::post(CHAT, r#"{"stream":true}"#).header("x-large", &"a".repeat(1 << 20));
    let answer = ask(&aegis, "a header of 1 MiB", &large).await;
    assert!(matches!(answer.status, 400 | 431), "{answer}");
    let mut many = Request::post(CHAT, r#"{"stream":true}"#);
    for i in 0..5000 {
        many = many.header(&format!("x-h{i}"), "v");
    }
    let answer = ask(&aegis, "5,000 headers", &many).await;
    assert!(matches!(answer.status, 400 | 431), "{answer}");
    assert_unharmed(&upstream, &mut aegis, 0).await;
}

#[tokio::test]
async fn smuggling_never_reaches_the_upstream() {
    let (upstream, mut aegis) = pair("").await;
    let body = r#"{"stream":true,"messages":[]}"#;
    let n = body.len();
    let chunked = format!("{n:x}\r\n{body}\r\n0\r\n\r\n");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    let cases = [
        (
            "two CLs that differ",
            format!("{head}content-length: {n}\r\ncontent-length: 3\r\n\r\n{body}"),
        ),
        (
            "a list of CLs that differ",
            format!("{head}content-length: {n}, 3\r\n\r\n{body}"),
        ),
        (
            "a CL with a sign",
            format!("{head}content-length: +{n}\r\n\r\n{body}"),
        ),
        (
            "TE: gzip, not chunked last",
            format!("{head}transfer-encoding: chunked, gzip\r\n\r\n{chunked}"),
        ),
        (
            "TE: xchunked",
            format!("{head}transfer-encoding: xchunked\r\n\r\n{chunked}"),
        ),
        (
            "a space before the colon",
            format!("{head}content-length : {n}\r\n\r\n{body}"),
        ),
        (
            "obs-fold",
            format!("{head}x-folded: a\r\n b\r\ncontent-length: {n}\r\n\r\n{body}"),
        ),
        (
            "NUL in a header",
            format!("{head}x-nul: a\0b\r\ncontent-length: {n}\r\n\r\n{body}"),
        ),
        (
            "bare CR in a header",
            format!("{head}x-cr: a\rb\r\ncontent-length: {n}\r\n\r\n{body}"),
        ),
        (
            "a chunk size that is no number",
            format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk longer than its size",
            format!("{head}transfer-encoding: chunked\r\n\r\n5\r\n{body}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk size beyond 64 bits",
            format!(
                "{head}transfer-encoding: chunked\r\n\r\n{}\r\n{body}\r\n0\r\n\r\n",
                "f".repeat(20)
            ),
        ),
        (
            "two Hosts",
            format!("{head}host: y\r\ncontent-length: {n}\r\n\r\n{body}"),
        ),
        (
            "no Host",
            format!("POST {CHAT} HTTP/1.1\r\ncontent-length: {n}\r\n\r\n{body}"),
        ),
        (
            "a bad method",
            format!("PO ST {CHAT} HTTP/1.1\r\nhost: x\r\n\r\n"),
        ),
        ("HTTP/3.7", format!("POST {CHAT} HTTP/3.7\r\nhost: x\r\n\r\n")),
    ];
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (what, bytes) in &cases {
        let manner = Manner {
            limit: Duration::from_secs(5),
            ..Manner::default()
        };
        let answer = client::send_raw(aegis.addr(), bytes.as_bytes(), manner).await;
        show(what, &answer);
        let reached = upstream.seen().len() - seen;
        seen += reached;
        if reached > 0 || !(matches!(answer.status, 400..=499 | 501 | 505) || answer.ended == Ended::NoAnswer)
        {
            complaints.push(format!(
                "{what}: {reached} requests reached the upstream; {answer}"
            ));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_unharmed(&upstream, &mut aegis, 0).await;
}

/// RFC 9112 §6.1 leaves a choice for a request with both framings: refuse it, or follow Transfer-Encoding and close. The
/// HTTP library does the latter. What matters is that the server behind sees one framing, and nothing after the body.
#[tokio::test]
async fn a_request_with_both_framings_has_one_behind_the_proxy() {
    let (upstream, mut aegis) = pair("").await;
    let body = r#"{"stream":true,"messages":[]}"#;
    let n = body.len();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let chunked = format!("{n:x}\r\n{body}\r\n0\r\n\r\n{smuggled}");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    for framings in [
        format!("content-length: {n}\r\ntransfer-encoding: chunked"),
        "transfer-encoding: chunked\r\ncontent-length: 3".to_owned(),
    ] {
        let before = upstream.seen().len();
        let bytes = format!("{head}{framings}\r\n\r\n{chunked}");
        let answer = client::send_raw(aegis.addr(), bytes.as_bytes(), Manner::default()).await;
        show("both framings", &answer);
        assert_eq!(answer.header("connection"), Some("close"), "{answer}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), before + 1, "only the request itself");
        let request = &seen[before];
        assert_eq!(
            (request.target.as_str(), request.body.as_slice()),
            (CHAT, body.as_bytes())
        );
        assert_eq!(request.header("transfer-encoding"), None);
        assert_eq!(request.header("content-length"), Some(n.to_string().as_str()));
    }
    assert!(aegis.is_running());
}

#[tokio::test]
async fn a_line_of_64_megabytes_is_not_held() {
    let script = Script::stream(vec![Step::BigLine { bytes: 64 << 20 }]);
    let upstream = Upstream::with(script).await;
    let mut aegis = Aegis::in_front_of_script(&upstream.url(), "").await;
    let answer = ask(
        &aegis,
        "an SSE line of 64 MiB",
        &Request::post(CHAT, r#"{"stream":true}"#),
    )
    .await;
    assert_eq!(
        answer.error_code().as_deref(),
        Some("A603_frame_too_large"),
        "{answer}"
    );
    assert_eq!(answer.ended, Ended::Clean);
    assert!(
        answer.body.len() < 4096,
        "{} bytes of the line came out",
        answer.body.len()
    );
    let memory = aegis.peak_memory_bytes();
    println!("peak memory {} KiB", memory / 1024);
    // The limit of one frame is 8 MiB; a few copies of that may exist, 64 MiB may not.
    assert!(memory < 64 << 20, "{memory} bytes of memory");
    assert!(aegis.is_running());
}

#[tokio::test]
async fn upstreams_that_answer_nonsense() {
    let (upstream, aegis) = pair("").await;
    let cases = [
        (
            "HTML with status 200",
            "text/html; charset=utf-8",
            "<!doctype html><p>Welcome",
        ),
        ("plain text with status 200", "text/plain", "ok"),
        ("an image with status 200", "image/png", "\u{89}PNG"),
    ];
    for (what, kind, body) in cases {
        upstream.clear("*");
        upstream.script("*", Script::answer(200, kind, Framing::Length, body.as_bytes()));
        let answer = ask(&aegis, what, &Request::post(CHAT, r#"{"stream":true}"#)).await;
        assert_refused(what, &answer, 502, "A607_unexpected_answer");
    }
}

#[tokio::test]
async fn a_closed_port_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let aegis = Aegis::in_front_of_script(&url, "").await;
    for (what, request) in [
        ("closed port, guarded", Request::post(CHAT, r#"{"stream":true}"#)),
        ("closed port, unguarded", Request::bare("GET", "/v1/models")),
    ] {
        let answer = ask(&aegis, what, &request).await;
        assert_eq!(
            (answer.status, answer.error_code().as_deref()),
            (502, Some("A601_upstream_connect")),
            "{answer}"
        );
    }
}
