//! Reads one whole frame. `eventsource-stream` is the parser; the one-line `data:` frame that makes up nearly all
//! of a token stream has a fast path that gives the same answer without it.

use crate::limits::FRAME_LINES_MAX;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_core::Stream;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event:` field; empty where the frame has none.
    pub name: Cow<'a, str>,
    /// The `data:` lines, joined by LF.
    pub data: Cow<'a, str>,
}

/// The frame's bytes are not UTF-8, or not an event stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Reads one frame, as the framer cut it. `None` for comments, pings and blank frames.
///
/// # Errors
/// [`Unreadable`] when the frame is not UTF-8.
pub fn parse(frame: &[u8]) -> Result<Option<Event<'_>>, Unreadable> {
    match plain_data(frame) {
        Some(data) => {
            let data =
                std::str::from_utf8(data).map_err(|error| Unreadable(format!("not UTF-8: {error}")))?;
            Ok(Some(Event {
                name: Cow::Borrowed(""),
                data: Cow::Borrowed(data),
            }))
        }
        None => parse_any(frame),
    }
}

/// The payload of a frame that is exactly one non-empty `data:` line ended by two LFs.
fn plain_data(frame: &[u8]) -> Option<&[u8]> {
    let line = frame.strip_prefix(b"data:")?.strip_suffix(b"\n\n")?;
    let data = line.strip_prefix(b" ").unwrap_or(line);
    (!data.is_empty() && memchr::memchr2(b'\n', b'\r', data).is_none()).then_some(data)
}

/// Reads one frame with `eventsource-stream`. Public so that the fast path can be compared with it.
///
/// # Errors
/// [`Unreadable`] when the frame is not UTF-8 or the crate refuses it.
pub fn parse_any(frame: &[u8]) -> Result<Option<Event<'static>>, Unreadable> {
    // The crate panics on a BOM in places where it does not expect one, so none ever reaches it.
    let mut frame = frame;
    while let Some(rest) = frame.strip_prefix(BOM) {
        frame = rest;
    }
    if frame.iter().all(|b| matches!(b, b'\n' | b'\r')) {
        return Ok(None);
    }
    if let Err(error) = std::str::from_utf8(frame) {
        return Err(Unreadable(format!("not UTF-8: {error}")));
    }
    // The crate moves the rest of the frame once per line.
    let lines = memchr::memchr2_iter(b'\n', b'\r', frame)
        .take(FRAME_LINES_MAX + 1)
        .count();
    if lines > FRAME_LINES_MAX {
        return Err(Unreadable(format!("longer than {FRAME_LINES_MAX} lines")));
    }
    let mut whole = frame.to_vec();
    if frame.ends_with(b"\r") {
        // The crate waits to see whether an LF follows, and loses the event when nothing does.
        whole.push(b'\n');
    }
    let mut stream = pin!(Once(Some(whole)).eventsource());
    // A foreign parser on foreign bytes: if it panics all the same, the frame is unreadable and nothing else happens.
    let polled = catch_unwind(AssertUnwindSafe(|| {
        stream.as_mut().poll_next(&mut Context::from_waker(Waker::noop()))
    }));
    match polled {
        Err(_) => Err(Unreadable("one that the event parser fails on".to_owned())),
        Ok(Poll::Ready(Some(Ok(event)))) => Ok(Some(Event {
            // The crate fills in the default name of the specification.
            name: if event.event == "message" {
                Cow::Borrowed("")
            } else {
                Cow::Owned(event.event)
            },
            data: Cow::Owned(event.data),
        })),
        Ok(Poll::Ready(None) | Poll::Pending) => Ok(None),
        Ok(Poll::Ready(Some(Err(EventStreamError::Transport(never))))) => match never {},
        Ok(Poll::Ready(Some(Err(error)))) => Err(Unreadable(error.to_string())),
    }
}

/// A stream of one item that is always ready.
struct Once(Option<Vec<u8>>);

impl Stream for Once {
    type Item = Result<Vec<u8>, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(frame: &str) -> Option<String> {
        parse(frame.as_bytes()).unwrap().map(|e| e.data.into_owned())
    }

    #[test]
    fn frames_of_every_shape() {
        assert_eq!(data("data: {\"a\":1}\n\n").as_deref(), Some("{\"a\":1}"));
        assert_eq!(data("data:x\r\n\r\n").as_deref(), Some("x"));
        assert_eq!(data("data:x\r\r").as_deref(), Some("x"));
        assert_eq!(data("data: x\r\n\r").as_deref(), Some("x"));
        assert_eq!(data("data: a\ndata: b\n\n").as_deref(), Some("a\nb"));
        assert_eq!(data("\u{feff}data: x\n\n").as_deref(), Some("x"));
        assert_eq!(data("\u{feff}\u{feff}data: x\n\n").as_deref(), Some("x"));
        assert!(parse("data: \n".repeat(FRAME_LINES_MAX + 1).as_bytes()).is_err());
        assert_eq!(data(":\n\n"), None);
        assert_eq!(data(": ping - 12:00\r\n\r\n"), None);
        assert_eq!(data("\n"), None);
        assert_eq!(data("event: ping\n\n"), None);
        let event = parse(b"event: error\ndata: {}\n\n").unwrap().unwrap();
        assert_eq!((event.name.as_ref(), event.data.as_ref()), ("error", "{}"));
        assert!(parse(b"data: \xff\n\n").is_err());
        assert!(parse(b": \xff\n\n").is_err());
    }

    fn frame() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            4 => "data:[ ]{0,2}.{0,20}",
            2 => "data: \\{\"a\":\"[^\r\n]{0,20}\"\\}",
            1 => "(event|id|retry|:|error|x): ?.{0,8}",
            1 => Just("data".to_owned()),
        ];
        let end = prop_oneof![6 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
        (proptest::collection::vec((line, end.clone()), 1..4), end).prop_map(|(lines, last)| {
            let mut text: String = lines
                .into_iter()
                .map(|(l, e)| l.replace(['\n', '\r'], "") + e)
                .collect();
            text.push_str(last);
            text
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// The fast path and the crate agree on every frame.
        #[test]
        fn the_fast_path_agrees_with_the_crate(frame in frame()) {
            prop_assert_eq!(parse(frame.as_bytes()), parse_any(frame.as_bytes()));
        }

        /// Also on frames of arbitrary bytes.
        #[test]
        fn arbitrary_payloads_agree(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut frame = b"data: ".to_vec();
            frame.extend(payload.iter().filter(|b| !matches!(b, b'\n' | b'\r')));
            frame.extend(b"\n\n");
            let (fast, slow) = (parse(&frame), parse_any(&frame));
            prop_assert_eq!(fast.is_err(), slow.is_err());
            if let (Ok(fast), Ok(slow)) = (fast, slow) {
                prop_assert_eq!(fast, slow);
            }
        }
    }
}
