//! Aegis's own questions to the upstream: small requests with a bound on time and on the answer's size.

use super::base::BaseUrl;
use super::client::{Cause, RequestBody, SendError, UpstreamClient};
use crate::limits::INQUIRY_BYTES_MAX;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use std::sync::Arc;
use std::time::Duration;

/// Why a question got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silent {
    /// It may still be alive.
    #[error("{0}")]
    Late(String),
    /// The connection was refused or broke.
    #[error("{0}")]
    Failed(String),
}

/// What the upstream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The `Server` header.
    pub(crate) server: Option<String>,
    pub(crate) body: Bytes,
}

/// Asks one upstream, with one client's key.
#[derive(Clone, Copy)]
pub(crate) struct Inquiry<'a> {
    pub(crate) client: &'a Arc<UpstreamClient>,
    pub(crate) base: &'a BaseUrl,
    /// The client's `Authorization`, for servers that guard these paths with it.
    pub(crate) key: Option<&'a HeaderValue>,
}

impl Inquiry<'_> {
    /// Asks for a path.
    ///
    /// # Errors
    /// [`Silent`] when no whole answer came within `limit`.
    pub(crate) async fn get(&self, path: &'static str, limit: Duration) -> Result<Reply, Silent> {
        self.ask(Method::GET, path, Bytes::new(), limit).await
    }

    /// Sends JSON to a path.
    ///
    /// # Errors
    /// [`Silent`] when no whole answer came within `limit`.
    pub(crate) async fn post(
        &self,
        path: &'static str,
        json: String,
        limit: Duration,
    ) -> Result<Reply, Silent> {
        self.ask(Method::POST, path, Bytes::from(json), limit).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &'static str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Reply, Silent> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Silent::Failed(format!("{path} failed: {}", root_cause(error)))
        };
        let uri = self
            .base
            .join(Some(&PathAndQuery::from_static(path)))
            .map_err(|e| failed(&e))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, self.base.authority().as_str());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = self.key {
            request = request.header(AUTHORIZATION, key.clone());
        }
        let body: RequestBody = Full::new(body)
            .map_err(|never| -> Cause { match never {} })
            .boxed_unsync();
        let request = request.body(body).map_err(|e| failed(&e))?;
        let exchange = async {
            let answer = self.client.send(request).await.map_err(|e| match e {
                SendError::ConnectTimeout(_) => Silent::Late(format!("{path} did not answer: {e}")),
                e => failed(&e),
            })?;
            let status = answer.status();
            let server = answer.headers().get(SERVER).and_then(|v| v.to_str().ok());
            let server = server.map(str::to_owned);
            let body = Limited::new(answer.into_body(), INQUIRY_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|e| failed(e.as_ref()))?.to_bytes();
            Ok(Reply { status, server, body })
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Silent::Late(format!(
                "{path} did not answer within {} s",
                limit.as_secs()
            ))),
        }
    }
}

/// The innermost cause, which is the one that says something ("Connection refused").
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
