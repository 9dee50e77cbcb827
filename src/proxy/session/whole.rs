//! A guarded answer that comes as one JSON object.

use super::context::Session;
use crate::http::body::ClientBody;
use crate::http::rescue::Failure;
use crate::upstream::client::UpstreamBody;
use aegis_core::dialect::Dialect;
use aegis_core::error::Code;
use aegis_core::whole;
use http::Response;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::response::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::sync::Arc;

/// Stores the answer, judges it, and passes it on byte for byte or answers with the code that kept it back.
///
/// # Errors
/// [`Failure`] when the answer is cut, breaks off, or is too large to store.
pub(super) async fn serve(
    session: Session,
    dialect: Dialect,
    mut head: Parts,
    body: UpstreamBody,
) -> Result<Response<ClientBody>, Failure> {
    let app = &session.app;
    let bytes_max = app.config.bounds.answer_bytes_max;
    let idle = app.config.bounds.first_byte;
    let body = match tokio::time::timeout(idle, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message =
                format!("the answer is larger than {bytes_max} bytes; raise limits.answer_bytes_max");
            return Err(session.refused(Code::FrameTooLarge, message));
        }
        Ok(Err(error)) => {
            return Err(session.refused(
                Code::UpstreamLost,
                format!("the answer of the upstream broke off: {error}"),
            ));
        }
        Err(_) => {
            let message = format!("the answer was not complete within {} s", idle.as_secs_f64());
            return Err(session.refused(Code::UpstreamTimeout, message));
        }
    };
    let judged = whole::judge(&app.config.guard, dialect, Arc::clone(&session.facts), &body);
    for incident in &judged.incidents {
        session.record(judged.model.as_deref(), incident);
    }
    if let Some(cut) = judged.cut {
        return Err(Failure::new(
            cut.code,
            format!("Aegis kept this answer back: {}", cut.detail),
        ));
    }
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok(Response::from_parts(head, ClientBody::whole(body)))
}
