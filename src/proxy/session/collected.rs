//! A guarded answer for a client that did not ask for a stream: taken as a stream, so that faults show while they happen,
//! and handed over as one body.

use super::guarded::GuardedBody;
use crate::http::body::ClientBody;
use crate::http::rescue::Failure;
use crate::upstream::client::Cause;
use aegis_core::aggregate::{Aggregate, Whole};
use aegis_core::dialect::Dialect;
use aegis_core::error::Code;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::Body;
use serde_json::Value;
use std::future::poll_fn;
use std::pin::Pin;

/// Reads the guarded stream to its end and rebuilds the body that the client asked for, of at most `bytes_max` bytes.
///
/// # Errors
/// [`Failure`] when the answer was cut or broke off.
pub(super) async fn serve(
    dialect: Dialect,
    mut head: Parts,
    mut body: GuardedBody,
    bytes_max: usize,
) -> Result<Response<ClientBody>, Failure> {
    let mut aggregate = Aggregate::new(dialect);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|cause: Cause| Failure::new(Code::UpstreamLost, cause.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if let Err(error) = aggregate.feed(&data) {
            // The relay has judged it, and passed it with an incident: the body goes without.
            tracing::debug!(%error, "a frame of a collected answer is left out");
        }
        if aggregate.bytes() > bytes_max {
            let message =
                format!("the answer is larger than {bytes_max} bytes; raise limits.answer_bytes_max");
            return Err(Failure::new(Code::FrameTooLarge, message));
        }
    }
    let body = match aggregate.finish() {
        Whole::Body(body) => body,
        Whole::Error { json } => return error(head, &json),
        Whole::Empty => {
            return Err(Failure::new(
                Code::UpstreamLost,
                "the upstream sent an empty answer",
            ));
        }
    };
    json_head(&mut head, body.len());
    Ok(Response::from_parts(head, ClientBody::whole(body)))
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
    let status = error["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    head.status = status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    json_head(&mut head, json.len());
    Ok(Response::from_parts(head, ClientBody::whole(json.to_owned())))
}
