//! The head of a guarded call: read the request, send it, wait for the answer's head, choose how to guard it.

use super::guarded::{GuardedBody, Session};
use super::{address, no_answer, passed, whole};
use crate::app::App;
use crate::http::body::ClientBody;
use crate::http::headers;
use crate::http::identify::RequestId;
use crate::http::rescue::Failure;
use crate::upstream::client::{Cause, RequestBody, SendError, UpstreamBody};
use crate::upstream::pulse::root_cause;
use aegis_core::dialect::Dialect;
use aegis_core::error::Code;
use aegis_core::relay::Relay;
use aegis_core::request::{self, RequestFacts};
use aegis_core::stall::StallClock;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
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
    let key = parts.headers.get(AUTHORIZATION).cloned();

    address(&app, &mut parts)?;
    headers::guarded_towards_upstream(&mut parts.headers);
    let body: RequestBody = Full::new(body)
        .map_err(|never| -> Cause { match never {} })
        .boxed_unsync();

    let session = Session {
        app,
        request_id,
        key,
        facts: Arc::new(facts),
    };
    let mut patience = session.app.config.guard.rulebook.stall;
    if !session.facts.stream {
        // The whole generation happens before the head: silence alone, on a server that is up, says nothing.
        patience.silence_max = session.app.config.bounds.first_byte;
    }
    let mut watch = Some(StallClock::new(patience, Instant::now()));
    let answer = await_head(&session, &mut watch, Request::from_parts(parts, body)).await?;
    guard(session, dialect, watch, answer).await
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
/// watch, not the waiting.
async fn await_head(
    session: &Session,
    watch: &mut Option<StallClock>,
    request: Request<RequestBody>,
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
            session.stalled_before_head(&stalled)?;
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
    dialect: Dialect,
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
            let guard = Arc::clone(&session.app.config.guard);
            let relay = Relay::new(guard, dialect, Arc::clone(&session.facts), clock);
            Ok(Response::from_parts(
                head,
                ClientBody::guarded(GuardedBody::new(session, relay, body)),
            ))
        }
        kind if kind.eq_ignore_ascii_case("application/json") && readable => {
            whole::serve(session, dialect, head, body).await
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

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}
