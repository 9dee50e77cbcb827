//! The primary's slots: who is being served, how far the prompt and the answer are. `/slots` shows exactly this.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Slots of the primary; further requests wait for one, without headers, as in llama-server.
pub(super) const SLOTS: usize = 8;

/// Tokens of a prompt that are processed at a time.
const BATCH: u64 = 512;

/// Context of each slot, in tokens.
pub(super) const CONTEXT: u64 = 32_768;

/// What a request tells the slots about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) choices: usize,
    pub(super) prompt_tokens: u64,
    pub(super) prompt_time: Duration,
    pub(super) max_tokens: Option<usize>,
    pub(super) stream: bool,
}

#[derive(Debug)]
struct Slot {
    /// The task served now, or last; none on a fresh slot.
    task: Option<(u64, Task)>,
    busy: bool,
    /// A claim holds it. A wedged slot is taken and not busy.
    taken: bool,
    since: Instant,
    generating: bool,
    decoded: u64,
}

/// The table of slots, shared by all requests of one primary.
#[derive(Debug)]
pub(super) struct Slots {
    table: Mutex<Vec<Slot>>,
    free: Arc<Semaphore>,
    next_task: std::sync::atomic::AtomicU64,
}

impl Slots {
    /// A table of [`SLOTS`] fresh slots.
    pub(super) fn new() -> Arc<Self> {
        let fresh = || Slot {
            task: None,
            busy: false,
            taken: false,
            since: Instant::now(),
            generating: false,
            decoded: 0,
        };
        Arc::new(Self {
            table: Mutex::new((0..SLOTS).map(|_| fresh()).collect()),
            free: Arc::new(Semaphore::new(SLOTS)),
            next_task: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// The table holds plain numbers, so a panic elsewhere cannot leave it half changed.
    fn table(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot for each choice of `task`. `None` only when the semaphore is closed, which nobody does.
    pub(super) async fn claim(self: &Arc<Self>, task: Task) -> Option<Claim> {
        let permit = Arc::clone(&self.free)
            .acquire_many_owned(task.choices as u32)
            .await
            .ok()?;
        let first = self
            .next_task
            .fetch_add(task.choices as u64, std::sync::atomic::Ordering::Relaxed);
        let mut taken = Vec::with_capacity(task.choices);
        for (id, slot) in self
            .table()
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| !s.taken)
            .take(task.choices)
        {
            let number = first + taken.len() as u64;
            *slot = Slot {
                task: Some((number, task)),
                busy: true,
                taken: true,
                since: Instant::now(),
                generating: false,
                decoded: 0,
            };
            taken.push(id);
        }
        Some(Claim {
            slots: Arc::clone(self),
            taken,
            _permit: permit,
        })
    }

    /// The body of `/slots`.
    pub(super) fn to_json(&self) -> Value {
        Value::Array(
            self.table()
                .iter()
                .enumerate()
                .map(|(id, slot)| slot.to_json(id))
                .collect(),
        )
    }
}

impl Slot {
    fn to_json(&self, id: usize) -> Value {
        let Some((number, task)) = self.task else {
            return json!({"id": id, "n_ctx": CONTEXT, "speculative": false, "is_processing": false});
        };
        let limit = task.max_tokens.map_or(-1, |n| n as i64);
        let remaining = if limit < 0 {
            -1
        } else {
            limit - self.decoded as i64
        };
        json!({
            "id": id,
            "n_ctx": CONTEXT,
            "speculative": false,
            "is_processing": self.busy,
            "id_task": number,
            "n_prompt_tokens": task.prompt_tokens,
            "n_prompt_tokens_processed": self.processed(&task),
            "n_prompt_tokens_cache": 0,
            "params": {"max_tokens": limit, "n_predict": limit, "stream": task.stream},
            "next_token": [{"has_next_token": self.busy && self.generating, "has_new_line": false,
                "n_remain": remaining, "n_decoded": self.decoded}],
        })
    }

    /// Prompt tokens processed: whole batches while it lasts.
    fn processed(&self, task: &Task) -> u64 {
        if !self.busy || self.generating || task.prompt_time.is_zero() {
            return if self.busy { task.prompt_tokens } else { 0 };
        }
        let part = self.since.elapsed().as_secs_f64() / task.prompt_time.as_secs_f64();
        let tokens = (task.prompt_tokens as f64 * part.min(1.0)) as u64;
        tokens / BATCH * BATCH
    }
}

/// The slots of one request; they are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    slots: Arc<Slots>,
    taken: Vec<usize>,
    _permit: OwnedSemaphorePermit,
}

impl Claim {
    fn each(&self, change: impl Fn(usize, &mut Slot)) {
        let mut table = self.slots.table();
        for (choice, id) in self.taken.iter().enumerate() {
            change(choice, &mut table[*id]);
        }
    }

    /// The prompt is processed; tokens come now.
    pub(super) fn generating(&self) {
        self.each(|_, slot| slot.generating = true);
    }

    /// Choice `choice` has `decoded` tokens.
    pub(super) fn decoded(&self, choice: usize, decoded: usize) {
        self.each(|c, slot| {
            if c == choice {
                slot.decoded = decoded as u64;
            }
        });
    }

    /// The primary has lost this request: its slots look idle, though nobody gets them as long as the client stays.
    pub(super) fn wedge(&self) {
        self.each(|_, slot| slot.busy = false);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.each(|_, slot| {
            slot.busy = false;
            slot.taken = false;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(choices: usize) -> Task {
        Task {
            choices,
            prompt_tokens: 2_048,
            prompt_time: Duration::from_secs(4),
            max_tokens: Some(9),
            stream: true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_true_to_what_runs() {
        let slots = Slots::new();
        assert!(
            slots.to_json()[0].get("id_task").is_none(),
            "a fresh slot has no task"
        );
        let claim = slots.claim(task(2)).await.expect("a free slot");
        tokio::time::advance(Duration::from_millis(2_100)).await;
        assert_eq!(slots.to_json()[1]["n_prompt_tokens_processed"], 1_024);
        claim.generating();
        claim.decoded(1, 4);
        let now = slots.to_json();
        assert_eq!(now[1]["next_token"][0]["n_decoded"], 4);
        assert_eq!(now[1]["next_token"][0]["n_remain"], 5);
        assert_eq!(now[1]["n_prompt_tokens_processed"], 2_048);
        assert_eq!(
            (&now[0]["is_processing"], &now[2]["is_processing"]),
            (&json!(true), &json!(false))
        );
        drop(claim);
        assert_eq!(slots.to_json()[1]["is_processing"], false);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wedged_slot_looks_idle_and_is_not_given_away() {
        let slots = Slots::new();
        let lost = slots.claim(task(1)).await.expect("a free slot");
        lost.wedge();
        assert_eq!(slots.to_json()[0]["is_processing"], false);
        let all_others = slots.claim(task(SLOTS - 1)).await.expect("the other slots");
        assert!(!all_others.taken.contains(&0));
        drop(lost);
        let again = slots.claim(task(1)).await.expect("the slot is free again");
        assert_eq!(again.taken, [0]);
    }
}
