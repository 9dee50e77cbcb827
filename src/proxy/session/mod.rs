//! One request and its answer: guarded, or passed on.

mod collected;
mod context;
pub(crate) mod guarded;
mod hidden;
pub(crate) mod intake;
pub(crate) mod passed;
mod whole;

use crate::app::App;
use crate::http::body::ClientBody;
use crate::http::headers;
use crate::http::rescue::Failure;
use aegis_core::dialect::Dialect;
use aegis_core::error::Code;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

/// Said to clients whose answers outlast the drain.
const SHUTTING_DOWN: &str = "Aegis is shutting down and the time to drain is over";

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

/// Turns a client's request head into one for the upstream.
fn address(app: &App, head: &mut Parts) -> Result<(), Failure> {
    let base = &app.config.upstream;
    headers::towards_upstream(&mut head.headers, base.authority().as_str());
    head.uri = base
        .join(head.uri.path_and_query())
        .map_err(|error| Failure::new(Code::BadRequest, format!("the path cannot be passed on: {error}")))?;
    head.extensions.clear();
    Ok(())
}

/// The failure of a request whose answer did not begin within `limits.first_byte_s`.
fn no_answer(first_byte: Duration) -> Failure {
    let message = format!(
        "the upstream sent no answer within {} s",
        first_byte.as_secs_f64()
    );
    Failure::new(Code::UpstreamTimeout, message)
}

/// The dialect of a path as the upstream will understand it: servers decode `%63` and some ignore a second slash, so a
/// path that is only spelled differently must not pass unchecked.
fn dialect(path: &str) -> Option<Dialect> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    Dialect::of_path(&decoded)
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
        let abort = app.abort.clone();
        let dialect = dialect(request.uri().path()).filter(|_| request.method() == Method::POST);
        Box::pin(async move {
            let answer = async {
                match dialect {
                    Some(dialect) => intake::serve(app, dialect, request).await,
                    None => Box::pin(passed::serve(app, request)).await,
                }
            };
            // A request that has no head yet cannot be drained to its end either.
            tokio::select! {
                biased;
                answer = answer => answer,
                () = abort.cancelled() => Err(Failure::new(Code::ShuttingDown, SHUTTING_DOWN)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_of_a_guarded_path_are_guarded() {
        for path in [
            "/v1/chat/completions",
            "/v1/chat/%63ompletions",
            "/v1/completions//",
            "/%2fcompletions",
        ] {
            assert!(dialect(path).is_some(), "{path}");
        }
        assert!(dialect("/v1/embeddings").is_none());
    }
}
