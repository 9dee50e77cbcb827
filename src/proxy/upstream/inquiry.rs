//! Aegis's own questions to the upstream: small requests with a bound on time and on the answer's size.

use super::base::BaseUrl;
use super::client::{Cause, RequestBody, SendError, UpstreamClient};
use crate::limits::INQUIRY_BYTES_MAX;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, InvalidHeaderValue, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use std::sync::Arc;
use std::time::Duration;

/// The headers in which clients show a key: the common one, that of llama-server and TabbyAPI, that of gateways.
static KEYS: [HeaderName; 3] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
];

/// What a client shows to be let in, in the headers in which it shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key([Option<HeaderValue>; KEYS.len()]);

impl Key {
    /// The key in a request's head.
    pub(crate) fn of(head: &HeaderMap) -> Option<Self> {
        let values = KEYS.each_ref().map(|name| head.get(name).cloned());
        values.iter().any(Option::is_some).then_some(Self(values))
    }

    /// A key as `Authorization` has it.
    ///
    /// # Errors
    /// When no header can have it.
    pub(crate) fn bearer(key: &str) -> Result<Self, InvalidHeaderValue> {
        let value = HeaderValue::from_str(&format!("Bearer {key}"))?;
        Ok(Self([Some(value), None, None]))
    }

    fn put_into(&self, head: &mut HeaderMap) {
        for (name, value) in KEYS.iter().zip(&self.0) {
            if let Some(value) = value {
                head.insert(name, value.clone());
            }
        }
    }
}

/// Why a question got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silent {
    /// It may still be alive.
    #[error("{0}")]
    Late(String),
    /// It may still be alive, but did not even take the connection.
    #[error("{0}")]
    Unconnected(String),
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
    /// The client's key, for servers that guard these paths with it.
    pub(crate) key: Option<&'a Key>,
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
        if let (Some(key), Some(head)) = (self.key, request.headers_mut()) {
            key.put_into(head);
        }
        let body: RequestBody = Full::new(body)
            .map_err(|never| -> Cause { match never {} })
            .boxed_unsync();
        let request = request.body(body).map_err(|e| failed(&e))?;
        let exchange = async {
            let answer = self.client.send(request).await.map_err(|e| match e {
                SendError::ConnectTimeout(_) => Silent::Unconnected(format!("{path} did not answer: {e}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_on_in_the_headers_in_which_it_came() {
        for (name, other) in [
            ("authorization", "x-api-key"),
            ("x-api-key", "api-key"),
            ("api-key", "authorization"),
        ] {
            let mut shown = HeaderMap::new();
            shown.insert(name, HeaderValue::from_static("secret"));
            shown.insert("cookie", HeaderValue::from_static("a=b"));
            let mut head = HeaderMap::new();
            Key::of(&shown).unwrap().put_into(&mut head);
            assert_eq!(head.get(name), shown.get(name));
            assert_eq!((head.len(), head.get(other)), (1, None));
        }
        assert!(Key::of(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_key_that_no_header_can_have_is_an_error() {
        let mut head = HeaderMap::new();
        Key::bearer("sk-1").unwrap().put_into(&mut head);
        assert_eq!(head[AUTHORIZATION], "Bearer sk-1");
        assert!(Key::bearer("sk-1\n").is_err());
    }
}
