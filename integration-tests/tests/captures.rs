//! Streams of a real llama-server, recorded byte for byte, pass through Aegis unchanged.
//!
//! The recordings lie outside the project: `../shared/data/captures`, or below `AEGIS_SHARED_DATA`. Without them the
//! test prints why it does nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::client::{self, Ended, Manner, Request};
use aegis_integration_tests::events;
use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::script::{Framing, Script};
use aegis_integration_tests::scripted::Upstream;
use aegis_integration_tests::verdict::diff;
use std::path::{Path, PathBuf};

/// What must come of a recording under the default policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The same bytes.
    Same,
    /// The model's own fault: cut with this code; in shadow mode the same bytes.
    Cut(&'static str),
}

/// Recordings whose model really fails. All others must pass.
const FAULTY: &[(&str, Outcome)] = &[
    // The token limit of 40 ends the answer inside the object that the request asked for.
    ("chat_stream_jsonobject", Outcome::Cut("A103_truncated_json")),
    // A call whose arguments end after the first brace, because the tokens were used up.
    ("chat_stream_tools_finish", Outcome::Cut("A104_tool_arguments")),
    // The server reports an error while a tool call is held back: the half call must not come out.
    ("midstream_error_rawwire", Outcome::Cut("A204_upstream_lost")),
];

fn captures() -> Option<PathBuf> {
    let data = std::env::var_os("AEGIS_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("captures");
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: {} is not there (AEGIS_SHARED_DATA names its parent)",
        folder.display()
    );
    None
}

/// The path a recording was made on, by its name.
fn path_of(name: &str) -> &'static str {
    match name.split('_').next().unwrap_or_default() {
        "completions" => "/v1/completions",
        "completion" => "/completion",
        "responses" => "/v1/responses",
        "messages" => "/v1/messages",
        _ => "/v1/chat/completions",
    }
}

struct Capture {
    name: String,
    body: Vec<u8>,
    request: Vec<u8>,
}

/// All recordings of streams. Those whose body was recorded with its chunk framing are decoded.
fn streams(folder: &Path) -> Vec<Capture> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".v.txt") else {
            continue;
        };
        let head = std::fs::read_to_string(entry.path())
            .unwrap_or_default()
            .to_ascii_lowercase();
        if !head.contains("content-type: text/event-stream") {
            continue;
        }
        let mut body = std::fs::read(folder.join(format!("{name}.txt"))).unwrap();
        if !body.starts_with(b"data:") && !body.starts_with(b"event:") && !body.starts_with(b":") {
            body = unchunk(&body);
        }
        let request = std::fs::read(folder.join(format!("{name}.req.json"))).unwrap_or_else(|_| {
            br#"{"messages":[{"role":"user","content":"What is a license?"}],"stream":true}"#.to_vec()
        });
        found.push(Capture {
            name: name.to_owned(),
            body,
            request,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn unchunk(mut wire: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = memchr::memmem::find(wire, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).unwrap().trim(), 16).unwrap();
        body.extend_from_slice(&wire[end + 2..end + 2 + size]);
        wire = &wire[(end + 2 + size + 2).min(wire.len())..];
    }
    body
}

async fn replay(aegis: &Aegis, upstream: &Upstream, capture: &Capture, split: usize) -> client::Answer {
    upstream.clear("*");
    upstream.script(
        "*",
        Script::answer(200, "text/event-stream", Framing::Chunked, &capture.body),
    );
    upstream.split(split);
    let request = Request::post(path_of(&capture.name), capture.request.clone());
    client::send(aegis.addr(), &request, Manner::default()).await
}

#[tokio::test]
async fn recorded_streams_pass_unchanged_or_fail_for_their_own_fault() {
    let Some(folder) = captures() else { return };
    let captures = streams(&folder);
    assert!(
        captures.len() >= 30,
        "only {} recordings of streams",
        captures.len()
    );
    let upstream = Upstream::start().await;
    let enforcing = Aegis::in_front_of_script(&upstream.url(), "").await;
    let shadowing = Aegis::in_front_of_script(&upstream.url(), "[policy]\nmode = \"shadow\"").await;
    let mut complaints = Vec::new();
    for capture in &captures {
        let expected = FAULTY
            .iter()
            .find(|(name, _)| *name == capture.name)
            .map_or(Outcome::Same, |(_, o)| *o);
        for split in [0, 7, 1] {
            let shadowed = replay(&shadowing, &upstream, capture, split).await;
            if shadowed.body != capture.body || shadowed.ended != Ended::Clean {
                let parts = diff(&capture.body, &shadowed.body);
                complaints.push(format!(
                    "{} in shadow mode, pieces of {split}, ended {:?}:\n{parts}",
                    capture.name, shadowed.ended
                ));
            }
            let answer = replay(&enforcing, &upstream, capture, split).await;
            let right = match expected {
                Outcome::Same => answer.body == capture.body,
                Outcome::Cut(code) => {
                    answer.error_code().as_deref() == Some(code) && prefixes(&answer.body, &capture.body)
                }
            };
            if !right || answer.ended != Ended::Clean {
                let parts = diff(&capture.body, &answer.body);
                complaints.push(format!(
                    "{}, pieces of {split}, ended {:?}:\n{parts}",
                    capture.name, answer.ended
                ));
            }
        }
        println!(
            "{:40} {:6} bytes  {:22} {expected:?}",
            capture.name,
            capture.body.len(),
            path_of(&capture.name)
        );
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Every lane that came out is the beginning of the recorded one.
fn prefixes(got: &[u8], recorded: &[u8]) -> bool {
    let (got, recorded) = (events::read(got), events::read(recorded));
    got.lanes
        .iter()
        .all(|(lane, text)| recorded.lane(lane).starts_with(text.as_str()))
}

#[tokio::test]
async fn recordings_reach_the_client_through_the_harness() {
    let Some(folder) = captures() else { return };
    for capture in streams(&folder).iter().take(8) {
        for split in [0, 7, 1] {
            let upstream = Upstream::with(Script::answer(
                200,
                "text/event-stream",
                Framing::Chunked,
                &capture.body,
            ))
            .await;
            upstream.split(split);
            let request = Request::post(path_of(&capture.name), capture.request.clone());
            let answer = client::send(upstream.addr(), &request, Manner::default()).await;
            assert_eq!(answer.ended, Ended::Clean, "{}", capture.name);
            assert!(
                answer.body == capture.body,
                "{}:\n{}",
                capture.name,
                diff(&capture.body, &answer.body)
            );
        }
    }
}
