//! A guarded answer for a client that did not ask for a stream: taken as a stream, so that faults show while they happen,
//! and handed over as one body.

use super::context::Session;
use super::guarded::GuardedBody;
use crate::http::body::ClientBody;
use crate::http::rescue::Failure;
use aegis_core::aggregate::{Aggregate, Whole};
use aegis_core::dialect::{Dialect, error_status};
use aegis_core::error::Code;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::Arc;

/// Reads the guarded stream to its end and rebuilds the body that the client asked for.
///
/// # Errors
/// [`Failure`] when the answer was cut or broke off, and when a part of it cannot be in the body: the client would take it
/// for whole.
pub(super) async fn serve(
    dialect: Dialect,
    mut head: Parts,
    body: GuardedBody,
) -> Result<Response<ClientBody>, Failure> {
    let session = Arc::clone(body.session());
    let mut aggregate = read(&session, dialect, body).await?;
    aggregate.close();
    let finished = aggregate.is_finished();
    let lost = |message: &str| Err(session.refused(Code::UpstreamLost, message.to_owned()));
    let body = match aggregate.finish() {
        Whole::Body(body) if finished => body,
        Whole::Body(_) => return lost("the upstream ended its answer without a finish reason"),
        Whole::Error { json } => return error(head, &json),
        Whole::Empty => return lost("the upstream sent an empty answer"),
    };
    json_head(&mut head, body.len());
    Ok(Response::from_parts(head, ClientBody::whole(body)))
}

/// Everything that the guarded stream says.
async fn read(session: &Session, dialect: Dialect, mut body: GuardedBody) -> Result<Aggregate, Failure> {
    let config = &session.app.config;
    let bytes_max = config.bounds.answer_bytes_max;
    let frame_bytes_max = config.guard_whole.limits.frame_bytes_max;
    let mut aggregate = Aggregate::new(dialect).with_frame_bytes_max(frame_bytes_max);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| session.refused(Code::UpstreamLost, cause.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if let Err(error) = aggregate.feed(&data) {
            // The policy let it pass, and a stream would have it as it came. A body cannot, and one without it would look
            // whole.
            let code = if aggregate.is_unframed() {
                Code::FrameTooLarge
            } else {
                Code::UndecodableFrame
            };
            return Err(session.refused(code, format!("a frame of the answer is {error}")));
        }
        if aggregate.bytes() > bytes_max {
            let message =
                format!("the answer is larger than {bytes_max} bytes; raise limits.answer_bytes_max");
            return Err(session.refused(Code::FrameTooLarge, message));
        }
        // All of it may be released at once, and this loop would then keep the worker from all others until its end.
        tokio::task::yield_now().await;
    }
    Ok(aggregate)
}

fn json_head(head: &mut Parts, length: usize) {
    head.headers.remove(CACHE_CONTROL);
    head.headers.remove("x-accel-buffering");
    head.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// The stream ended with an error event: Aegis's own becomes its failure, the upstream's passes with its status.
fn error(mut head: Parts, json: &str) -> Result<Response<ClientBody>, Failure> {
    let value: Value = serde_json::from_str(json).unwrap_or_default();
    let error = &value["error"];
    let own = error["code"].as_str().and_then(|code| code.parse::<Code>().ok());
    if let Some(code) = own.filter(|_| error["type"] == "aegis_error") {
        let message = error["message"].as_str().unwrap_or_default();
        // The failure names its code itself.
        let message = message
            .replacen("ended this answer", "kept this answer back", 1)
            .replacen(&format!(" ({code})."), ".", 1);
        return Err(Failure::new(code, message.trim_end_matches('.')));
    }
    // As one line, also where the event had several.
    let frame = format!("data: {}\n\n", json.replace(['\r', '\n'], " "));
    head.status = error_status(frame.as_bytes())
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    json_head(&mut head, json.len());
    Ok(Response::from_parts(head, ClientBody::whole(json.to_owned())))
}
