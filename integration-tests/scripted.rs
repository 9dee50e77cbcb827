//! The scripted upstream: a raw HTTP/1.1 server that does exactly what its scripts say, faults included, and
//! records what it was asked and how each connection ended.

use crate::probe::{self, Probe};
use crate::script::{EndHow, Framing, Op, Script};
use crate::wire::{BodyWriter, read_request};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Bytes of each answer that are kept for comparison.
const SENT_KEPT_MAX: usize = 4 * 1024 * 1024;

/// How a request ended, from the upstream's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The script ran to its end.
    Served,
    /// The peer closed or reset the connection first.
    PeerLeft,
}

/// One request the upstream got.
#[derive(Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query as they stood in the request line.
    pub target: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body without its chunk framing.
    pub body: Vec<u8>,
    /// When the head was complete.
    pub at: Instant,
    /// Body bytes written so far.
    pub sent_bytes: AtomicU64,
    pub(crate) sent: Mutex<Vec<u8>>,
    pub(crate) ended: Mutex<Option<(Outcome, Instant)>>,
}

impl Seen {
    /// The value of a header, the first where there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The body bytes written, up to 4 MiB.
    #[must_use]
    pub fn sent(&self) -> Vec<u8> {
        self.sent.lock().unwrap().clone()
    }

    /// How and when it ended, `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<(Outcome, Instant)> {
        *self.ended.lock().unwrap()
    }

    /// Waits for the end, at most `limit`.
    pub async fn wait_ended(&self, limit: Duration) -> Option<(Outcome, Instant)> {
        let deadline = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.ended()
    }

    pub(crate) fn record(&self, bytes: &[u8]) {
        self.sent_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        let mut sent = self.sent.lock().unwrap();
        let room = SENT_KEPT_MAX.saturating_sub(sent.len());
        sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<HashMap<String, VecDeque<Script>>>,
    health: Mutex<Probe>,
    slots: Mutex<Probe>,
    looks: AtomicU64,
    split: AtomicUsize,
    seen: Mutex<Vec<Arc<Seen>>>,
    connections: AtomicUsize,
}

/// A running scripted upstream; it stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Starts on a free loopback port. Every path answers 404 until it has a script.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                connections.spawn(serve(stream, served.clone()));
            }
        });
        Self { addr, shared, task }
    }

    /// Starts with one script for every path.
    pub async fn with(script: Script) -> Self {
        let upstream = Self::start().await;
        upstream.script("*", script);
        upstream
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Adds a script for a path (without query), `*` for every other path. Several for one path are used in turn; the
    /// last stays.
    pub fn script(&self, path: &str, script: Script) {
        self.shared
            .scripts
            .lock()
            .unwrap()
            .entry(path.to_owned())
            .or_default()
            .push_back(script);
    }

    /// Forgets the scripts of a path.
    pub fn clear(&self, path: &str) {
        self.shared.scripts.lock().unwrap().remove(path);
    }

    /// From now on body bytes leave in writes of this many bytes, each a chunk of its own; 0 leaves them whole.
    pub fn split(&self, bytes: usize) {
        self.shared.split.store(bytes, Ordering::SeqCst);
    }

    /// How `/health` answers from now on.
    pub fn health(&self, probe: Probe) {
        *self.shared.health.lock().unwrap() = probe;
    }

    /// How `/slots` answers from now on.
    pub fn slots(&self, probe: Probe) {
        *self.shared.slots.lock().unwrap() = probe;
    }

    /// The requests so far, looks at `/health` and `/slots` aside.
    #[must_use]
    pub fn seen(&self) -> Vec<Arc<Seen>> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Looks at `/health` and `/slots` so far.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.shared.looks.load(Ordering::SeqCst)
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits for request number `n` (from 0), at most `limit`.
    pub async fn wait_seen(&self, n: usize, limit: Duration) -> Option<Arc<Seen>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(seen) = self.seen().get(n) {
                return Some(seen.clone());
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Counts a connection as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    Reset,
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let _open = Open(shared.clone());
    stream.set_nodelay(true).ok();
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let (mut reader, mut writer) = stream.split();
        let Ok(Some(seen)) = read_request(&mut reader, &mut buffer).await else {
            return;
        };
        let seen = Arc::new(seen);
        let script = choose(&shared, &seen);
        let split = shared.split.load(Ordering::SeqCst);
        let after = tokio::select! {
            biased;
            played = play(&mut writer, &script, &seen, split) => played.ok(),
            () = peer_gone(&mut reader, &mut buffer) => None,
        };
        let outcome = if after.is_some() {
            Outcome::Served
        } else {
            Outcome::PeerLeft
        };
        *seen.ended.lock().unwrap() = Some((outcome, Instant::now()));
        match after {
            Some(After::KeepAlive) => {}
            Some(After::Reset) => {
                stream.set_zero_linger().ok();
                return;
            }
            Some(After::Close) | None => return,
        }
    }
}

/// The script for a request. Looks at `/health` and `/slots` are answered by their probes unless scripted.
fn choose(shared: &Shared, seen: &Arc<Seen>) -> Script {
    let path = seen.target.split('?').next().unwrap_or_default();
    let mut scripts = shared.scripts.lock().unwrap();
    if !scripts.contains_key(path) {
        match path {
            "/health" => {
                shared.looks.fetch_add(1, Ordering::SeqCst);
                return probe::answer(*shared.health.lock().unwrap(), br#"{"status":"ok"}"#);
            }
            "/slots" => {
                let look = shared.looks.fetch_add(1, Ordering::SeqCst);
                let how = *shared.slots.lock().unwrap();
                return probe::answer(how, probe::slots(how, look).as_bytes());
            }
            _ => {}
        }
    }
    shared.seen.lock().unwrap().push(seen.clone());
    let queue = match scripts.get_mut(path) {
        Some(queue) => Some(queue),
        None => scripts.get_mut("*"),
    };
    match queue {
        Some(queue) if queue.len() > 1 => queue.pop_front().expect("more than one"),
        Some(queue) if !queue.is_empty() => queue[0].clone(),
        _ => {
            let body = br#"{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}"#;
            Script::answer(404, "application/json; charset=utf-8", Framing::Length, body)
        }
    }
}

/// Resolves when the peer has closed. Bytes that come meanwhile are kept for the next request.
async fn peer_gone(reader: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) {
    while matches!(reader.read_buf(buffer).await, Ok(n) if n > 0) {}
}

async fn play(writer: &mut WriteHalf<'_>, script: &Script, seen: &Seen, split: usize) -> io::Result<After> {
    tokio::time::sleep(Duration::from_millis(script.head_after_ms)).await;
    match script.no_head {
        Some(EndHow::Reset) => return Ok(After::Reset),
        Some(EndHow::Hang) => return std::future::pending().await,
        Some(EndHow::Drop | EndHow::Close) => return Ok(After::Close),
        None => {}
    }
    let ops = script.render();
    writer.write_all(head(script, &ops).as_bytes()).await?;
    if seen.method == "HEAD" {
        return Ok(After::KeepAlive);
    }
    let chunked = script.framing == Framing::Chunked && !bodiless(script.status);
    let mut body = BodyWriter {
        writer,
        seen,
        chunked,
        split,
    };
    for op in &ops {
        match op {
            Op::Write(bytes) => body.write(bytes).await?,
            Op::Sleep(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Op::Flood(bytes) => body.flood(script, *bytes).await?,
            Op::BigLine(bytes) => body.big_line(*bytes).await?,
            Op::End(EndHow::Hang) => return std::future::pending().await,
            Op::End(EndHow::Reset) => return Ok(After::Reset),
            Op::End(EndHow::Drop) => return Ok(After::Close),
            Op::End(EndHow::Close) => break,
        }
    }
    if chunked {
        body.writer.write_all(b"0\r\n\r\n").await?;
    }
    let closes = script.framing == Framing::Eof
        || script
            .headers
            .iter()
            .any(|(n, v)| n.eq_ignore_ascii_case("connection") && v.contains("close"));
    Ok(if closes { After::Close } else { After::KeepAlive })
}

const fn bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn head(script: &Script, ops: &[Op]) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", script.status);
    let mut line = |name: &str, value: &str| write!(head, "{name}: {value}\r\n").expect("a String takes it");
    if !script
        .headers
        .iter()
        .any(|(n, _)| n.eq_ignore_ascii_case("content-type"))
        && !bodiless(script.status)
    {
        line("content-type", "text/event-stream");
    }
    for (name, value) in &script.headers {
        line(name, value);
    }
    match script.framing {
        _ if bodiless(script.status) => {}
        Framing::Chunked => line("transfer-encoding", "chunked"),
        Framing::Length => {
            let written: usize = ops
                .iter()
                .map(|op| if let Op::Write(b) = op { b.len() } else { 0 })
                .sum();
            // A body that breaks off must be shorter than it was announced.
            let missing = if matches!(ops.last(), Some(Op::End(EndHow::Close)) | None) {
                0
            } else {
                1000
            };
            line("content-length", &(written + missing).to_string());
        }
        Framing::Eof => line("connection", "close"),
    }
    head.push_str("\r\n");
    head
}
