//! The one file that turns failures into answers.

use super::body::ClientBody;
use aegis_core::error::Code;
use aegis_core::sse::write::error_json;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::Service;

/// Why a request got no answer of the upstream.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// For people: what happened, and what to do.
    pub(crate) message: String,
    /// The request field at fault.
    pub(crate) param: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
        }
    }

    /// The OpenAI-shaped answer.
    pub(crate) fn into_response(self) -> Response<ClientBody> {
        let json = error_json(self.code, &self.to_string(), self.param.as_deref());
        let mut response = Response::new(ClientBody::whole(json));
        *response.status_mut() = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        if !self.code.retry_helps() {
            // Without it the OpenAI and Anthropic SDKs try every 5xx three times.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.code == Code::Overloaded {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.code == Code::UpgradeRefused {
            headers.insert(http::header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
        }
        response
    }
}

/// A panic in a handler is an answer with a code, not a closed connection.
fn panicked(panic: &(dyn Any + Send)) -> Response<ClientBody> {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(what, "a handler panicked; please report this");
    Failure::new(
        Code::RuleFailed,
        "Aegis has a defect and could not handle this request",
    )
    .into_response()
}

/// The layer.
#[derive(Debug, Clone)]
pub(crate) struct Rescue<S> {
    inner: S,
}

impl<S> Rescue<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for Rescue<S>
where
    S: Service<Request<B>, Response = Response<ClientBody>, Error = Failure>,
    S::Future: Send + 'static,
{
    type Response = Response<ClientBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A service that is not ready fails the call instead; nothing in this stack queues.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut answer = Box::pin(self.inner.call(request));
        Box::pin(async move {
            // A handler owns its request and is dropped right after a panic: nobody sees it half-done.
            let caught = poll_fn(
                |cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                },
            );
            Ok(match caught.await {
                Ok(Ok(response)) => response,
                Ok(Err(failure)) => {
                    tracing::info!(code = %failure.code, fault = %failure.code.fault(), message = failure.message, "failed");
                    failure.into_response()
                }
                Err(panic) => panicked(panic.as_ref()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn failures_are_openai_errors_with_the_right_status() {
        let failure = Failure {
            param: Some("stream".into()),
            ..Failure::new(Code::BadRequest, "stream: must be true")
        };
        let response = failure.into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"error":{"message":"stream: must be true (A604_bad_request)","type":"aegis_error","param":"stream","code":"A604_bad_request"}}"#
        );
    }

    #[test]
    fn what_may_work_again_is_not_marked() {
        let response = Failure::new(Code::Overloaded, "full").into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &HeaderValue::from_static("1"))
        );
        assert!(!response.headers().contains_key("x-should-retry"));
    }
}
