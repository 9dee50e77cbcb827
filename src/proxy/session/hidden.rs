//! The hidden request: sent when the relay asks for one, patient with an upstream that is gone or still loading.

use super::context::Session;
use super::intake::{await_head, media_type};
use crate::http::rescue::Failure;
use crate::limits::{HIDDEN_RETRY, HIDDEN_RETRY_MAX, REFUSAL_BYTES_MAX, SCOUT_LOOK, SCOUT_WAIT};
use crate::upstream::client::{RequestBody, UpstreamBody};
use crate::upstream::pulse::Ready;
use aegis_core::capabilities::Known;
use aegis_core::error::Code;
use aegis_core::stall::StallClock;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// What became of a hidden request.
pub(super) enum Hidden {
    /// Its stream begins.
    Answer(Box<UpstreamBody>, Option<StallClock>),
    /// No request yet: what the upstream can do has been found out, or not in time.
    Scouted,
    /// The upstream does not want it; why. Another plan may do.
    Refused(String),
    /// There will be no answer; why.
    Failed(String),
}

/// A hidden request under way, or what is waited for before it. A task of its own, because a body is not polled while
/// its client does not read, and must not keep one of the places for hidden requests, or the heartbeat of all streams,
/// for so long. Dropping it aborts the task, which closes its connection.
pub(super) struct UnderWay(AbortOnDropHandle<Hidden>);

impl UnderWay {
    fn start(work: impl Future<Output = Hidden> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(work)))
    }

    /// Makes one hidden request.
    pub(super) fn ask(session: Arc<Session>, body: Bytes, id: Uuid) -> Self {
        Self::start(async move { ask(&session, &body, id).await })
    }

    /// Waits for the scout, within a bound and only while one is out.
    pub(super) fn scout(session: Arc<Session>, known: Known) -> Self {
        Self::start(async move {
            let (scout, model) = (&session.app.scout, session.facts.model.as_deref());
            let until = Instant::now() + SCOUT_WAIT;
            while known.get().is_none() && scout.is_out(model) && Instant::now() < until {
                tokio::time::sleep(SCOUT_LOOK).await;
            }
            Hidden::Scouted
        })
    }

    /// What became of it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Hidden> {
        Pin::new(&mut self.0).poll(cx).map(|result| {
            result.unwrap_or_else(|error| {
                tracing::error!(%error, "a hidden request failed inside; please report this");
                Hidden::Failed("Aegis has a defect and could not ask again".to_owned())
            })
        })
    }
}

/// Makes one hidden request, again and again while the upstream is gone, loading or busy.
async fn ask(session: &Session, body: &Bytes, id: Uuid) -> Hidden {
    let app = &session.app;
    let patience = app.config.hidden.resume_wait;
    let until = Instant::now() + patience;
    // A server that comes back is not met by all streams at once.
    let Ok(Ok(_place)) = tokio::time::timeout(patience, app.hidden.acquire()).await else {
        return Hidden::Failed(format!(
            "no place for a hidden request became free within {} s",
            patience.as_secs_f64()
        ));
    };
    let mut pause = HIDDEN_RETRY;
    // It answered 500 though it is well.
    let mut broke = false;
    loop {
        let (why, retry_after) = match attempt(session, body, id).await {
            Attempt::Over(hidden) => return hidden,
            Attempt::Broke(why) if broke => return Hidden::Refused(why),
            Attempt::Broke(why) => {
                broke = app.pulse.ready(session.key.as_ref()).await == Ready::Yes;
                pause = HIDDEN_RETRY;
                (why, None)
            }
            Attempt::NotYet(why, retry_after) => {
                broke = false;
                (why, retry_after)
            }
        };
        tracing::debug!(request_id = %session.request_id, hidden_request_id = %id, why, "the upstream is not ready");
        let mut wait = retry_after.map_or(pause, |wait| wait.max(HIDDEN_RETRY));
        if wait > until.saturating_duration_since(Instant::now()) && retry_after.is_some() {
            return Hidden::Failed(format!("the upstream asks for {} s: {why}", wait.as_secs()));
        }
        // One that takes requests and does not answer them is busy: it is met with the whole prompt ever more rarely.
        pause = (pause * 2).min(HIDDEN_RETRY_MAX);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left < HIDDEN_RETRY && broke {
                // There is no time for a second look; another request may still do.
                return Hidden::Refused(why);
            }
            if left < HIDDEN_RETRY {
                return Hidden::Failed(format!(
                    "the upstream did not come back within {} s: {why}",
                    patience.as_secs_f64()
                ));
            }
            tokio::time::sleep(wait.min(left)).await;
            if app.pulse.ready(session.key.as_ref()).await == Ready::Yes {
                break;
            }
            // It is gone or loads: it is met as soon as it is back, and that is a new beginning.
            (wait, pause, broke) = (HIDDEN_RETRY, HIDDEN_RETRY, false);
        }
    }
}

enum Attempt {
    Over(Hidden),
    /// A failure of the server's own, which may be a prompt that its template cannot render, or its last breath.
    Broke(String),
    /// It may answer later, and perhaps says when.
    NotYet(String, Option<Duration>),
}

async fn attempt(session: &Session, body: &Bytes, id: Uuid) -> Attempt {
    let request = session.hidden_request(body.clone(), id);
    let mut watch = Some(StallClock::new(
        session.app.config.guard.rulebook.stall,
        Instant::now(),
    ));
    let answer = match await_head(session, &mut watch, request, false).await {
        Ok(answer) => answer,
        Err(failure) => return failed(failure),
    };
    let status = answer.status();
    if status.is_success() {
        return Attempt::Over(stream(answer, watch));
    }
    let retry_after = retry_after(answer.headers());
    let said = said(answer).await;
    match meaning(status) {
        Meaning::Refused => Attempt::Over(Hidden::Refused(said)),
        Meaning::Broke => Attempt::Broke(said),
        Meaning::NotYet => Attempt::NotYet(said, retry_after),
        Meaning::Failed => Attempt::Over(Hidden::Failed(said)),
    }
}

/// No head came: waiting helps where there was nobody to send one.
fn failed(failure: Failure) -> Attempt {
    match failure.code {
        Code::UpstreamConnect | Code::UpstreamLost => Attempt::NotYet(failure.message, None),
        _ => Attempt::Over(Hidden::Failed(failure.message)),
    }
}

/// What an error status says about a hidden request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Refused,
    Broke,
    NotYet,
    Failed,
}

fn meaning(status: StatusCode) -> Meaning {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Meaning::Refused,
        // Some servers answer so to a prompt that their template cannot render, and all while they break down.
        StatusCode::INTERNAL_SERVER_ERROR => Meaning::Broke,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Meaning::NotYet
        }
        status if status.is_server_error() => Meaning::NotYet,
        _ => Meaning::Failed,
    }
}

/// The seconds of a `Retry-After`. Its other form, a date, is not used by inference servers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn stream(answer: Response<UpstreamBody>, watch: Option<StallClock>) -> Hidden {
    let kind = media_type(answer.headers());
    if kind.eq_ignore_ascii_case("text/event-stream") {
        return Hidden::Answer(Box::new(answer.into_body()), watch);
    }
    Hidden::Failed(format!(
        "the upstream answered with content type {kind:?} instead of a stream"
    ))
}

/// The status of an answer that is no stream. Servers quote the request in their errors, and a hidden request must show
/// neither at the client nor in an incident: the text is for the debug log only.
async fn said(answer: Response<UpstreamBody>) -> String {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect();
    if let Ok(Ok(body)) = tokio::time::timeout(crate::limits::HEALTH, body).await {
        let text: String = String::from_utf8_lossy(&body.to_bytes())
            .chars()
            .take(300)
            .collect();
        tracing::debug!(%status, text, "the answer to a hidden request");
    }
    format!("the upstream answered {status}")
}

impl Session {
    /// The client's request with another body and an id of its own.
    fn hidden_request(&self, body: Bytes, id: Uuid) -> Request<RequestBody> {
        let mut request = self.request(body);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut text = Uuid::encode_buffer();
        if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
            headers.insert("x-aegis-request-id", value);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_means() {
        for (status, want) in [
            (400, Meaning::Refused),
            (401, Meaning::Failed),
            (403, Meaning::Failed),
            (404, Meaning::Failed),
            (408, Meaning::NotYet),
            (413, Meaning::Failed),
            (422, Meaning::Refused),
            (425, Meaning::NotYet),
            (429, Meaning::NotYet),
            (500, Meaning::Broke),
            (502, Meaning::NotYet),
            (503, Meaning::NotYet),
            (504, Meaning::NotYet),
            (529, Meaning::NotYet),
        ] {
            assert_eq!(meaning(StatusCode::from_u16(status).unwrap()), want, "{status}");
        }
    }

    #[test]
    fn seconds_to_wait() {
        for (value, want) in [("7", Some(7)), (" 0 ", Some(0)), ("soon", None), ("-1", None)] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(retry_after(&headers), want.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
