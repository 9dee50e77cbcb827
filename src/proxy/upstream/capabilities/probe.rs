//! Two probes of the chat endpoint, and what their answers mean. Pure: the requests are texts, the answers are read.
//!
//! The first costs no token: a request that every server refuses that knows how a message is continued, and whose refusal
//! says in which way it knows it. The second makes the model write a few tokens behind a begun message.

use crate::limits::PROBE_TOKENS;
use crate::upstream::inquiry::Reply;
use aegis_core::aggregate::{Aggregate, Whole};
use aegis_core::dialect::Dialect;
use http::StatusCode;
use serde_json::{Value, json};

/// What the model has written, in the second probe. It ends inside a word: a continued message goes on with the word's
/// end, and a new message does not, even where it takes up the count. It is longer than [`PROBE_TOKENS`], so that a
/// reply with the whole of it repeats it without the model's doing.
const BEGUN: &str = "one, two, three, four, five, six, sev";

/// How the word goes on.
const WORD_END: &str = "en";

/// What the refusal of the first probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flags {
    /// The server knows `continue_final_message` and `add_generation_prompt`.
    Known,
    /// It continues a trailing assistant message, and does not know the flags.
    TrailingOnly,
    /// It took the request, so it neither knows the flags nor minds two trailing assistant messages.
    Taken,
    /// It refused it for another reason.
    Refused(String),
    /// It did not look at it: no key, no such model, not ready.
    Unclear(String),
}

/// How the model went on in the second probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Continuation {
    /// Where the message ended.
    Continues,
    /// The reply repeats the message and goes on from there.
    Echoes,
    /// With a message of its own.
    Restarts,
    /// It wrote no content, as while it thinks.
    Nothing,
    /// The server refused, though it could have understood.
    Refused(String),
    /// It did not look at it.
    Unclear(String),
}

fn with_model(mut body: Value, model: Option<&str>) -> String {
    if let Some(model) = model {
        body["model"] = model.into();
    }
    body.to_string()
}

/// The first probe. Both flags contradict each other, and two trailing assistant messages cannot be continued.
pub(crate) fn flags_request(model: Option<&str>) -> String {
    let body = json!({
        "messages": [
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello"},
            {"role": "assistant", "content": "there"},
        ],
        "max_tokens": 1,
        "temperature": 0,
        "continue_final_message": true,
        "add_generation_prompt": true,
    });
    with_model(body, model)
}

/// Reads the answer to [`flags_request`].
pub(crate) fn read_flags(reply: &Reply) -> Flags {
    let text = String::from_utf8_lossy(&reply.body).to_lowercase();
    match reply.status {
        status if status.is_success() => Flags::Taken,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            // A server that refuses every member it does not know names them, too.
            if text.contains("cannot set both") && text.contains("continue_final_message") {
                Flags::Known
            } else if text.contains("2 or more assistant messages") {
                Flags::TrailingOnly
            } else {
                Flags::Refused(said(reply))
            }
        }
        _ => Flags::Unclear(said(reply)),
    }
}

/// The second probe. It asks for a stream, as hidden requests do: llama-server repeats the begun message in a whole
/// answer, and not in a stream.
pub(crate) fn continuation_request(model: Option<&str>, flags: bool) -> String {
    let mut body = json!({
        "messages": [
            {"role": "user", "content": "Count from one to ten in words, separated by commas."},
            {"role": "assistant", "content": BEGUN},
        ],
        "max_tokens": PROBE_TOKENS,
        "temperature": 0,
        "stream": true,
    });
    if flags {
        body["continue_final_message"] = true.into();
        body["add_generation_prompt"] = false.into();
    }
    with_model(body, model)
}

/// Reads the answer to [`continuation_request`].
pub(crate) fn read_continuation(reply: &Reply) -> Continuation {
    if matches!(
        reply.status,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    ) {
        return Continuation::Refused(said(reply));
    }
    let mut aggregate = Aggregate::new(Dialect::Chat);
    let read = aggregate.feed(&reply.body);
    let whole = match aggregate.finish() {
        Whole::Body(body) if read.is_ok() && reply.status.is_success() => body,
        _ => return Continuation::Unclear(said(reply)),
    };
    let whole: Value = serde_json::from_slice(&whole).unwrap_or_default();
    match whole["choices"][0]["message"]["content"].as_str() {
        None | Some("") => Continuation::Nothing,
        Some(text) if text.starts_with(WORD_END) => Continuation::Continues,
        Some(text) if text.starts_with(BEGUN) => Continuation::Echoes,
        Some(_) => Continuation::Restarts,
    }
}

/// Status and beginning of an answer, for people.
fn said(reply: &Reply) -> String {
    const CHARS_MAX: usize = 200;
    let text: String = String::from_utf8_lossy(&reply.body)
        .chars()
        .take(CHARS_MAX)
        .collect();
    format!("{}: {}", reply.status, text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            server: None,
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn refusals_tell_what_is_known() {
        let llama = r#"{"error":{"code":400,"message":"Cannot set both add_generation_prompt and continue_final_message to true.","type":"invalid_request_error"}}"#;
        let vllm = r#"{"error":{"message":"[{'msg': 'Value error, Cannot set both `continue_final_message` and `add_generation_prompt` to True.'}]","code":400}}"#;
        let old = r#"{"error":{"code":400,"message":"Cannot have 2 or more assistant messages at the end of the list.","type":"invalid_request_error"}}"#;
        let strict = r#"{"detail":[{"type":"extra_forbidden","loc":["body","continue_final_message"]},{"type":"extra_forbidden","loc":["body","add_generation_prompt"]}]}"#;
        assert_eq!(read_flags(&reply(400, llama)), Flags::Known);
        assert_eq!(read_flags(&reply(400, vllm)), Flags::Known);
        assert_eq!(read_flags(&reply(400, old)), Flags::TrailingOnly);
        assert_eq!(read_flags(&reply(200, r#"{"choices":[]}"#)), Flags::Taken);
        assert!(matches!(read_flags(&reply(422, strict)), Flags::Refused(_)));
        for status in [401, 404, 500, 503] {
            assert!(
                matches!(read_flags(&reply(status, llama)), Flags::Unclear(_)),
                "{status}"
            );
        }
    }

    fn stream(texts: &[&str]) -> Reply {
        let chunk = |delta: Value, finish: Value| {
            let chunk = json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
            format!("data: {chunk}\n\n")
        };
        let mut body = chunk(json!({"role": "assistant", "content": null}), Value::Null);
        for text in texts {
            body += &chunk(json!({"content": text}), Value::Null);
        }
        body += &chunk(json!({}), "length".into());
        reply(200, &(body + "data: [DONE]\n\n"))
    }

    #[test]
    fn replies_tell_how_a_message_goes_on() {
        for (texts, expected) in [
            (&["en", ",", " eight"][..], Continuation::Continues),
            (&[BEGUN, "en"], Continuation::Echoes),
            (&["one", ",", " two"], Continuation::Restarts),
            (&["seven", ",", " eight"], Continuation::Restarts),
            (&["<think>"], Continuation::Restarts),
            (&[], Continuation::Nothing),
        ] {
            assert_eq!(read_continuation(&stream(texts)), expected, "{texts:?}");
        }
        assert!(matches!(
            read_continuation(&reply(400, "{}")),
            Continuation::Refused(_)
        ));
        for body in ["", r#"{"error":{"message":"no"}}"#] {
            assert!(
                matches!(read_continuation(&reply(200, body)), Continuation::Unclear(_)),
                "{body}"
            );
        }
        assert!(matches!(
            read_continuation(&reply(503, "")),
            Continuation::Unclear(_)
        ));
    }

    #[test]
    fn the_model_is_named_where_the_client_named_one() {
        let body: Value = serde_json::from_str(&flags_request(Some("m"))).unwrap();
        assert_eq!(body["model"], "m");
        let body: Value = serde_json::from_str(&continuation_request(None, true)).unwrap();
        assert!(body.get("model").is_none());
        assert_eq!(
            (&body["continue_final_message"], &body["add_generation_prompt"]),
            (&true.into(), &false.into())
        );
        let body: Value = serde_json::from_str(&continuation_request(None, false)).unwrap();
        assert!(body.get("continue_final_message").is_none());
    }
}
