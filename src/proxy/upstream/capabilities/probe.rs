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

/// Words of a refusal that is about how the messages stand, or about the flags. "No models loaded" has none of them.
const OF_MESSAGES: &[&str] = &[
    "assistant",
    "prefill",
    "continue_final_message",
    "add_generation_prompt",
    "last message",
    "final message",
];
/// Words of one that a chat template gave.
const OF_TEMPLATE: &[&str] = &["template", "jinja", "role", "roles", "alternate"];

/// What the refusal of the first probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flags {
    /// The server knows `continue_final_message` and `add_generation_prompt`.
    Known,
    /// The same, in llama-server's words.
    LlamaServer,
    /// It continues a trailing assistant message, and does not know the flags: the words of an older llama-server.
    LlamaServerOld,
    /// It took the request, so it neither knows the flags nor minds two trailing assistant messages. At most its template
    /// minded them, and that is only asked when the server has nothing to say.
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
    /// The server refused the messages or the flags.
    Refused(String),
    /// It did not look at them: no model loaded, no key, not ready.
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
    if reply.status.is_success() {
        return Flags::Taken;
    }
    if !may_refuse(reply.status) {
        return Flags::Unclear(said(reply));
    }
    let text = lower(reply);
    // vLLM and those who follow it quote the flags, and name them in the other order.
    if text.contains("cannot set both add_generation_prompt and continue_final_message to true") {
        return Flags::LlamaServer;
    }
    // A server that refuses every member it does not know names them, too.
    if text.contains("cannot set both") && text.contains("continue_final_message") {
        Flags::Known
    } else if text.contains("2 or more assistant messages") {
        Flags::LlamaServerOld
    } else if mentions(&text, OF_TEMPLATE) {
        Flags::Taken
    } else if reply.status != StatusCode::INTERNAL_SERVER_ERROR || mentions(&text, OF_MESSAGES) {
        Flags::Refused(said(reply))
    } else {
        Flags::Unclear(said(reply))
    }
}

/// Whether a server may answer so because of what a request says. llama-server answers 500 where a template refuses the
/// messages, and older builds where they themselves do.
fn may_refuse(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::INTERNAL_SERVER_ERROR
    )
}

fn lower(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).to_lowercase()
}

/// Whether one of the words stands in a text, and not inside a longer word: a "controller" has no role.
fn mentions(text: &str, words: &[&str]) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    words.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    })
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
    if may_refuse(reply.status) {
        let text = lower(reply);
        return if mentions(&text, OF_MESSAGES) || mentions(&text, OF_TEMPLATE) {
            Continuation::Refused(said(reply))
        } else {
            Continuation::Unclear(said(reply))
        };
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

    /// llama-server's answer where a template wants the roles to alternate.
    const ALTERNATING: &str = r#"{"error":{"code":500,"message":"While executing CallExpression at line 189: Jinja Exception: After the optional system message, conversation roles must alternate user and assistant roles.","type":"server_error"}}"#;

    #[test]
    fn refusals_tell_what_is_known() {
        let llama = r#"{"error":{"code":400,"message":"Cannot set both add_generation_prompt and continue_final_message to true.","type":"invalid_request_error"}}"#;
        let vllm = r#"{"error":{"message":"[{'msg': 'Value error, Cannot set both `continue_final_message` and `add_generation_prompt` to True.'}]","code":400}}"#;
        let old = r#"{"error":{"code":400,"message":"Cannot have 2 or more assistant messages at the end of the list.","type":"invalid_request_error"}}"#;
        let strict = r#"{"detail":[{"type":"extra_forbidden","loc":["body","continue_final_message"]},{"type":"extra_forbidden","loc":["body","add_generation_prompt"]}]}"#;
        assert_eq!(read_flags(&reply(400, llama)), Flags::LlamaServer);
        assert_eq!(read_flags(&reply(400, vllm)), Flags::Known);
        assert_eq!(read_flags(&reply(400, old)), Flags::LlamaServerOld);
        assert_eq!(read_flags(&reply(200, r#"{"choices":[]}"#)), Flags::Taken);
        assert_eq!(read_flags(&reply(500, old)), Flags::LlamaServerOld);
        assert!(matches!(read_flags(&reply(422, strict)), Flags::Refused(_)));
        assert!(matches!(read_flags(&reply(400, "{}")), Flags::Refused(_)));
        assert_eq!(read_flags(&reply(500, ALTERNATING)), Flags::Taken);
        assert!(matches!(
            read_flags(&reply(500, "out of memory")),
            Flags::Unclear(_)
        ));
        for status in [401, 404, 503] {
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
    fn only_a_refusal_of_the_messages_tells_that_none_is_continued() {
        for (status, text) in [
            (
                400,
                "Assistant response prefill is incompatible with enable_thinking.",
            ),
            (
                400,
                "Expected last role User or Tool for serving but got assistant",
            ),
            (400, "The last message must be of the user."),
            (
                422,
                "continue_final_message is set but the final message does not appear in the rendered prompt.",
            ),
            (500, ALTERNATING),
            (500, "Error rendering prompt with jinja template: unknown"),
        ] {
            assert!(
                matches!(read_continuation(&reply(status, text)), Continuation::Refused(_)),
                "{text}"
            );
        }
        for (status, text) in [
            (400, "{}"),
            (
                400,
                r#"{"error":{"message":"No models loaded. Please load a model in the developer page or use the 'lms load' command."}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Failed to load model \"roleplay-7b\". Error: Failed to load model."}}"#,
            ),
            (500, r#"{"error":{"message":"CUDA error: out of memory"}}"#),
            (503, ALTERNATING),
        ] {
            assert!(
                matches!(read_continuation(&reply(status, text)), Continuation::Unclear(_)),
                "{text}"
            );
        }
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
