//! Bounds the requests in progress. `tower`'s own limit gives the place back when the head is sent; a token stream
//! lives in its body, so here the body keeps it.

use super::body::ClientBody;
use super::rescue::Failure;
use aegis_core::error::Code;
use http::{Request, Response};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tower::Service;

/// The layer.
#[derive(Debug, Clone)]
pub(crate) struct Admit<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S> Admit<S> {
    pub(crate) fn new(inner: S, places: Arc<Semaphore>) -> Self {
        Self { inner, places }
    }
}

impl<S, B> Service<Request<B>> for Admit<S>
where
    S: Service<Request<B>, Response = Response<ClientBody>, Error = Failure>,
    S::Future: Send + 'static,
{
    type Response = Response<ClientBody>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let message = "all places are taken; try again in a moment, or raise limits.streams_max";
            return Box::pin(std::future::ready(Err(Failure::new(Code::Overloaded, message))));
        };
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| body.keeping(place))) })
    }
}
