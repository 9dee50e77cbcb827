//! The frames Aegis writes itself.
//!
//! What clients really do with an error inside a stream decides the shape: a frame `data: {"error":{…}}` without
//! `choices` raises an `APIError` with message and code in the OpenAI SDKs and in everything built on them, while an
//! `event: error` with a flat body, a bare FIN or a clean end are lost silently by most.

use crate::error::Code;
use bytes::Bytes;
use serde::Serialize;

/// The `error` object of the OpenAI API.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorObject<'a> {
    /// One or two sentences for people.
    pub message: &'a str,
    /// Always `aegis_error`, so that a client can tell Aegis's errors from the upstream's.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The request field at fault, where there is one.
    pub param: Option<&'a str>,
    /// The stable code, e.g. `A201_token_loop`.
    pub code: Code,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    error: ErrorObject<'a>,
}

/// The JSON text `{"error":{…}}`.
#[must_use]
pub fn error_json(code: Code, message: &str, param: Option<&str>) -> String {
    let body = Wrapped {
        error: ErrorObject {
            message,
            kind: "aegis_error",
            param,
            code,
        },
    };
    // Strings, an enum and an option always serialise; an empty object would still be a loud error at the client.
    serde_json::to_string(&body).unwrap_or_else(|_| "{\"error\":{}}".to_owned())
}

/// The terminal frames of a cut stream: the error, then `[DONE]`.
#[must_use]
pub fn cut_frames(code: Code, message: &str) -> Bytes {
    Bytes::from(format!(
        "data: {}\n\ndata: [DONE]\n\n",
        error_json(code, message, None)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_has_one_error_event_and_done() {
        let frames = cut_frames(Code::TokenLoop, "a \"block\"\nof 12");
        insta::assert_snapshot!(String::from_utf8_lossy(&frames), @r#"
        data: {"error":{"message":"a \"block\"\nof 12","type":"aegis_error","param":null,"code":"A201_token_loop"}}

        data: [DONE]
        "#);
    }
}
