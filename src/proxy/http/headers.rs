//! Which headers pass. RFC 9110 §7.6.1: hop-by-hop headers, and whatever `Connection` names, concern one connection.

use super::body::ClientBody;
use super::rescue::Failure;
use aegis_core::error::Code;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, Version};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::Service;

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes the hop-by-hop headers, and those that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The length that the head announces for its body, in bytes.
pub(crate) fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Headers of a request that Aegis sends on. `host` is the upstream's own.
pub(crate) fn towards_upstream(headers: &mut HeaderMap, host: &str) {
    // The client's expectation is met by Aegis, which has read the body or is reading it.
    headers.remove(EXPECT);
    // llama-server keeps generating for a client that left when it sees this.
    headers.remove("x-conversation-id");
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(HOST, host);
    }
}

/// Additionally for guarded calls: an answer that can be read, and a body whose length Aegis knows.
pub(crate) fn guarded_towards_upstream(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(CONTENT_LENGTH);
}

/// What kind of upgrade a request asks for, if it is one that would leave the checks.
fn upgrade(request: &Request<impl Sized>) -> Option<String> {
    if request.method() == Method::CONNECT {
        return Some("CONNECT".to_owned());
    }
    let named = request.headers().get(CONNECTION)?.to_str().ok()?;
    if !named
        .split(',')
        .any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
    {
        return None;
    }
    let protocol = request.headers().get(UPGRADE)?.to_str().unwrap_or("?").to_owned();
    // A server may ignore an offer to speak HTTP/2 (RFC 9110 §7.8) and answer as if it had not been made.
    (!protocol.eq_ignore_ascii_case("h2c")).then_some(protocol)
}

/// RFC 9112 §3.2: an HTTP/1.1 request names exactly one host. Two of them are how a request means one thing to a
/// proxy and another to the server behind it.
fn one_host(request: &Request<impl Sized>) -> Result<(), Failure> {
    let hosts = request.headers().get_all(HOST).iter().count();
    let named = hosts == 1 || request.version() != Version::HTTP_11 && hosts == 0;
    if named {
        return Ok(());
    }
    let message = format!("the request has {hosts} Host headers; send exactly one");
    Err(Failure {
        param: Some("Host".to_owned()),
        ..Failure::new(Code::BadRequest, message)
    })
}

/// The layer.
#[derive(Debug, Clone)]
pub(crate) struct Hygiene<S> {
    inner: S,
}

impl<S> Hygiene<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for Hygiene<S>
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Err(failure) = one_host(&request) {
            return Box::pin(std::future::ready(Err(failure)));
        }
        if let Some(protocol) = upgrade(&request) {
            let message = format!("an upgrade to {protocol} would pass unchecked; use the HTTP endpoints");
            return Box::pin(std::future::ready(Err(Failure::new(
                Code::UpgradeRefused,
                message,
            ))));
        }
        strip_hop_by_hop(request.headers_mut());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            strip_hop_by_hop(response.headers_mut());
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| {
                (
                    k.parse::<HeaderName>().unwrap(),
                    v.parse::<HeaderValue>().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn connection_names_are_dropped_with_the_rest() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("authorization", "Bearer k"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("authorization", "Bearer k")]));
    }

    #[test]
    fn only_real_upgrades_are_refused() {
        let request = |pairs: &[(&str, &str)]| {
            let mut request = Request::new(());
            *request.headers_mut() = map(pairs);
            upgrade(&request)
        };
        assert_eq!(
            request(&[("connection", "Upgrade"), ("upgrade", "websocket")]).as_deref(),
            Some("websocket")
        );
        assert_eq!(
            request(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]),
            None
        );
        assert_eq!(request(&[("upgrade", "websocket")]), None);
        assert_eq!(request(&[("connection", "keep-alive")]), None);
    }
}
