//! The head of a guarded call: read the request, send it, wait for the answer's head, choose how to guard it.

use super::context::Session;
use super::guarded::GuardedBody;
use super::{address, collected, no_answer, passed, whole};
use crate::app::App;
use crate::http::body::ClientBody;
use crate::http::headers;
use crate::http::identify::RequestId;
use crate::http::rescue::Failure;
use crate::upstream::client::{RequestBody, SendError, UpstreamBody};
use crate::upstream::inquiry::{Key, root_cause};
use aegis_core::capabilities::Known;
use aegis_core::decide::Mode;
use aegis_core::dialect::Dialect;
use aegis_core::error::Code;
use aegis_core::incident::Incident;
use aegis_core::relay::{Relay, Source};
use aegis_core::request::{self, RequestFacts, heal, streamed};
use aegis_core::stall::{Heartbeat, StallClock};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

/// Serves one guarded call.
///
/// # Errors
/// [`Failure`] when there is no answer of the upstream to pass on.
pub(crate) async fn serve(
    app: Arc<App>,
    dialect: Dialect,
    request: Request<Incoming>,
) -> Result<Response<ClientBody>, Failure> {
    let (mut parts, body) = request.into_parts();
    let request_id = parts
        .extensions
        .get::<RequestId>()
        .map_or_else(uuid::Uuid::now_v7, |id| id.0);
    let body = read_body(&app, &parts.headers, body).await?;
    let facts = read_facts(&app, &body)?;
    let key = Key::of(&parts.headers);

    address(&app, &mut parts)?;
    headers::guarded_towards_upstream(&mut parts.headers);
    let session = Session {
        app,
        request_id,
        key,
        facts: Arc::new(facts),
        head: parts,
    };
    let body = session.heal(dialect, body);
    let streamed = session.as_stream(dialect, &body);
    // What the upstream can do is found out while it works, the first time.
    let known = {
        let app = &session.app;
        let model = session.facts.model.as_deref();
        app.scout.known(dialect, &app.client, session.key.as_ref(), model)
    };
    let mut call = Call {
        dialect,
        collects: streamed.is_some(),
        body: streamed.unwrap_or_else(|| body.clone()),
        known,
    };
    let (mut answer, mut watch) = call.send(&session).await?;
    if call.collects && may_refuse_streams(answer.status()) {
        tracing::debug!(request_id = %session.request_id, status = %answer.status(), "asked again as the client asked");
        // Its connection first: the slot, if it has one, is for the second.
        drop(answer);
        (call.body, call.collects) = (body, false);
        (answer, watch) = call.send(&session).await?;
    }
    // Boxed, as are the rarer ways below: this future is what a request costs that waits for its turn, and it is as large
    // as the largest of its parts.
    Box::pin(guard(session, call, watch, answer)).await
}

/// Whether a refusal may mean the form of the request, a stream, which the client did not ask for: servers answer 400,
/// 422 or 500 to what they do not do in a stream. Who asks, for what, how much, and whether the server is busy or still
/// loading has nothing to do with it.
fn may_refuse_streams(status: StatusCode) -> bool {
    // Of the server errors, only these are about the request; the others are about load, outage and time.
    let of_server = matches!(status.as_u16(), 500 | 501);
    of_server || status.is_client_error() && !matches!(status.as_u16(), 401..=404 | 408 | 413 | 425 | 429)
}

/// What the upstream was asked, and how its answer is handed over.
struct Call {
    dialect: Dialect,
    /// The request's body as it went upstream.
    body: Bytes,
    /// The client wants one body, though the upstream was asked for a stream.
    collects: bool,
    known: Known,
}

impl Call {
    /// Sends the request and waits for the head of its answer, with a clock that watches for stalls from then on.
    async fn send(&self, session: &Session) -> Result<(Response<UpstreamBody>, Option<StallClock>), Failure> {
        let mut patience = session.app.config.guard.rulebook.stall;
        if !session.facts.stream && !self.collects {
            // The whole generation happens before the head: silence alone, on a server that is up, says nothing.
            patience.silence_max = session.app.config.bounds.first_byte;
        }
        let mut watch = Some(StallClock::new(patience, Instant::now()));
        let request = session.request(self.body.clone());
        let answer = await_head(session, &mut watch, request, true).await?;
        Ok((answer, watch))
    }
}

impl Session {
    /// The request with arguments that servers can read in its history: one call that was broken once would otherwise
    /// have every later prompt refused.
    fn heal(&self, dialect: Dialect, body: Bytes) -> Bytes {
        let guard = &self.app.config.guard;
        let policy = guard.rulebook.policy(Code::ToolArguments);
        let wanted = policy.enabled && guard.rulebook.tool_arguments.heal_history;
        if dialect != Dialect::Chat || !wanted {
            return body;
        }
        let Some(healed) = heal::heal(&body, guard.limits.json_depth_max) else {
            return body;
        };
        let shadow = guard.policy.mode == Mode::Shadow;
        let incident = Incident::healed(healed.to_string(), policy.severity, shadow);
        self.record(None, &incident);
        if shadow { body } else { Bytes::from(healed.body) }
    }

    /// The request as one for a stream, where the client did not ask for one and the config allows it.
    fn as_stream(&self, dialect: Dialect, body: &[u8]) -> Option<Bytes> {
        let config = &self.app.config;
        let wanted = config.hidden.streamed_upstream && config.guard.policy.mode == Mode::Enforce;
        if !wanted {
            return None;
        }
        streamed::as_stream(dialect, body, &self.facts)
    }
}

async fn read_body(app: &App, head: &HeaderMap, body: Incoming) -> Result<Bytes, Failure> {
    let bytes_max = app.config.bounds.request_bytes_max;
    let too_large = || {
        let message = format!(
            "the request body is larger than {bytes_max} bytes; shorten it or raise limits.request_bytes_max"
        );
        Failure::new(Code::BodyTooLarge, message)
    };
    // What is announced as too large is refused before a byte of it is read.
    let announced = headers::announced_bytes(head);
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let limit = app.config.bounds.request_body;
    match tokio::time::timeout(limit, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Failure::new(
            Code::BadRequest,
            format!("the request body broke off: {error}"),
        )),
        Err(_) => {
            let message = format!("the request body did not arrive within {} s", limit.as_secs_f64());
            Err(Failure::new(Code::BadRequest, message))
        }
    }
}

fn read_facts(app: &App, body: &[u8]) -> Result<RequestFacts, Failure> {
    request::read(body, app.config.guard.limits.json_depth_max).map_err(|bad| Failure {
        param: Some(bad.field.clone()),
        ..Failure::new(Code::BadRequest, bad.to_string())
    })
}

/// Sends the request and waits for the head. Silence is watched from here on: a queued request gets no head at all
/// until a slot is free, so only a heartbeat can tell waiting from death. A stall that the policy passes over ends the
/// watch, not the waiting. One of a hidden request is not recorded (`records`), and counts as a loss where nobody is left
/// to send an answer.
pub(super) async fn await_head(
    session: &Session,
    watch: &mut Option<StallClock>,
    request: Request<RequestBody>,
    records: bool,
) -> Result<Response<UpstreamBody>, Failure> {
    let app = &session.app;
    let first_byte = app.config.bounds.first_byte;
    let mut answer = pin!(app.client.send(request));
    let mut limit = pin!(tokio::time::sleep(first_byte));
    loop {
        let asking_at = watch.as_ref().and_then(StallClock::deadline);
        let wake = asking_at.unwrap_or_else(|| Instant::now() + first_byte);
        tokio::select! {
            biased;
            result = &mut answer => return result.map_err(|error| unreachable_upstream(app, &error)),
            () = &mut limit => return Err(no_answer(first_byte)),
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        let Some(clock) = watch.as_mut().filter(|_| asking_at.is_some()) else {
            continue;
        };
        if !clock.due(Instant::now()) {
            continue;
        }
        let heartbeat = tokio::select! {
            biased;
            result = &mut answer => {
                clock.unasked(Instant::now());
                return result.map_err(|error| unreachable_upstream(app, &error));
            }
            () = &mut limit => return Err(no_answer(first_byte)),
            heartbeat = app.pulse.take(session.key.as_ref()) => heartbeat,
        };
        if let Some(stalled) = clock.heartbeat(Instant::now(), &heartbeat) {
            if records {
                session.stalled_before_head(&stalled)?;
            } else if matches!(heartbeat, Heartbeat::Dead(_)) {
                return Err(Failure::new(Code::UpstreamLost, stalled.detail));
            } else if session.ends_stalled(&stalled) {
                return Err(Failure::new(stalled.code, stalled.detail));
            }
            *watch = None;
        }
    }
}

/// Why a request got no head.
pub(super) fn unreachable_upstream(app: &App, error: &SendError) -> Failure {
    let (base, cause) = (&app.config.upstream, root_cause(error));
    if has_cause::<LengthLimitError>(error) {
        let message =
            "the request body is larger than limits.passed_bytes_max; shorten it or raise the limit";
        return Failure::new(Code::BodyTooLarge, message);
    }
    if !matches!(error, SendError::Exchange(_)) {
        let message =
            format!("cannot connect to the upstream {base}: {cause}. Is the inference server running there?");
        return Failure::new(Code::UpstreamConnect, message);
    }
    Failure::new(
        Code::UpstreamLost,
        format!("the upstream {base} closed the connection without an answer: {cause}"),
    )
}

fn has_cause<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.is::<E>())
}

/// Chooses how the answer is guarded.
async fn guard(
    session: Session,
    call: Call,
    clock: Option<StallClock>,
    answer: Response<UpstreamBody>,
) -> Result<Response<ClientBody>, Failure> {
    let (mut head, body) = answer.into_parts();
    passed::refuse_upgrade(head.status)?;
    // The upstream's own errors are the client's to see, as they are.
    if !head.status.is_success() {
        return Ok(passed::response(&session.app, head, body));
    }
    let readable = head
        .headers
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding == "identity");
    match media_type(&head.headers) {
        kind if kind.eq_ignore_ascii_case("text/event-stream") && readable => {
            head.headers.remove(CONTENT_LENGTH);
            head.headers
                .entry(CACHE_CONTROL)
                .or_insert(HeaderValue::from_static("no-cache"));
            head.headers
                .entry("x-accel-buffering")
                .or_insert(HeaderValue::from_static("no"));
            let config = &session.app.config;
            let guard = if call.collects {
                &config.guard_whole
            } else {
                &config.guard
            };
            let source = Source {
                body: call.body,
                known: call.known.clone(),
            };
            let mut facts = Arc::clone(&session.facts);
            if call.collects {
                // A whole body has its usage, asked for or not.
                Arc::make_mut(&mut facts).usage = true;
            }
            let relay = Relay::new(Arc::clone(guard), call.dialect, facts, clock).with_source(source);
            let body = GuardedBody::new(session, relay, call.known, body);
            if call.collects {
                return Box::pin(collected::serve(call.dialect, head, body)).await;
            }
            Ok(Response::from_parts(head, ClientBody::guarded(body)))
        }
        kind if kind.eq_ignore_ascii_case("application/json") && readable => {
            Box::pin(whole::serve(session, call.dialect, head, body)).await
        }
        kind => {
            let coding = head
                .headers
                .get(CONTENT_ENCODING)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("none");
            let message = format!(
                "the upstream answered {} with content type {kind:?} and content coding {coding:?}, which cannot be \
                 checked. Is upstream.url the address of an OpenAI-compatible server?",
                head.status
            );
            Err(Failure::new(Code::UnexpectedAnswer, message))
        }
    }
}

pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_the_form_are_worth_another() {
        for (again, statuses) in [
            (true, &[400u16, 405, 415, 422, 500, 501][..]),
            (
                false,
                &[
                    200, 302, 401, 403, 404, 408, 413, 425, 429, 502, 503, 504, 507, 529,
                ],
            ),
        ] {
            for status in statuses {
                let status = StatusCode::from_u16(*status).unwrap();
                assert_eq!(may_refuse_streams(status), again, "{status}");
            }
        }
    }
}
