//! The bodies that go to the client.

use crate::session::guarded::GuardedBody;
use crate::session::passed::PassedBody;
use crate::upstream::client::Cause;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// The body of an answer, with the place it takes among the requests in progress.
pub(crate) struct ClientBody {
    kind: Kind,
    /// The body broke; said at the next poll.
    broken: Option<Cause>,
    /// Given back when the body is dropped, not when the head is sent.
    _place: Option<OwnedSemaphorePermit>,
}

enum Kind {
    /// Text that Aegis wrote or has judged as a whole.
    Whole(Full<Bytes>),
    /// A guarded stream.
    Guarded(Box<GuardedBody>),
    /// Passed on as it comes.
    Passed(Box<PassedBody>),
}

impl ClientBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Whole(Full::new(bytes.into())),
            broken: None,
            _place: None,
        }
    }

    pub(crate) fn guarded(body: GuardedBody) -> Self {
        Self {
            kind: Kind::Guarded(Box::new(body)),
            broken: None,
            _place: None,
        }
    }

    pub(crate) fn passed(body: PassedBody) -> Self {
        Self {
            kind: Kind::Passed(Box::new(body)),
            broken: None,
            _place: None,
        }
    }

    /// Keeps `place` for as long as the body lives.
    pub(crate) fn keeping(self, place: OwnedSemaphorePermit) -> Self {
        Self {
            _place: Some(place),
            ..self
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = self.get_mut();
        if let Some(cause) = this.broken.take() {
            return Poll::Ready(Some(Err(cause)));
        }
        let frame = match &mut this.kind {
            Kind::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Kind::Guarded(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Kind::Passed(body) => Pin::new(body.as_mut()).poll_frame(cx),
        };
        if let Poll::Ready(Some(Err(cause))) = frame {
            // An error makes the server drop what it has not written yet. Waiting once lets it write that first, so the
            // client gets every byte that was released before the connection breaks.
            this.broken = Some(cause);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(body) => body.is_end_stream(),
            Kind::Guarded(body) => body.is_end_stream(),
            Kind::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(body) => body.size_hint(),
            Kind::Guarded(body) => body.size_hint(),
            Kind::Passed(body) => body.size_hint(),
        }
    }
}
