//! Asking, and what a whole answer has to look like.

use aegis_integration_tests::client::{Answer, Ended, Manner, Request, send};
use aegis_integration_tests::events::{Reading, events, read};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The path of chat completions.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// Sends a request and reads its answer to the end.
pub(crate) async fn ask(addr: SocketAddr, path: &str, body: &Value) -> Answer {
    send(addr, &Request::post(path, body.to_string()), patient()).await
}

/// A chat request whose answer comes in while the test does something else.
pub(crate) fn ask_meanwhile(addr: SocketAddr, body: Value) -> JoinHandle<Answer> {
    tokio::spawn(async move { ask(addr, CHAT, &body).await })
}

/// Waits longer than any answer here takes.
pub(crate) fn patient() -> Manner {
    Manner {
        limit: Duration::from_secs(120),
        ..Manner::default()
    }
}

/// The answer of a stream that Aegis has cut: deltas, one error, `[DONE]`, and a proper end.
pub(crate) fn cut_with(answer: &Answer, code: &str) -> Reading {
    assert_eq!((answer.status, answer.ended), (200, Ended::Clean), "{answer}");
    let reading = read(&answer.body);
    assert_eq!(reading.errors.len(), 1, "{answer}");
    assert_eq!(reading.errors[0]["code"], code, "{answer}");
    assert_eq!(reading.errors[0]["type"], "aegis_error", "{answer}");
    assert!(
        reading.errors[0]["message"]
            .as_str()
            .is_some_and(|m| !m.is_empty()),
        "{answer}"
    );
    assert_eq!(reading.finishes, [], "a cut stream does not finish: {answer}");
    assert_eq!((reading.dones, reading.after_error.len()), (1, 0), "{answer}");
    reading
}

/// The answer of a stream that came to its own end.
pub(crate) fn finished(answer: &Answer) -> Reading {
    assert_eq!((answer.status, answer.ended), (200, Ended::Clean), "{answer}");
    let reading = read(&answer.body);
    assert_eq!(
        (reading.errors.len(), reading.finishes.len(), reading.dones),
        (0, 1, 1),
        "{answer}"
    );
    reading
}

/// An answer that came to its end, and looks as if one request had made it.
pub(crate) fn one_answer(answer: &Answer) -> Reading {
    let reading = finished(answer);
    assert_eq!(reading.roles, [0], "{answer}");
    for (name, values) in &reading.names {
        // llama-server stamps each chunk with its own time.
        assert!(values.len() == 1 || name == "created", "{name}: {values:?}");
    }
    assert_eq!(reading.after_done, 0);
    reading
}

/// The last `timings` of an answer.
pub(crate) fn timings(answer: &Answer) -> Value {
    let events = events(&answer.body).into_iter().rev();
    let mut found = events
        .filter_map(|event| serde_json::from_str::<Value>(&event.data).ok())
        .filter_map(|json| json.get("timings").cloned());
    found.next().unwrap_or_else(|| panic!("no timings: {answer}"))
}

/// The content of an answer frame by frame: token by token, as llama-server sends them.
pub(crate) fn tokens(answer: &Answer) -> Vec<String> {
    let events = events(&answer.body).into_iter();
    let frames = events.filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
    let texts = frames.filter_map(|json| json["choices"][0]["delta"]["content"].as_str().map(str::to_owned));
    texts.filter(|text| !text.is_empty()).collect()
}

/// All content of an answer that came to its end.
pub(crate) fn text(answer: &Answer) -> String {
    finished(answer).lane("content").to_owned()
}
