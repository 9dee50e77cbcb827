//! A guarded stream: drives the sans-IO relay from the task that writes to the client.

use super::context::Session;
use super::hidden::{Hidden, UnderWay};
use crate::upstream::client::{Cause, UpstreamBody};
use crate::upstream::inquiry::root_cause;
use aegis_core::capabilities::Known;
use aegis_core::error::Code;
use aegis_core::limits::OUTPUT_BYTES_MAX;
use aegis_core::relay::{End, Relay, UpstreamEnd};
use aegis_core::stall::Heartbeat;
use bytes::Bytes;
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

/// The body of a guarded stream. Dropping it drops the upstream's body, which closes that connection and so frees
/// the slot.
pub(crate) struct GuardedBody {
    session: Arc<Session>,
    relay: Relay,
    upstream: Option<UpstreamBody>,
    /// Set for the relay's deadline, or earlier: a token only moves the deadline, the timer is re-armed when it fires.
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
    /// When the upstream last sent anything.
    last_bytes: Instant,
    /// When the client last got something of the answer to a hidden request.
    last_output: Instant,
    pulse: Option<JoinHandle<Heartbeat>>,
    /// The hidden request under way. There is at most one; dropping it aborts it.
    hidden: Option<UnderWay>,
    /// The ids of the hidden requests so far.
    hidden_ids: Vec<(u32, Uuid)>,
    /// What the upstream can do, where it was not known when this stream began. Plans were then made for a server that is
    /// only hoped for.
    unknown: Option<Known>,
    waited_for_scout: bool,
    /// The waker that timer and shutdown signal know.
    registered: Option<Waker>,
    /// Frames of the upstream since it last had none.
    frames_in_a_row: u32,
    /// The upstream sends faster than it is read: what comes in one read leaves in one write.
    bursts: bool,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl GuardedBody {
    pub(crate) fn new(session: Session, relay: Relay, known: Known, upstream: UpstreamBody) -> Self {
        let now = Instant::now();
        let timer_at = relay.deadline().unwrap_or(now + session.app.config.bounds.idle);
        Self {
            abort: Box::pin(session.app.abort.clone().cancelled_owned()),
            timer: Box::pin(tokio::time::sleep_until(timer_at.into())),
            timer_at,
            last_bytes: now,
            last_output: now,
            unknown: relay.is_upstream_unknown().then_some(known),
            session: Arc::new(session),
            relay,
            upstream: Some(upstream),
            pulse: None,
            hidden: None,
            hidden_ids: Vec::new(),
            waited_for_scout: false,
            registered: None,
            frames_in_a_row: 0,
            bursts: false,
        }
    }

    /// The call that this is the answer of.
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
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
        if self.relay.is_joined() {
            self.last_output = Instant::now();
        }
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
                Instant::now(),
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
            self.relay_step(|relay| relay.on_heartbeat(Instant::now(), &heartbeat));
            return true;
        }
        if self.abort.as_mut().poll(cx).is_ready() {
            self.relay
                .on_abort(Instant::now(), Code::ShuttingDown, super::SHUTTING_DOWN);
            return true;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let idle = self.session.app.config.bounds.idle;
            if self.silent_until().is_some_and(|until| now >= until) {
                let detail = format!("the upstream sent nothing for {} s", idle.as_secs_f64());
                self.relay.on_abort(now, Code::UpstreamTimeout, &detail);
                return true;
            }
            if self.ping_at().is_some_and(|ping| now >= ping) {
                self.last_output = now;
                self.relay.on_waiting();
                self.arm(self.deadline().unwrap_or(now + idle));
                return true;
            }
            match self.deadline() {
                Some(deadline) if now >= deadline => {
                    self.relay_step(|relay| relay.on_time(now));
                    self.arm(now + idle);
                    return true;
                }
                deadline => self.arm(deadline.unwrap_or(now + idle)),
            }
        }
        self.registered = Some(cx.waker().clone());
        false
    }

    /// When the client is due a comment: it waits for a hidden request, or sees nothing of its answer yet.
    fn ping_at(&self) -> Option<Instant> {
        let waits = self.relay.is_asking() || self.relay.is_joined();
        waits.then(|| self.last_output + self.session.app.config.hidden.ping)
    }

    /// How long the upstream may send nothing, where no rule watches for stalls, or none any more.
    fn silent_until(&self) -> Option<Instant> {
        let unwatched = !self.relay.is_watched() && !self.relay.is_asking();
        unwatched.then(|| self.last_bytes + self.session.app.config.bounds.idle)
    }

    /// When something is to be done though nothing comes.
    fn deadline(&self) -> Option<Instant> {
        let all = [self.relay.deadline(), self.ping_at(), self.silent_until()];
        all.into_iter().flatten().min()
    }

    /// Most polls are for a token. The timer and the shutdown signal know this task's waker by then, and looking at the
    /// clock is cheaper than asking them again.
    fn nothing_due(&mut self, cx: &Context<'_>) -> bool {
        let deadline = self.deadline();
        if let Some(deadline) = deadline.filter(|d| *d < self.timer_at) {
            self.arm(deadline);
            return false;
        }
        self.pulse.is_none()
            && self.hidden.is_none()
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

    /// Starts the hidden request that the relay asks for. The old one is aborted first: its slot is the new one's.
    fn start_hidden(&mut self) {
        if self.hidden.is_some() {
            return;
        }
        self.upstream = None;
        self.pulse = None;
        self.registered = None;
        if let Some(known) = &self.unknown {
            if self.relay.is_upstream_unknown() && !self.waited_for_scout {
                // A fault within the very first answers: the best plan needs to know what the upstream can do.
                self.waited_for_scout = true;
                self.hidden = Some(UnderWay::scout(Arc::clone(&self.session), known.clone()));
                return;
            }
            self.relay_step(|relay| relay.replan(Instant::now()));
        }
        let Some(ask) = self.relay.take_ask() else {
            return;
        };
        let id = Uuid::now_v7();
        tracing::debug!(request_id = %self.session.request_id, hidden_request_id = %id, plan = ?ask.plan, "asking again");
        self.hidden_ids.push((self.relay.attempt(), id));
        self.hidden = Some(UnderWay::ask(Arc::clone(&self.session), ask.body, id));
        self.last_output = Instant::now();
    }

    /// Looks whether the hidden request has its answer. `true` when something happened.
    fn poll_hidden(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(hidden) = &mut self.hidden else {
            return false;
        };
        let Poll::Ready(hidden) = hidden.poll(cx) else {
            return false;
        };
        self.hidden = None;
        let now = Instant::now();
        match hidden {
            Hidden::Answer(body, clock) => {
                self.upstream = Some(*body);
                self.last_bytes = now;
                self.registered = None;
                self.relay_step(|relay| relay.on_answer(now, clock));
            }
            // The plan is made again before it is sent.
            Hidden::Scouted => {}
            Hidden::Refused(why) => self.relay_step(|relay| relay.on_refused(now, &why)),
            Hidden::Failed(why) => self.relay_step(|relay| relay.on_no_answer(now, &why)),
        }
        true
    }

    fn record_incidents(&mut self) {
        for mut incident in self.relay.take_incidents() {
            if let Some(correction) = &mut incident.correction {
                let sent = self.hidden_ids.iter().rev();
                let id = sent
                    .filter(|(attempt, _)| *attempt == correction.attempt)
                    .map(|(_, id)| id);
                correction.hidden_request_id = id.map(Uuid::to_string).next();
            }
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
                this.hidden = None;
            } else if this.relay.is_asking() {
                this.start_hidden();
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
            if this.poll_hidden(cx) {
                continue;
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
        self.relay.on_client_left(Instant::now());
        self.record_incidents();
        if self.relay.end().is_none() {
            let bytes_released = self.relay.bytes_released();
            tracing::debug!(request_id = %self.session.request_id, bytes_released, "the client left");
        }
    }
}
