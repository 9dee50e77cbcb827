//! A request for a whole answer, made into one for a stream: its answer can then be checked while it is written, and a
//! client that leaves is noticed.

use super::RequestFacts;
use super::members::Members;
use crate::dialect::Dialect;
use bytes::Bytes;

/// The body of a non-streaming request with `stream: true` and `stream_options.include_usage: true`; every other member
/// keeps its place and its text. The answer is for `Aggregate`.
///
/// `None` when the request must go as it is, because its streamed answer says less than the whole one, or something else:
/// - it asks for a stream itself;
/// - the client prefills a chat: llama-server repeats the prefill in whole answers and not in streamed ones. The same goes
///   for `echo`;
/// - `best_of` more than 1: servers choose among answers that are whole;
/// - `return_tokens`, `response_fields` and `verbose`, options of llama-server that it follows only in part in a stream;
/// - `prompt_logprobs`: vLLM refuses them in a stream, and where they ask for nothing but the prompt's own tokens (0) it
///   leaves them out;
/// - the body is not understood.
#[must_use]
pub fn as_stream(dialect: Dialect, body: &[u8], facts: &RequestFacts) -> Option<Bytes> {
    let prefilled = facts.prefilled && dialect == Dialect::Chat;
    if facts.stream || prefilled {
        return None;
    }
    let mut request = Members::read(body).ok()?;
    let whole_only = ["echo", "return_tokens", "response_fields", "verbose"];
    if whole_only.into_iter().any(|name| asks(&request, name)) {
        return None;
    }
    // 0 asks for something here.
    if !matches!(request.get("prompt_logprobs"), None | Some("null" | "false")) {
        return None;
    }
    let one_is_best = matches!(request.get("best_of"), None | Some("null" | "0" | "1"));
    if !one_is_best {
        return None;
    }
    let mut options = match request.get("stream_options") {
        None | Some("null") => Members::default(),
        Some(options) => Members::read(options.as_bytes()).ok()?,
    };
    let set = options.set("include_usage", "true".to_owned())
        && request.set("stream", "true".to_owned())
        && request.set("stream_options", options.to_json());
    set.then(|| Bytes::from(request.to_json()))
}

/// A member that asks for something.
fn asks(request: &Members, name: &str) -> bool {
    let value = request.get(name);
    value.is_some_and(|json| !matches!(json, "null" | "false" | "0" | "\"\"" | "[]" | "{}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::JSON_DEPTH_MAX;

    fn streamed(dialect: Dialect, body: &str) -> Option<String> {
        let facts = super::super::read(body.as_bytes(), JSON_DEPTH_MAX).unwrap();
        let body = as_stream(dialect, body.as_bytes(), &facts)?;
        Some(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn only_the_two_members_change() {
        for (body, want) in [
            (
                r#"{ "model": "m", "temperature": 1.50, "messages": [ {"role":"user", "content":"h\u00e9"} ] }"#,
                r#"{"model":"m","temperature":1.50,"messages":[ {"role":"user", "content":"h\u00e9"} ],"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":false,"stream_options":null,"seed":18446744073709551616}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"seed":18446744073709551616}"#,
            ),
            (
                r#"{"stream_options":{"x": [1, 2],"include_usage":false,"y":null},"stream":null,"best_of":1}"#,
                r#"{"stream_options":{"x":[1, 2],"include_usage":true,"y":null},"stream":true,"best_of":1}"#,
            ),
        ] {
            assert_eq!(streamed(Dialect::Chat, body).as_deref(), Some(want));
            assert_eq!(streamed(Dialect::Completions, body).as_deref(), Some(want));
        }
    }

    #[test]
    fn some_requests_go_as_they_are() {
        for body in [
            r#"{"stream":true}"#,
            r#"{"best_of":2}"#,
            r#"{"best_of":"many"}"#,
            r#"{"echo":true,"prompt":"a"}"#,
            r#"{"return_tokens":true}"#,
            r#"{"response_fields":["content"]}"#,
            r#"{"verbose":true}"#,
            r#"{"prompt_logprobs":1}"#,
            r#"{"prompt_logprobs":0}"#,
            r#"{"stream_options":[]}"#,
        ] {
            assert_eq!(streamed(Dialect::Chat, body), None, "{body}");
            assert_eq!(streamed(Dialect::Completions, body), None, "{body}");
        }
        let prefilled = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
        assert_eq!(streamed(Dialect::Chat, prefilled), None);
        assert_eq!(as_stream(Dialect::Chat, b"[1]", &RequestFacts::default()), None);
        assert_eq!(as_stream(Dialect::Chat, b"{", &RequestFacts::default()), None);
    }

    #[test]
    fn what_asks_for_nothing_is_no_reason() {
        let body = r#"{"echo":false,"best_of":null,"response_fields":[],"verbose":false,"return_tokens":null,"prompt_logprobs":null}"#;
        assert!(streamed(Dialect::Completions, body).is_some());
    }
}
