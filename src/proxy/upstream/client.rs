//! The HTTP/1.1 client towards the upstream.
//!
//! A connection is not a task of its own: the future that waits for an answer, and later the body that reads it, drive
//! it from the task that writes to the client. So a token costs no hop between tasks, several tokens that came in one
//! read are seen together, and an idle connection costs no wake-up. Each worker has its own pool.

use super::base::BaseUrl;
use crate::limits::{
    UPSTREAM_BUFFER_BYTES, UPSTREAM_HEADERS_MAX, UPSTREAM_IDLE, UPSTREAM_IDLE_CONNECTIONS_MAX,
};
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Any cause of a broken body.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way to the upstream: stored (guarded calls) or passed on as it comes.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Cause>;

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no connection within {} s", .0.as_secs_f64())]
    ConnectTimeout(Duration),
    #[error("{0}")]
    Exchange(#[source] hyper::Error),
}

/// An HTTP/1.1 connection and the handle that puts requests on it.
struct Link {
    connection: Connection<TokioIo<TcpStream>, RequestBody>,
    sender: SendRequest<RequestBody>,
    /// The connection's future has completed and must not be polled again.
    over: bool,
}

impl Link {
    /// Moves bytes in both directions as far as the socket allows.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.over
            && let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx)
        {
            // The body and the answer that are waiting get the same error.
            tracing::trace!(?result, "a connection to the upstream is over");
            self.over = true;
        }
    }
}

/// Connections to one upstream. Used by one worker; the lock is never contended.
pub(crate) struct UpstreamClient {
    address: String,
    connect: Duration,
    idle: Mutex<Vec<(Instant, Link)>>,
}

impl UpstreamClient {
    pub(crate) fn new(base: &BaseUrl, connect: Duration) -> Self {
        let authority = base.authority();
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        Self {
            address,
            connect,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future, or later the body before its end,
    /// closes the connection, which is how a generation is aborted.
    ///
    /// A request that met a kept connection which the upstream had closed meanwhile, and of which nothing was sent,
    /// goes out again on another one.
    ///
    /// # Errors
    /// [`SendError`] when no head came.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        *request.version_mut() = Version::HTTP_11;
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        loop {
            let kept = self.take_idle();
            let fresh = kept.is_none();
            let mut link = match kept {
                Some(link) => link,
                None => self.open().await?,
            };
            let result = {
                let mut answer = pin!(link.sender.try_send_request(request));
                poll_fn(|cx| {
                    link.drive(cx);
                    answer.as_mut().poll(cx)
                })
                .await
            };
            match result {
                Ok(answer) => {
                    return Ok(answer.map(|incoming| UpstreamBody {
                        incoming,
                        had_frame: false,
                        link: Some(link),
                        client: Arc::clone(self),
                    }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(SendError::Exchange(error.into_error())),
                },
            }
        }
    }

    async fn open(&self) -> Result<Link, SendError> {
        let connecting = tokio::time::timeout(self.connect, TcpStream::connect(&self.address));
        let stream = connecting
            .await
            .map_err(|_| SendError::ConnectTimeout(self.connect))?
            .map_err(SendError::Connect)?;
        // Nagle's algorithm and delayed ACKs cost 40 ms on the first token of two known gateways.
        stream.set_nodelay(true).map_err(SendError::Connect)?;
        let mut builder = Builder::new();
        builder
            .max_headers(UPSTREAM_HEADERS_MAX)
            .max_buf_size(UPSTREAM_BUFFER_BYTES);
        let (sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::Exchange)?;
        Ok(Link {
            connection,
            sender,
            over: false,
        })
    }

    /// A kept connection that the upstream has not closed.
    fn take_idle(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < UPSTREAM_IDLE);
        while let Some((_, mut link)) = idle.pop() {
            // Nobody has looked at this socket since it was kept: a close that arrived shows now.
            link.drive(&mut Context::from_waker(Waker::noop()));
            if !link.over && link.sender.is_ready() {
                return Some(link);
            }
        }
        None
    }

    fn keep(&self, mut link: Link) {
        link.drive(&mut Context::from_waker(Waker::noop()));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !link.over && link.sender.is_ready() && idle.len() < UPSTREAM_IDLE_CONNECTIONS_MAX {
            idle.push((Instant::now(), link));
        }
    }
}

/// The body of an answer, and the connection it comes from.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    /// The last poll gave a frame.
    had_frame: bool,
    link: Option<Link>,
    client: Arc<UpstreamClient>,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(link) = &mut this.link else {
            return Poll::Ready(None);
        };
        // The body can only become ready by driving its connection, which happens here and nowhere else. So neither
        // needs to wake this task while both are being polled; only before waiting is the task's own waker left with
        // the connection, that is with the socket.
        let quiet = &mut Context::from_waker(Waker::noop());
        let mut frame = Poll::Pending;
        if !this.had_frame {
            link.drive(quiet);
            frame = Pin::new(&mut this.incoming).poll_frame(quiet);
        }
        if frame.is_pending() {
            // After a frame there is most likely nothing more: straight to waiting.
            link.drive(cx);
            frame = Pin::new(&mut this.incoming).poll_frame(quiet);
        }
        this.had_frame = frame.is_ready();
        if let Poll::Ready(None) = frame
            && let Some(link) = this.link.take()
        {
            this.client.keep(link);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        // A body that is known to be over without being read (no content, HEAD) leaves a sound connection.
        if self.incoming.is_end_stream()
            && let Some(link) = self.link.take()
        {
            self.client.keep(link);
        }
    }
}
