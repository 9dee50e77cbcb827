//! A202 and A203: is silence work or death?
//!
//! Bytes are not progress (servers send pings while nothing happens) and silence is not death (a long prompt takes
//! minutes to read). So after a while without progress the upstream is asked for a sign of life, and only what it says,
//! or that it says nothing, ends a stream.

use crate::error::Code;
use std::time::{Duration, Instant};

/// When to ask and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StallSettings {
    /// Silence before the first token after which the upstream is asked.
    pub first_token_after: Duration,
    /// Silence between tokens after which the upstream is asked.
    pub after: Duration,
    /// Silence that ends the stream when the upstream is up but cannot say what it is working on.
    pub silence_max: Duration,
    /// Answers in a row without work, or with work that does not move, that end the stream.
    pub strikes: u32,
}

impl Default for StallSettings {
    fn default() -> Self {
        Self {
            first_token_after: Duration::from_secs(60),
            after: Duration::from_secs(30),
            silence_max: Duration::from_secs(600),
            strikes: 3,
        }
    }
}

/// What the upstream answered to the heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heartbeat {
    /// `/health` failed; why.
    Dead(String),
    /// `/health` took too long; how. A server whose threads all serve waiting clients does that, too.
    Unanswered(String),
    /// `/health` answers, and the server cannot or will not say what its slots do.
    Alive,
    /// At least one slot works. `work` changes when any slot read prompt tokens or decoded one.
    Busy {
        /// A digest of all slots' counters.
        work: u64,
    },
    /// No slot works: our request was lost.
    Idle,
}

/// Time between two heartbeats when one has found something odd.
const RECHECK: Duration = Duration::from_secs(1);

/// Watches one stream's silence. All times are arguments.
#[derive(Debug, Clone)]
pub struct StallClock {
    settings: StallSettings,
    progress_at: Instant,
    ask_at: Instant,
    asking: bool,
    tokens_seen: bool,
    strikes: u32,
    work: Option<u64>,
}

/// The stream is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// A202 before the first token, A203 after.
    pub code: Code,
    /// One sentence for people.
    pub detail: String,
}

impl StallClock {
    /// Starts when the request has been sent.
    #[must_use]
    pub fn new(settings: StallSettings, now: Instant) -> Self {
        Self {
            settings,
            progress_at: now,
            ask_at: now + settings.first_token_after,
            asking: false,
            tokens_seen: false,
            strikes: 0,
            work: None,
        }
    }

    /// A token came, or another sign that the model itself moved (`token` tells which).
    pub fn progress(&mut self, now: Instant, token: bool) {
        self.tokens_seen |= token;
        self.progress_at = now;
        self.asking = false;
        self.strikes = 0;
        self.work = None;
        self.ask_at = now + self.patience();
    }

    fn patience(&self) -> Duration {
        if self.tokens_seen {
            self.settings.after
        } else {
            self.settings.first_token_after
        }
    }

    /// When [`Self::due`] should be called; `None` while an answer is awaited.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (!self.asking).then_some(self.ask_at)
    }

    /// Whether it is time to ask the upstream. Once it said yes, the answer must come back through
    /// [`Self::heartbeat`].
    pub fn due(&mut self, now: Instant) -> bool {
        if self.asking || now < self.ask_at {
            return false;
        }
        self.asking = true;
        true
    }

    /// The question was dropped before its answer came: it will be asked again.
    pub fn unasked(&mut self, now: Instant) {
        if self.asking {
            self.asking = false;
            self.ask_at = now + self.patience();
        }
    }

    /// The upstream's answer. Ignored when tokens came meanwhile.
    pub fn heartbeat(&mut self, now: Instant, answer: &Heartbeat) -> Option<Stalled> {
        if !self.asking {
            return None;
        }
        self.asking = false;
        let silence = now.saturating_duration_since(self.progress_at);
        match answer {
            Heartbeat::Dead(why) => return Some(self.stalled(silence, why)),
            Heartbeat::Unanswered(why) => return self.strike(now, silence, why, self.patience()),
            Heartbeat::Alive if silence >= self.settings.silence_max => {
                return Some(self.stalled(silence, "the server is up but cannot say what it is doing"));
            }
            Heartbeat::Alive => self.ask_at = now + self.patience(),
            // The slot that moves may be another stream's. While a prompt is read that is all there is to know; once
            // tokens came, ours should not fall silent for so long.
            Heartbeat::Busy { .. } if self.tokens_seen && silence >= self.settings.silence_max => {
                return Some(self.stalled(silence, "the slots that move are those of other requests"));
            }
            Heartbeat::Busy { work } if self.work != Some(*work) => {
                self.work = Some(*work);
                self.strikes = 0;
                self.ask_at = now + self.patience();
            }
            Heartbeat::Busy { .. } => {
                return self.strike(now, silence, "its slots are busy but none moves", self.patience());
            }
            Heartbeat::Idle => return self.strike(now, silence, "none of its slots is working", RECHECK),
        }
        None
    }

    fn strike(&mut self, now: Instant, silence: Duration, why: &str, pause: Duration) -> Option<Stalled> {
        self.strikes += 1;
        if self.strikes >= self.settings.strikes {
            return Some(self.stalled(silence, why));
        }
        self.ask_at = now + pause.min(self.patience());
        None
    }

    fn stalled(&self, silence: Duration, why: &str) -> Stalled {
        let (code, what) = if self.tokens_seen {
            (Code::Stall, "no token")
        } else {
            (Code::FirstTokenStall, "no first token")
        };
        Stalled {
            code,
            detail: format!("{what} for {:.1} s, and {why}", silence.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn clock() -> (StallClock, Instant) {
        let now = Instant::now();
        let settings = StallSettings {
            first_token_after: 60 * S,
            after: 30 * S,
            silence_max: 600 * S,
            strikes: 3,
        };
        (StallClock::new(settings, now), now)
    }

    #[test]
    fn silence_asks_first_and_death_ends_it() {
        let (mut clock, t0) = clock();
        assert_eq!(clock.deadline(), Some(t0 + 60 * S));
        assert!(!clock.due(t0 + 59 * S));
        assert!(clock.due(t0 + 60 * S));
        assert_eq!(clock.deadline(), None, "one question at a time");
        let end = clock
            .heartbeat(t0 + 61 * S, &Heartbeat::Dead("connection refused".into()))
            .unwrap();
        assert_eq!(end.code, Code::FirstTokenStall);
        assert_eq!(end.detail, "no first token for 61.0 s, and connection refused");
    }

    #[test]
    fn a_long_prompt_is_work_for_as_long_as_it_moves() {
        let (mut clock, t0) = clock();
        for i in 1..1000u32 {
            let now = t0 + i * 60 * S;
            assert!(clock.due(now));
            assert_eq!(
                clock.heartbeat(now, &Heartbeat::Busy { work: u64::from(i) }),
                None
            );
        }
        for i in 1000..1002u32 {
            let now = t0 + i * 60 * S;
            assert!(clock.due(now));
            assert_eq!(clock.heartbeat(now, &Heartbeat::Busy { work: 999 }), None);
        }
        assert!(clock.due(t0 + 1002 * 60 * S));
        let end = clock
            .heartbeat(t0 + 1002 * 60 * S, &Heartbeat::Busy { work: 999 })
            .unwrap();
        assert!(end.detail.contains("none moves"));
    }

    #[test]
    fn a_server_that_does_not_answer_gets_as_many_looks() {
        let (mut clock, t0) = clock();
        let late = Heartbeat::Unanswered("late".into());
        for i in 1..3 {
            assert!(clock.due(t0 + i * 60 * S));
            assert_eq!(clock.heartbeat(t0 + i * 60 * S, &late), None);
        }
        assert!(clock.due(t0 + 180 * S));
        assert!(clock.heartbeat(t0 + 180 * S, &late).is_some());
    }

    #[test]
    fn a_question_that_was_dropped_is_asked_again() {
        let (mut clock, t0) = clock();
        assert!(clock.due(t0 + 60 * S));
        clock.unasked(t0 + 61 * S);
        assert_eq!(clock.deadline(), Some(t0 + 121 * S));
    }

    #[test]
    fn idle_slots_end_it_after_three_looks() {
        let (mut clock, t0) = clock();
        clock.progress(t0, true);
        let mut now = t0 + 30 * S;
        for _ in 0..2 {
            assert!(clock.due(now));
            assert_eq!(clock.heartbeat(now, &Heartbeat::Idle), None);
            now += S;
        }
        assert!(clock.due(now));
        assert_eq!(clock.heartbeat(now, &Heartbeat::Idle).unwrap().code, Code::Stall);
    }

    #[test]
    fn a_server_without_slots_gets_until_the_limit() {
        let (mut clock, t0) = clock();
        clock.progress(t0, true);
        let (end, now) = loop {
            let now = clock.deadline().unwrap();
            assert!(clock.due(now));
            if let Some(end) = clock.heartbeat(now, &Heartbeat::Alive) {
                break (end, now);
            }
        };
        assert_eq!((end.code, now), (Code::Stall, t0 + 600 * S));
    }

    #[test]
    fn a_token_makes_an_answer_on_the_way_stale() {
        let (mut clock, t0) = clock();
        assert!(clock.due(t0 + 60 * S));
        clock.progress(t0 + 61 * S, true);
        assert_eq!(clock.heartbeat(t0 + 62 * S, &Heartbeat::Dead("x".into())), None);
        assert_eq!(clock.deadline(), Some(t0 + 91 * S));
    }
}
