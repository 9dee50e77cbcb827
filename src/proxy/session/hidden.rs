//! The hidden request: sent when the relay asks for one, patient with an upstream that is gone or still loading.

use super::guarded::Session;
use super::intake::await_head;
use crate::http::rescue::Failure;
use crate::limits::{HIDDEN_RETRY, REFUSAL_BYTES_MAX, SCOUT_LOOK, SCOUT_WAIT};
use crate::upstream::client::{Cause, RequestBody, UpstreamBody};
use crate::upstream::pulse::Ready;
use aegis_core::capabilities::Known;
use aegis_core::error::Code;
use aegis_core::stall::StallClock;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use std::sync::Arc;
use std::time::Instant;
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

/// Waits until it is known what the upstream can do, within a bound.
pub(super) async fn scouted(known: &Known) {
    let until = Instant::now() + SCOUT_WAIT;
    while known.get().is_none() && Instant::now() < until {
        tokio::time::sleep(SCOUT_LOOK).await;
    }
}

/// Makes one hidden request. Dropping the future aborts it.
pub(super) async fn ask(session: Arc<Session>, body: Bytes, id: Uuid) -> Hidden {
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
    loop {
        let why = match attempt(&session, &body, id).await {
            Ok(Attempt::Over(hidden)) => return hidden,
            Ok(Attempt::NotYet(why)) => why,
            // What waiting cannot change is said at once.
            Err(failure) if !waits(failure.code) => return Hidden::Failed(failure.message),
            Err(failure) => failure.message,
        };
        tracing::debug!(request_id = %session.request_id, hidden_request_id = %id, why, "the upstream is not ready");
        loop {
            if Instant::now() + HIDDEN_RETRY > until {
                return Hidden::Failed(format!(
                    "the upstream did not come back within {} s: {why}",
                    patience.as_secs_f64()
                ));
            }
            tokio::time::sleep(HIDDEN_RETRY).await;
            if app.pulse.ready(session.key.as_ref()).await == Ready::Yes {
                break;
            }
        }
    }
}

/// Whether the upstream may answer later what it did not answer now.
fn waits(code: Code) -> bool {
    matches!(code, Code::UpstreamConnect | Code::UpstreamLost)
}

enum Attempt {
    Over(Hidden),
    NotYet(String),
}

async fn attempt(session: &Session, body: &Bytes, id: Uuid) -> Result<Attempt, Failure> {
    let request = session.hidden_request(body.clone(), id);
    let mut watch = Some(StallClock::new(
        session.app.config.guard.rulebook.stall,
        Instant::now(),
    ));
    let answer = await_head(session, &mut watch, request, false).await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(Attempt::Over(stream(answer, watch)));
    }
    let said = said(answer).await;
    Ok(match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Attempt::NotYet(said),
        // Some servers answer 500 to a prompt that their template cannot render: another plan may do.
        _ if status.is_client_error() || status == StatusCode::INTERNAL_SERVER_ERROR => {
            Attempt::Over(Hidden::Refused(said))
        }
        _ => Attempt::Over(Hidden::Failed(said)),
    })
}

fn stream(answer: Response<UpstreamBody>, watch: Option<StallClock>) -> Hidden {
    let kind = super::intake::media_type(answer.headers());
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
        let body: RequestBody = Full::new(body)
            .map_err(|never| -> Cause { match never {} })
            .boxed_unsync();
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.head.method);
        request.uri_mut().clone_from(&self.head.uri);
        request.headers_mut().clone_from(&self.head.headers);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut text = Uuid::encode_buffer();
        if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
            headers.insert("x-aegis-request-id", value);
        }
        request
    }
}
