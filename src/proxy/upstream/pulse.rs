//! Signs of life of the upstream: `/health`, and `/slots` where there is one.

use super::base::BaseUrl;
use super::client::UpstreamClient;
use super::inquiry::{Inquiry, Key, Silent};
use crate::limits::{BYTES_RECENT, HEALTH, HEARTBEAT_SHARED, SLOTS};
use aegis_core::stall::Heartbeat;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// When the upstream last sent bytes of any guarded answer; shared by all workers.
pub(crate) struct LastBytes {
    started: Instant,
    at_ms: AtomicU64,
}

impl LastBytes {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            at_ms: AtomicU64::new(0),
        }
    }

    /// Bytes came. Written at most every tenth of a second, so that workers do not fight for the memory.
    pub(crate) fn note(&self, now: Instant) {
        const STEP_MS: u64 = 100;
        let ms = now.saturating_duration_since(self.started).as_millis() as u64;
        if ms > self.at_ms.load(Relaxed) + STEP_MS {
            self.at_ms.store(ms, Relaxed);
        }
    }

    fn within(&self, time: Duration) -> bool {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let at_ms = self.at_ms.load(Relaxed);
        at_ms > 0 && now_ms.saturating_sub(at_ms) < time.as_millis() as u64
    }
}

/// Asks the upstream how it is; one answer serves all streams that ask at about the same time.
pub(crate) struct Pulse {
    client: Arc<UpstreamClient>,
    base: BaseUrl,
    bytes: Arc<LastBytes>,
    last: Mutex<Option<(Instant, Heartbeat)>>,
}

/// Whether the upstream takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Yes,
    No,
}

impl Pulse {
    pub(crate) fn new(client: Arc<UpstreamClient>, base: BaseUrl, bytes: Arc<LastBytes>) -> Self {
        Self {
            client,
            base,
            bytes,
            last: Mutex::new(None),
        }
    }

    /// Takes the pulse, or shares one that was just taken. `key` is the client's, for servers that guard `/slots`
    /// with it.
    pub(crate) async fn take(&self, key: Option<&Key>) -> Heartbeat {
        let mut last = self.last.lock().await;
        if let Some((at, heartbeat)) = &*last
            && at.elapsed() < HEARTBEAT_SHARED
        {
            return heartbeat.clone();
        }
        let heartbeat = self.ask(key).await;
        tracing::debug!(?heartbeat, "heartbeat");
        *last = Some((Instant::now(), heartbeat.clone()));
        heartbeat
    }

    /// Whether the upstream takes requests: it answers `/health`, and neither it (503 while it loads) nor a proxy before it
    /// (502, 504) says that it is not there. Servers without such a path are ready when they say so.
    pub(crate) async fn ready(&self, key: Option<&Key>) -> Ready {
        match self.inquiry(key).get("/health", HEALTH).await {
            Ok(reply) if !reply.status.is_server_error() => Ready::Yes,
            // Its threads are all taken, and it works.
            Err(Silent::Late(_)) if self.bytes.within(BYTES_RECENT) => Ready::Yes,
            _ => Ready::No,
        }
    }

    async fn ask(&self, key: Option<&Key>) -> Heartbeat {
        // Any answer is a sign of life, also a 404 of a server without this path or a 503 while a model loads.
        match self.inquiry(key).get("/health", HEALTH).await {
            Err(Silent::Failed(why)) => return Heartbeat::Dead(why),
            // llama-server's threads are all taken when many clients queue; one that still sends is not dead.
            Err(_) if self.bytes.within(BYTES_RECENT) => return Heartbeat::Alive,
            Err(Silent::Late(why) | Silent::Unconnected(why)) => return Heartbeat::Unanswered(why),
            Ok(_) => {}
        }
        match self.inquiry(key).get("/slots", SLOTS).await {
            Ok(reply) if reply.status == StatusCode::OK => read_slots(&reply.body),
            // No such path, not allowed, or too busy with a batch to say.
            _ => Heartbeat::Alive,
        }
    }

    fn inquiry<'a>(&'a self, key: Option<&'a Key>) -> Inquiry<'a> {
        Inquiry {
            client: &self.client,
            base: &self.base,
            key,
        }
    }
}

/// One entry of llama-server's `/slots`.
#[derive(Deserialize)]
struct Slot {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    is_processing: bool,
    #[serde(default)]
    id_task: Value,
    #[serde(default)]
    n_prompt_tokens_processed: Value,
    /// Holds `n_decoded`; an object in some builds, an array in others.
    #[serde(default)]
    next_token: Value,
}

fn read_slots(body: &[u8]) -> Heartbeat {
    let Ok(slots) = serde_json::from_slice::<Vec<Slot>>(body) else {
        return Heartbeat::Alive;
    };
    if slots.is_empty() {
        return Heartbeat::Alive;
    }
    let mut busy = false;
    let mut work = DefaultHasher::new();
    for slot in slots.iter().filter(|slot| slot.is_processing) {
        busy = true;
        for part in [
            &slot.id,
            &slot.id_task,
            &slot.n_prompt_tokens_processed,
            &slot.next_token,
        ] {
            part.to_string().hash(&mut work);
        }
    }
    if busy {
        Heartbeat::Busy { work: work.finish() }
    } else {
        Heartbeat::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_tell_work_from_idleness() {
        let slot = |busy: bool, read: u32, decoded: u32| {
            format!(
                r#"[{{"id":0,"is_processing":{busy},"id_task":4,"n_prompt_tokens_processed":{read},"next_token":[{{"n_decoded":{decoded}}}]}},{{"id":1,"is_processing":false}}]"#
            )
        };
        let beat = |s: String| read_slots(s.as_bytes());
        assert_eq!(beat(slot(false, 1, 1)), Heartbeat::Idle);
        assert!(matches!(beat(slot(true, 1, 1)), Heartbeat::Busy { .. }));
        assert_eq!(beat(slot(true, 1, 1)), beat(slot(true, 1, 1)));
        assert_ne!(beat(slot(true, 1, 1)), beat(slot(true, 2, 1)));
        assert_ne!(beat(slot(true, 1, 1)), beat(slot(true, 1, 2)));
        assert_eq!(read_slots(b"{\"error\":1}"), Heartbeat::Alive);
        assert_eq!(read_slots(b"[]"), Heartbeat::Alive);
    }
}
