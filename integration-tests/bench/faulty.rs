//! An upstream that says something known for each request, and fails at it where the request's model name says so: a
//! connection that breaks, a loop, a broken tool call. Asked again (with a prefill, or with a correction in the last user
//! message), it goes on where the prefill ends and makes no fault.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::{At as _, Failure, failure};
use crate::text::Deck;

/// Tokens of an answer.
pub(crate) const TOKENS: usize = 60;
/// Tokens after which a fault happens.
const FAULT_AFTER: usize = 20;
/// Pause between two tokens.
const GAP: Duration = Duration::from_millis(10);
/// What a loop repeats.
pub(crate) const LOOP: &str =
    " I will look at the file once more, to be quite sure that it is what I think it is.";
/// Repeats that are said before the upstream gives up.
const LOOP_TIMES: usize = 30;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    None,
    Drop,
    Loop,
    Tool,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Drop, Self::Loop, Self::Tool];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Drop => "drop",
            Self::Loop => "loop",
            Self::Tool => "tool",
        }
    }
}

/// The answer to request `number`: what its client must get, but for a loop.
pub(crate) fn answer(number: u64) -> Vec<String> {
    let mut deck = Deck::new(number);
    (0..TOKENS)
        .map(|_| {
            let (space, word) = deck.next_token();
            format!("{space}{word}")
        })
        .collect()
}

/// The text before a loop.
pub(crate) fn before_loop(number: u64) -> String {
    answer(number)[..FAULT_AFTER].concat()
}

/// How a loop ends that is corrected behind `kept` bytes of text. It names them, so that a repeat too much or too few in
/// what the client gets cannot hide among the others.
pub(crate) fn loop_end(kept: usize) -> String {
    format!(" So much for the first {kept} bytes.")
}

/// The arguments of a sound tool call.
pub(crate) fn arguments(number: u64) -> String {
    format!("{{\"path\": \"file-{number}.txt\"}}")
}

/// A running upstream.
pub(crate) struct Faulty {
    pub(crate) address: SocketAddr,
    /// Answers that are being written.
    active: Arc<AtomicUsize>,
    /// Requests served.
    served: Arc<AtomicUsize>,
}

impl Faulty {
    /// Starts it on a thread of its own, which lives as long as the process.
    pub(crate) fn start() -> Result<Self, Failure> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).at("faulty upstream")?;
        listener.set_nonblocking(true).at("faulty upstream")?;
        let address = listener.local_addr().at("faulty upstream")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .at("faulty upstream")?;
        let (active, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (in_progress, done) = (Arc::clone(&active), Arc::clone(&served));
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                while let Ok((socket, _)) = listener.accept().await {
                    let (in_progress, done) = (Arc::clone(&in_progress), Arc::clone(&done));
                    // A connection that fails is the client's to notice.
                    tokio::spawn(async move { connection(socket, &in_progress, &done).await.is_ok() });
                }
            });
        });
        Ok(Self {
            address,
            active,
            served,
        })
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// Counts an answer for as long as it is written.
struct Active<'a>(&'a AtomicUsize);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(
    mut socket: TcpStream,
    active: &AtomicUsize,
    served: &AtomicUsize,
) -> Result<(), Failure> {
    socket.set_nodelay(true).at("TCP_NODELAY")?;
    let mut seen = Vec::new();
    while let Some((target, body)) = request(&mut socket, &mut seen).await? {
        if !target.ends_with("/completions") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            socket.write_all(head).await.at("write")?;
            continue;
        }
        active.fetch_add(1, Ordering::Relaxed);
        let _counted = Active(active);
        served.fetch_add(1, Ordering::Relaxed);
        let plan = plan(&body)?;
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head).await.at("write")?;
        let id = format!("chatcmpl-{}", served.load(Ordering::Relaxed));
        for delta in &plan.deltas {
            write(&mut socket, &id, delta, &Value::Null).await?;
            tokio::time::sleep(GAP).await;
        }
        let Some(reason) = plan.finish else {
            // The fault: the connection breaks.
            return Ok(());
        };
        write(&mut socket, &id, &json!({}), &json!(reason)).await?;
        socket
            .write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            .await
            .at("write")?;
    }
    Ok(())
}

async fn write(socket: &mut TcpStream, id: &str, delta: &Value, finish: &Value) -> Result<(), Failure> {
    let data = json!({"id":id,"object":"chat.completion.chunk","created":1_779_000_000,"model":"bench-7b",
        "choices":[{"index":0,"delta":delta,"finish_reason":finish}]});
    let frame = format!("data: {data}\n\n");
    let chunk = format!("{:x}\r\n{frame}\r\n", frame.len());
    socket.write_all(chunk.as_bytes()).await.at("write")
}

/// Reads one request: its target and its body.
async fn request(socket: &mut TcpStream, seen: &mut Vec<u8>) -> Result<Option<(String, Value)>, Failure> {
    loop {
        if let Some(end) = memchr::memmem::find(seen, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(Ok(0), |value| value.trim().parse::<usize>())
                .at("content-length")?;
            if seen.len() >= end + 4 + length {
                let target = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
                let body = serde_json::from_slice(&seen[end + 4..end + 4 + length]).unwrap_or_default();
                seen.drain(..end + 4 + length);
                return Ok(Some((target, body)));
            }
        }
        if socket.read_buf(seen).await.at("read")? == 0 {
            return Ok(None);
        }
    }
}

/// What is said, and how it ends; without a finish the connection breaks.
struct Plan {
    deltas: Vec<Value>,
    finish: Option<&'static str>,
}

fn plan(body: &Value) -> Result<Plan, Failure> {
    let model = body["model"].as_str().unwrap_or_default();
    let (fault, number) = model.split_once('-').unwrap_or(("none", "0"));
    let number: u64 = number.parse().at("model")?;
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let prefill = messages
        .last()
        .filter(|last| last["role"] == "assistant")
        .and_then(|last| last["content"].as_str());
    let corrected = body.to_string().contains("[Note: a first attempt");
    let mut deltas = vec![json!({"role":"assistant","content":null})];
    let say = |text: &str| json!({"content": text});
    let tokens = answer(number);
    if fault == "tool" {
        let arguments = if corrected {
            arguments(number)
        } else {
            "{\"path\": }".to_owned()
        };
        let call = |function: Value| json!({"tool_calls":[{"index":0,"id":format!("call_{number}"),"type":"function","function":function}]});
        deltas.push(call(json!({"name":"read_file","arguments":""})));
        for piece in arguments.split_inclusive(' ') {
            deltas.push(json!({"tool_calls":[{"index":0,"function":{"arguments":piece}}]}));
        }
        let finish = Some("tool_calls");
        return Ok(Plan { deltas, finish });
    }
    match (fault, prefill) {
        ("loop", Some(prefill)) if corrected => {
            let repeats = prefill.strip_prefix(&before_loop(number));
            if !repeats.is_some_and(|said| LOOP.repeat(LOOP_TIMES).starts_with(said)) {
                return failure(format!("a prefill that was never said: {prefill:?}"));
            }
            deltas.push(say(&loop_end(prefill.len())));
            return Ok(Plan {
                deltas,
                finish: Some("stop"),
            });
        }
        ("loop", _) => {
            deltas.extend(tokens[..FAULT_AFTER].iter().map(|t| say(t)));
            for word in LOOP.repeat(LOOP_TIMES).split_whitespace() {
                deltas.push(say(&format!(" {word}")));
            }
        }
        (_, Some(prefill)) => {
            let all = tokens.concat();
            let Some(rest) = all.strip_prefix(prefill) else {
                return failure(format!("a prefill that was never said: {prefill:?}"));
            };
            let at = all.len() - rest.len();
            let mut length = 0;
            for token in &tokens {
                if length >= at {
                    deltas.push(say(token));
                }
                length += token.len();
            }
        }
        ("drop", None) => {
            deltas.extend(tokens[..FAULT_AFTER].iter().map(|t| say(t)));
            return Ok(Plan { deltas, finish: None });
        }
        _ => deltas.extend(tokens.iter().map(|t| say(t))),
    }
    Ok(Plan {
        deltas,
        finish: Some("stop"),
    })
}
