//! Dialects: how one wire format says text, finishes, errors and the end. One file per dialect.

pub mod calls;
mod chat;
mod completions;
mod template;
mod text;

pub use template::Template;

use calls::Calls;

use crate::event::FrameFacts;
use crate::sse::parse::{self, Unreadable};

/// A wire format whose answers Aegis understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `POST …/chat/completions`.
    Chat,
    /// `POST …/completions`, the legacy form.
    Completions,
}

impl Dialect {
    /// The dialect of a `POST` to `path`; any prefix is allowed, as upstreams are mounted anywhere.
    ///
    /// llama-server's own `/completion` is another format and not meant here.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        if path.ends_with("/chat/completions") {
            Some(Self::Chat)
        } else if path.ends_with("/completions") {
            Some(Self::Completions)
        } else {
            None
        }
    }

    /// Reads one SSE frame, as the framer cut it.
    ///
    /// # Errors
    /// [`Unreadable`] when the frame is not UTF-8, or its data is not an object of this dialect.
    pub fn frame<'a>(self, frame: &'a [u8]) -> Result<FrameFacts<'a>, Unreadable> {
        self.frame_among(frame, &mut Calls::default())
    }

    /// [`Self::frame`], of an answer whose earlier frames began `calls`.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn frame_among<'a>(self, frame: &'a [u8], calls: &mut Calls) -> Result<FrameFacts<'a>, Unreadable> {
        let Some(event) = parse::parse(frame)? else {
            return Ok(legacy_error(frame));
        };
        if event.data == "[DONE]" {
            return Ok(FrameFacts {
                done: true,
                ..FrameFacts::default()
            });
        }
        // llama-server opens the streamed answer to several prompts with it.
        if event.data == "null" {
            return Ok(FrameFacts::default());
        }
        match event.data {
            std::borrow::Cow::Borrowed(data) => self.object_among(data, calls),
            std::borrow::Cow::Owned(data) => self.object_among(&data, calls).map(text::into_owned),
        }
    }

    /// Reads one JSON object: the data of an event, or the whole body of a non-streaming answer.
    ///
    /// # Errors
    /// [`Unreadable`] when the text is not an object of this dialect.
    pub fn object(self, json: &str) -> Result<FrameFacts<'_>, Unreadable> {
        self.object_among(json, &mut Calls::default())
    }

    fn object_among<'a>(self, json: &'a str, calls: &mut Calls) -> Result<FrameFacts<'a>, Unreadable> {
        match self {
            Self::Chat => chat::read(json, calls),
            Self::Completions => completions::read(json),
        }
    }
}

/// The HTTP status that an error inside a stream names (`error.code` or `error.status` as a number), if it names one.
#[must_use]
pub fn error_status(frame: &[u8]) -> Option<u16> {
    let event = parse::parse(frame).ok()??;
    let value: serde_json::Value = serde_json::from_str(&event.data).ok()?;
    let error = value.get("error").unwrap_or(&value);
    let number = |name| u16::try_from(error.get(name)?.as_u64()?).ok();
    number("code").or_else(|| number("status"))
}

/// llama-server before September 2025 reported a failure as a bare line `error: {…}`, which every SSE parser
/// ignores: remembered, so that the end of the stream can say what happened.
fn legacy_error(frame: &[u8]) -> FrameFacts<'static> {
    let error = frame.strip_prefix(b"error:").map(|rest| {
        let text = String::from_utf8_lossy(rest);
        text::error_message(text.trim()).unwrap_or_else(|| text.trim().to_owned())
    });
    FrameFacts {
        silent_error: error,
        ..FrameFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_choose_the_dialect() {
        assert_eq!(Dialect::of_path("/v1/chat/completions"), Some(Dialect::Chat));
        assert_eq!(
            Dialect::of_path("/api/openai/v1/chat/completions/"),
            Some(Dialect::Chat)
        );
        assert_eq!(Dialect::of_path("/v1/completions"), Some(Dialect::Completions));
        assert_eq!(Dialect::of_path("/completions"), Some(Dialect::Completions));
        for path in [
            "/completion",
            "/v1/embeddings",
            "/v1/responses",
            "/",
            "/chat/completions/input_tokens",
        ] {
            assert_eq!(Dialect::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn done_pings_and_the_old_error_line() {
        assert!(Dialect::Chat.frame(b"data: [DONE]\n\n").unwrap().done);
        assert_eq!(Dialect::Chat.frame(b":\n\n").unwrap(), FrameFacts::default());
        assert_eq!(
            Dialect::Completions.frame(b"data: null\n\n").unwrap(),
            FrameFacts::default()
        );
        let old = Dialect::Chat
            .frame(b"error: {\"code\":500,\"message\":\"slot died\"}\n\n")
            .unwrap();
        assert_eq!(old.silent_error.as_deref(), Some("slot died"));
        assert_eq!(old.error, None);
    }

    #[test]
    fn an_error_names_its_status_as_code_or_as_status() {
        for (error, want) in [
            (r#"{"error":{"code":503}}"#, Some(503)),
            (r#"{"error":{"code":"no_such_model","status":404}}"#, Some(404)),
            (r#"{"error":{"code":null,"status":404}}"#, Some(404)),
            (r#"{"error":{"code":"x","status":"y"}}"#, None),
        ] {
            let frame = format!("data: {error}\n\n");
            assert_eq!(error_status(frame.as_bytes()), want, "{error}");
        }
    }
}
