//! A guarded stream: drives the sans-IO relay from the task that writes to the client.

use crate::app::App;
use crate::http::rescue::Failure;
use crate::incidents::Subject;
use crate::upstream::client::{Cause, UpstreamBody};
use crate::upstream::pulse::root_cause;
use aegis_core::decide::decide;
use aegis_core::error::Code;
use aegis_core::incident::Incident;
use aegis_core::limits::OUTPUT_BYTES_MAX;
use aegis_core::relay::{End, Relay, UpstreamEnd};
use aegis_core::request::RequestFacts;
use aegis_core::stall::{Heartbeat, Stalled};
use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use uuid::Uuid;

/// What belongs to one guarded call from its request to its last byte.
pub(crate) struct Session {
    pub(crate) app: Arc<App>,
    pub(crate) request_id: Uuid,
    /// The client's `Authorization`, for heartbeats to servers that want it.
    pub(crate) key: Option<HeaderValue>,
    pub(crate) facts: Arc<RequestFacts>,
}

impl Session {
    /// Records an incident of this call.
    pub(crate) fn record(&self, model: Option<&str>, incident: &Incident) {
        let subject = Subject {
            request_id: self.request_id,
            upstream: &self.app.upstream_name,
            model: model.or(self.facts.model.as_deref()),
        };
        self.app.incidents.record(subject, incident);
    }

    /// The upstream stalled before it sent a head: a failure, unless the policy passes over it.
    pub(super) fn stalled_before_head(&self, stalled: &Stalled) -> Result<(), Failure> {
        if !self.app.config.guard.rulebook.policy(stalled.code).enabled {
            return Ok(());
        }
        match self.settle(stalled.code, &stalled.detail) {
            true => Err(Failure::new(stalled.code, stalled.detail.clone())),
            false => Ok(()),
        }
    }

    /// Records a fault of an answer of which the client has nothing yet. Whether the policy keeps the answer back.
    pub(super) fn settle(&self, code: Code, detail: &str) -> bool {
        let guard = &self.app.config.guard;
        let finding = guard.rulebook.stream_finding(code, 0, detail.to_owned());
        let outcome = decide(&finding, &guard.policy);
        self.record(None, &Incident::new(finding, outcome, 0));
        outcome.takes_effect()
    }
}

/// The body of a guarded stream. Dropping it drops the upstream's body, which closes that connection and so frees
/// the slot.
pub(crate) struct GuardedBody {
    session: Session,
    relay: Relay,
    upstream: Option<UpstreamBody>,
    /// Set for the relay's deadline, or earlier: a token only moves the deadline, the timer is re-armed when it fires.
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
    /// When the upstream last sent anything.
    last_bytes: Instant,
    pulse: Option<JoinHandle<Heartbeat>>,
    /// The waker that timer and shutdown signal know.
    registered: Option<Waker>,
    /// Frames of the upstream since it last had none.
    frames_in_a_row: u32,
    /// The upstream sends faster than it is read: what comes in one read leaves in one write.
    bursts: bool,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl GuardedBody {
    pub(crate) fn new(session: Session, relay: Relay, upstream: UpstreamBody) -> Self {
        let now = Instant::now();
        let timer_at = relay.deadline().unwrap_or(now + session.app.config.bounds.idle);
        Self {
            abort: Box::pin(session.app.abort.clone().cancelled_owned()),
            timer: Box::pin(tokio::time::sleep_until(timer_at.into())),
            timer_at,
            last_bytes: now,
            session,
            relay,
            upstream: Some(upstream),
            pulse: None,
            registered: None,
            frames_in_a_row: 0,
            bursts: false,
        }
    }

    /// Takes what the upstream has. `true` when something happened.
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> bool {
        let something = self.poll_upstream_frame(cx);
        if something {
            self.frames_in_a_row += 1;
            self.bursts |= self.frames_in_a_row > 1;
        } else {
            self.bursts = self.frames_in_a_row > 1;
            self.frames_in_a_row = 0;
        }
        something
    }

    fn poll_upstream_frame(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(upstream) = &mut self.upstream else {
            return false;
        };
        match Pin::new(upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers concern the upstream's framing, which ends here.
                if let Ok(data) = frame.into_data() {
                    let now = Instant::now();
                    self.last_bytes = now;
                    self.session.app.bytes.note(now);
                    self.relay_step(|relay| relay.on_bytes(now, data));
                }
                true
            }
            Poll::Ready(Some(Err(error))) => {
                self.end(&UpstreamEnd::Broken(root_cause(&error)));
                true
            }
            Poll::Ready(None) => {
                self.end(&UpstreamEnd::Eof);
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_output(&mut self) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        Poll::Ready(self.relay.take_output().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn end(&mut self, how: &UpstreamEnd) {
        self.upstream = None;
        self.relay_step(|relay| relay.on_end(Instant::now(), how));
    }

    /// A defect in the relay ends this stream with a code; others, and the client's connection, are not touched.
    fn relay_step(&mut self, step: impl FnOnce(&mut Relay)) {
        // What the panic left half-changed is only ever asked to end.
        if catch_unwind(AssertUnwindSafe(|| step(&mut self.relay))).is_err() {
            self.relay.on_abort(
                Code::RuleFailed,
                "Aegis has a defect and could not check this answer",
            );
        }
    }

    /// Time, heartbeat and shutdown: looked at only when the upstream has nothing. `true` when something happened.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> bool {
        if self.nothing_due(cx) {
            return false;
        }
        if let Some(pulse) = &mut self.pulse
            && let Poll::Ready(heartbeat) = Pin::new(pulse).poll(cx)
        {
            self.pulse = None;
            let heartbeat = heartbeat.unwrap_or_else(|error| Heartbeat::Unanswered(error.to_string()));
            self.relay.on_heartbeat(Instant::now(), &heartbeat);
            return true;
        }
        if self.abort.as_mut().poll(cx).is_ready() {
            self.relay.on_abort(Code::ShuttingDown, super::SHUTTING_DOWN);
            return true;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match self.relay.deadline() {
                Some(deadline) if now >= deadline => {
                    self.relay.on_time(now);
                    self.arm(now + self.session.app.config.bounds.idle);
                    return true;
                }
                Some(deadline) => self.arm(deadline),
                // Nobody watches for stalls (any more), or an answer is awaited: only silence itself has a limit.
                None => {
                    let idle = self.session.app.config.bounds.idle;
                    if now >= self.last_bytes + idle {
                        let detail = format!("the upstream sent nothing for {} s", idle.as_secs_f64());
                        self.relay.on_abort(Code::UpstreamTimeout, &detail);
                        return true;
                    }
                    self.arm(self.last_bytes + idle);
                }
            }
        }
        self.registered = Some(cx.waker().clone());
        false
    }

    /// Most polls are for a token. The timer and the shutdown signal know this task's waker by then, and looking at the
    /// clock is cheaper than asking them again.
    fn nothing_due(&mut self, cx: &Context<'_>) -> bool {
        let deadline = self.relay.deadline();
        if let Some(deadline) = deadline.filter(|d| *d < self.timer_at) {
            self.arm(deadline);
            return false;
        }
        self.pulse.is_none()
            && self
                .registered
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            && Instant::now() < self.timer_at
            && !self.session.app.abort.is_cancelled()
    }

    fn arm(&mut self, at: Instant) {
        self.timer_at = at;
        self.timer.as_mut().reset(at.into());
    }

    fn start_pulse(&mut self) {
        let (app, key) = (Arc::clone(&self.session.app), self.session.key.clone());
        // A task of its own, bounded by the heartbeat's limits: this body is not polled while its client does not read,
        // and a heartbeat that waits for that would keep all others waiting.
        self.pulse = Some(tokio::spawn(async move { app.pulse.take(key.as_ref()).await }));
    }

    fn record_incidents(&mut self) {
        for incident in self.relay.take_incidents() {
            self.session.record(self.relay.model(), &incident);
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = self.get_mut();
        loop {
            if this.relay.has_incidents() {
                this.record_incidents();
            }
            if this.relay.end().is_some() {
                // The slot is freed before the last words leave, which a slow client may take its time to read.
                this.upstream = None;
            }
            // A lone token leaves before the upstream is asked for more; in a burst the upstream is drained first,
            // within a bound.
            let ready = this.relay.output_bytes();
            if ready >= OUTPUT_BYTES_MAX || ready > 0 && !this.bursts {
                return this.poll_output();
            }
            if this.relay.end().is_none() && this.poll_upstream(cx) {
                continue;
            }
            if ready > 0 {
                return this.poll_output();
            }
            if let Some(end) = this.relay.end() {
                return Poll::Ready(match end {
                    End::Clean => None,
                    End::Broken => Some(Err("the upstream's stream broke off".into())),
                });
            }
            if this.relay.take_heartbeat_request() {
                this.start_pulse();
            }
            if !this.poll_clock(cx) {
                return Poll::Pending;
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        self.record_incidents();
        if self.relay.end().is_none() {
            let bytes_released = self.relay.bytes_released();
            tracing::debug!(request_id = %self.session.request_id, bytes_released, "the client left");
        }
    }
}
