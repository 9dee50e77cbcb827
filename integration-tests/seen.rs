//! What the scripted upstream saw of one request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    pub(crate) answered: Mutex<Option<Instant>>,
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

    /// When the head of its answer began to be written, `None` before that.
    #[must_use]
    pub fn answered(&self) -> Option<Instant> {
        *self.answered.lock().unwrap()
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
