//! Hidden requests of clients that do not read, and of servers of which nothing is known.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Answer, Ended, Manner, Request};
use aegis_integration_tests::events;
use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::script::{EndHow, Op, Script, Step};
use aegis_integration_tests::scripted::Upstream;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Go on."}]}"#;

fn text(text: &str) -> Step {
    Step::Text {
        text: text.to_owned(),
        channel: "content".to_owned(),
        piece: 100,
        times: 1,
        choice: 0,
        gap_ms: 0,
    }
}

/// An answer that breaks off.
fn half(words: &str) -> Script {
    let end = Step::End { how: EndHow::Drop };
    Script::stream(vec![Step::Role { choice: 0 }, text(words), end])
}

/// An answer that does not.
fn rest(words: &str) -> Script {
    let reason = "stop".to_owned();
    let finish = Step::Finish { reason, choice: 0 };
    Script::stream(vec![Step::Role { choice: 0 }, text(words), finish, Step::Done])
}

async fn ask(addr: SocketAddr, path: &str) -> Answer {
    client::send(addr, &Request::post(path, STREAM), Manner::default()).await
}

/// Asks over HTTP/2 with room for this many bytes of the answer, and never reads one. The connection lives as long as
/// what is returned.
async fn ask_and_do_not_read(addr: SocketAddr, path: &str, room: u32) -> impl Drop {
    struct Client(tokio::task::JoinHandle<()>);
    impl Drop for Client {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(room);
    let (sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let head = http::Request::post(format!("http://{addr}{path}"))
        .header("content-length", STREAM.len())
        .body(())
        .unwrap();
    Client(tokio::spawn(async move {
        let driver = tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let (answer, mut body) = sender.send_request(head, false).unwrap();
        body.send_data(STREAM.into(), true).unwrap();
        let _unread = answer.await.unwrap();
        driver.await.unwrap().ok();
    }))
}

/// The one place for hidden requests is taken by a stream whose client does not read, while its server is slow to answer.
#[tokio::test]
async fn a_client_that_does_not_read_keeps_no_place() {
    let upstream = Upstream::start().await;
    let (slow, quick) = (format!("/slow{CHAT}"), format!("/quick{CHAT}"));
    let first = half("Quiet rivers");
    let room: usize = first
        .render()
        .iter()
        .map(|op| if let Op::Write(bytes) = op { bytes.len() } else { 0 })
        .sum();
    upstream.script(&slow, first);
    upstream.script(
        &slow,
        Script {
            head_after_ms: 1000,
            ..rest(" carry the light.")
        },
    );
    upstream.script(&quick, half("Old stone"));
    upstream.script(&quick, rest(" walls."));
    let config = "[upstream]\nflavour = \"llama-server\"\n\
                  [corrections]\nhidden_max = 1\nping_s = 0.1\nresume_wait_s = 8\n";
    let aegis = Aegis::in_front_of_script(&upstream.url(), config).await;
    // All that is out fits; the comments that follow do not.
    let _frozen = ask_and_do_not_read(aegis.addr(), &slow, room as u32 + 1).await;
    upstream
        .wait_seen(1, Duration::from_secs(10))
        .await
        .expect("the first hidden request arrives");
    let answer = ask(aegis.addr(), &quick).await;
    assert_eq!(answer.ended, Ended::Clean, "{answer}");
    assert_eq!(
        events::read(&answer.body).lane("content"),
        "Old stone walls.",
        "{answer}"
    );
}

/// Nobody can say what this server is: no hidden request may have a prefill that it might not understand.
#[tokio::test]
async fn an_unknown_server_is_asked_carefully_each_time() {
    // Where the scout is out for long, the first correction waits for it; where it is back with nothing, none does.
    for how in [EndHow::Hang, EndHow::Drop] {
        let upstream = Upstream::start().await;
        upstream.script(
            "/v1/models",
            Script {
                no_head: Some(how),
                ..Script::default()
            },
        );
        upstream.script(CHAT, half("Quiet rivers carry"));
        upstream.script(CHAT, half(" the morning light"));
        upstream.script(CHAT, rest(" past old stone walls."));
        let config = "[upstream]\nflavour = \"auto\"\n";
        let aegis = Aegis::in_front_of_script(&upstream.url(), config).await;
        let answer = ask(aegis.addr(), CHAT).await;
        assert_eq!(
            events::read(&answer.body).lane("content"),
            "Quiet rivers carry the morning light past old stone walls.",
            "{answer}"
        );
        let seen = upstream.seen();
        let chats: Vec<String> = seen
            .iter()
            .filter(|seen| seen.target == CHAT)
            .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
            .collect();
        assert_eq!(chats.len(), 3, "{chats:#?}");
        for chat in &chats[1..] {
            assert!(!chat.contains("continue_final_message"), "{chat}");
        }
    }
}
