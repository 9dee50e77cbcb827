//! Gives every request an id and writes the access log.

use super::body::ClientBody;
use http::{HeaderName, HeaderValue, Request, Response};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tower::Service;
use uuid::Uuid;

/// The header that carries a request's id to the client.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-aegis-request-id");

/// The id of a request, in its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId(pub(crate) Uuid);

/// The layer.
#[derive(Debug, Clone)]
pub(crate) struct Identify<S> {
    inner: S,
}

impl<S> Identify<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for Identify<S>
where
    S: Service<Request<B>, Response = Response<ClientBody>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<ClientBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = Uuid::now_v7();
        request.extensions_mut().insert(RequestId(id));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let started = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            let mut text = Uuid::encode_buffer();
            if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            let (status, head_ms) = (response.status().as_u16(), started.elapsed().as_millis());
            tracing::debug!(request_id = %id, %method, path, status, head_ms, "answered");
            Ok(response)
        })
    }
}
