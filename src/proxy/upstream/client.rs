//! The HTTP client towards the upstream, one per worker so that no token crosses threads.

use crate::config::Config;
use crate::limits::{UPSTREAM_IDLE, UPSTREAM_IDLE_CONNECTIONS_MAX};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Any cause of a broken body.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way to the upstream: stored (guarded calls) or passed on as it comes.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Cause>;

/// A pool of connections to the upstream. Cloning shares the pool.
#[derive(Clone)]
pub(crate) struct UpstreamClient(Client<HttpConnector, RequestBody>);

impl UpstreamClient {
    pub(crate) fn new(config: &Config) -> Self {
        let mut connector = HttpConnector::new();
        // Nagle's algorithm and delayed ACKs cost 40 ms on the first token of two known gateways.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.bounds.connect));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(UPSTREAM_IDLE)
            .pool_max_idle_per_host(UPSTREAM_IDLE_CONNECTIONS_MAX)
            .http1_max_headers(256)
            .build(connector);
        Self(client)
    }

    /// Sends a request. Dropping the answer's body before its end closes the connection, which is how a
    /// generation is aborted.
    pub(crate) fn send(&self, request: Request<RequestBody>) -> impl Future<Output = Result<Response<Incoming>, Error>> + use<> {
        self.0.request(request)
    }
}
