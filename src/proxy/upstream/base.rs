//! The base URL of the upstream.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use std::fmt;
use std::str::FromStr;

/// Scheme, host and an optional path under which the upstream is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    authority: Authority,
    /// Without the last slash.
    prefix: String,
}

/// The text cannot be used as a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBaseUrl {
    #[error("is not a URL with a host")]
    NotAUrl,
    #[error("only http is spoken to the upstream")]
    Scheme,
    #[error("a base URL has no query")]
    Query,
    #[error("a name and password in a URL would end up in logs and error messages")]
    UserInfo,
}

impl BadBaseUrl {
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::NotAUrl => "Write it as \"http://127.0.0.1:8080\".",
            Self::Scheme => {
                "Aegis runs beside the server: use its http address, or put a TLS terminator between."
            }
            Self::UserInfo => {
                "Leave out everything before the @; clients send their own Authorization header."
            }
            Self::Query => "Leave out everything from the question mark on.",
        }
    }
}

impl Default for BaseUrl {
    fn default() -> Self {
        Self {
            authority: Authority::from_static("127.0.0.1:8080"),
            prefix: String::new(),
        }
    }
}

impl FromStr for BaseUrl {
    type Err = BadBaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.parse::<Uri>().map_err(|_| BadBaseUrl::NotAUrl)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(BadBaseUrl::NotAUrl);
        };
        if scheme != Scheme::HTTP {
            return Err(BadBaseUrl::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(BadBaseUrl::UserInfo);
        }
        let path = parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(BadBaseUrl::Query);
        }
        Ok(Self {
            authority,
            prefix: path.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

impl BaseUrl {
    /// Host and port, as the `Host` header wants it.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The URL of a request's path and query at the upstream.
    ///
    /// # Errors
    /// When the joined path is not a URI; only possible for paths that were none before.
    pub(crate) fn join(&self, path: Option<&PathAndQuery>) -> Result<Uri, http::Error> {
        let path = path.map_or("/", PathAndQuery::as_str);
        let builder = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone());
        // `OPTIONS *` is a request about the server itself.
        let path = if path == "*" { "/" } else { path };
        builder.path_and_query(format!("{}{path}", self.prefix)).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_under_the_prefix() {
        let base: BaseUrl = "http://gpu:8080/llama/".parse().unwrap();
        let path = PathAndQuery::from_static("/v1/models?x=1&y=%20");
        assert_eq!(
            base.join(Some(&path)).unwrap(),
            "http://gpu:8080/llama/v1/models?x=1&y=%20"
        );
        assert_eq!(base.to_string(), "http://gpu:8080/llama");
        assert_eq!(
            "http://h".parse::<BaseUrl>().unwrap().join(None).unwrap(),
            "http://h/"
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (text, error) in [
            ("localhost", BadBaseUrl::NotAUrl),
            ("/v1", BadBaseUrl::NotAUrl),
            ("https://h", BadBaseUrl::Scheme),
            ("http://h/?a", BadBaseUrl::Query),
            ("http://user:word@h", BadBaseUrl::UserInfo),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
        }
    }
}
