//! One request and its answer: guarded, or passed on.

pub(crate) mod guarded;
pub(crate) mod intake;
pub(crate) mod passed;
mod whole;

use crate::app::App;
use crate::http::body::ClientBody;
use crate::http::rescue::Failure;
use aegis_core::dialect::Dialect;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

/// Sends a request the way its path asks for.
#[derive(Clone)]
pub(crate) struct Router {
    app: Arc<App>,
}

impl Router {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Service<Request<Incoming>> for Router {
    type Response = Response<ClientBody>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let app = Arc::clone(&self.app);
        match Dialect::of_path(request.uri().path()) {
            Some(dialect) if request.method() == Method::POST => {
                Box::pin(intake::serve(app, dialect, request))
            }
            _ => Box::pin(passed::serve(app, request)),
        }
    }
}
