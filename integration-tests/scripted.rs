//! The scripted upstream: a raw HTTP/1.1 server that does exactly what its scripts say, faults included, and
//! records what it was asked and how each connection ended.

use crate::outage::{self, Gone};
use crate::play::{After, play};
use crate::probe::{self, Probe};
use crate::refusal::Refusal;
use crate::script::{Framing, Script};
pub use crate::seen::{Outcome, Seen};
use crate::wire::read_request;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Paths at which a server says what it is.
const SELF_DESCRIPTIONS: &[&str] = &["/props", "/v1/models"];

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<HashMap<String, VecDeque<Script>>>,
    health: Mutex<Probe>,
    slots: Mutex<Probe>,
    looks: AtomicU64,
    split: AtomicUsize,
    seen: Mutex<Vec<Arc<Seen>>>,
    connections: AtomicUsize,
    /// What the server says of itself, by path; `None` where those paths are like any other.
    describes: Mutex<Option<HashMap<String, String>>>,
    refusals: Mutex<Vec<Refusal>>,
    loading_until: Mutex<Option<Instant>>,
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
        let task = tokio::spawn(accept(listener, shared.clone()));
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

    /// The answers to all other paths from now on, in the order of the requests; the last is repeated.
    pub fn answers(&self, scripts: &[Script]) {
        let numbered = (1..).zip(scripts).map(|(number, script)| Script {
            number,
            ..script.clone()
        });
        self.shared
            .scripts
            .lock()
            .unwrap()
            .insert("*".to_owned(), numbered.collect());
    }

    /// From now on `/props` and `/v1/models` are the server's words about itself, 404 where none are given; such looks are
    /// not among the requests.
    pub fn describes(&self, by_path: HashMap<String, String>) {
        *self.shared.describes.lock().unwrap() = Some(by_path);
    }

    /// Requests like these are refused from now on. They are among the requests, and use up no script.
    pub fn refuses(&self, refusals: &[Refusal]) {
        *self.shared.refusals.lock().unwrap() = refusals.to_vec();
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

/// Accepts connections, and stops for a while where a script says so.
async fn accept(mut listener: TcpListener, shared: Arc<Shared>) {
    let addr = listener.local_addr().expect("a bound socket has an address");
    let (gone, mut outages) = mpsc::channel::<Duration>(1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(time) = outages.recv() => {
                // New connections are refused before the old ones break, or a quick peer would find the door still open.
                drop(listener);
                let port = outage::occupy(addr).expect("the port is still ours");
                connections.shutdown().await;
                tokio::time::sleep(time).await;
                listener = outage::reopen(port).expect("the port is ours");
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, shared.clone(), gone.clone()))),
                Err(_) => return,
            }
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>, gone: mpsc::Sender<Duration>) {
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
        if let Some(outage) = script.then_down.filter(|_| after.is_some()) {
            if after == Some(After::Reset) {
                stream.set_zero_linger().ok();
            }
            let time = Duration::from_millis(outage.ms);
            match outage.how {
                Gone::Loading => *shared.loading_until.lock().unwrap() = Some(Instant::now() + time),
                Gone::Refused => {
                    gone.send(time).await.ok();
                    // This connection is closed with all the others.
                    std::future::pending::<()>().await;
                }
            }
        }
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
    if shared
        .loading_until
        .lock()
        .unwrap()
        .is_some_and(|until| Instant::now() < until)
    {
        return probe::answer(Probe::Unavailable, b"");
    }
    if SELF_DESCRIPTIONS.contains(&path)
        && let Some(words) = &*shared.describes.lock().unwrap()
    {
        let (status, body) = words.get(path).map_or((404, "{}"), |body| (200, body.as_str()));
        return Script::answer(
            status,
            "application/json; charset=utf-8",
            Framing::Length,
            body.as_bytes(),
        );
    }
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
    if let Some(refusal) = shared
        .refusals
        .lock()
        .unwrap()
        .iter()
        .find(|r| r.concerns(&seen.body))
    {
        return refusal.answer();
    }
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
