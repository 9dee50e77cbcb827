//! Everything that is not guarded: passed on as it comes, in both directions.

use super::intake::unreachable_upstream;
use super::{address, no_answer};
use crate::app::App;
use crate::http::body::ClientBody;
use crate::http::headers;
use crate::http::rescue::Failure;
use crate::upstream::client::{Cause, UpstreamBody};
use aegis_core::error::Code;
use bytes::Bytes;
use http::response::Parts;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Passes one request on and its answer back.
///
/// # Errors
/// [`Failure`] when the upstream gives no answer.
pub(crate) async fn serve(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<ClientBody>, Failure> {
    let (mut parts, body) = request.into_parts();
    let bytes_max = app.config.bounds.passed_bytes_max;
    let announced = headers::announced_bytes(&parts.headers);
    if announced.is_some_and(|length| length > bytes_max as u64) {
        let message =
            format!("the request body is larger than {bytes_max} bytes; raise limits.passed_bytes_max");
        return Err(Failure::new(Code::BodyTooLarge, message));
    }
    address(&app, &mut parts)?;
    let body = Limited::new(PassedBody::new(body, app.config.bounds.idle), bytes_max).boxed_unsync();
    let first_byte = app.config.bounds.first_byte;
    match tokio::time::timeout(first_byte, app.client.send(Request::from_parts(parts, body))).await {
        Ok(Ok(answer)) => {
            let (head, body) = answer.into_parts();
            refuse_upgrade(head.status)?;
            Ok(response(&app, head, body))
        }
        Ok(Err(error)) => Err(unreachable_upstream(&app, &error)),
        Err(_) => Err(no_answer(first_byte)),
    }
}

/// Aegis asks for no upgrade, so an upstream that switches protocols would talk to nobody.
pub(super) fn refuse_upgrade(status: StatusCode) -> Result<(), Failure> {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let message = "the upstream switched to another protocol without being asked";
    Err(Failure::new(Code::UnexpectedAnswer, message))
}

/// An answer that is passed on.
pub(super) fn response(app: &App, head: Parts, body: UpstreamBody) -> Response<ClientBody> {
    Response::from_parts(
        head,
        ClientBody::passed(PassedBody::new(body, app.config.bounds.idle)),
    )
}

/// A body that ends with an error when nothing comes for too long.
pub(crate) struct PassedBody<B = UpstreamBody> {
    inner: B,
    idle: Duration,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<B> PassedBody<B> {
    pub(crate) fn new(inner: B, idle: Duration) -> Self {
        Self {
            inner,
            idle,
            last: Instant::now(),
            timer: Box::pin(tokio::time::sleep(idle)),
        }
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for PassedBody<B> {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.last = Instant::now();
            return Poll::Ready(frame.map(|result| result.map_err(Into::into)));
        }
        // The timer is re-armed when it fires, not on every frame.
        while this.timer.as_mut().poll(cx).is_ready() {
            let end = this.last + this.idle;
            if Instant::now() >= end {
                return Poll::Ready(Some(Err(format!(
                    "nothing came for {} s",
                    this.idle.as_secs_f64()
                )
                .into())));
            }
            this.timer.as_mut().reset(end);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
