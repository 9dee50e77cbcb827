//! What a request asks of the demo's primary, and the refusals a llama-server would give.

use super::prose;
use serde_json::Value;

/// How every correction begins that Aegis puts into a request by default.
pub(super) const CORRECTION_START: &str = "[Note: a first attempt";

/// Most choices of one request: one slot each.
pub(super) const CHOICES_MAX: usize = super::slots::SLOTS;

/// Which of the two endpoints was called; the frames differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// The one tool that the primary will call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON schema of the arguments; `Null` where the request gives none.
    pub(super) parameters: Value,
}

/// A readable request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    /// Text of the last user message without a correction, or the prompt.
    pub(super) question: String,
    /// A message carries a correction: this is not the first time that the question is asked.
    pub(super) corrected: bool,
    /// The beginning of the answer: the text of an assistant message that stands last. Empty where it is only a thought.
    pub(super) prefill: Option<String>,
    /// Estimated length of the whole prompt, in tokens.
    pub(super) prompt_tokens: u64,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// `None`: as long as the answer takes.
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    /// Choices wanted, 1 to [`CHOICES_MAX`].
    pub(super) n: usize,
    /// The answer must be JSON; the schema where one is given.
    pub(super) json: Option<Option<Value>>,
    pub(super) tool: Option<Tool>,
    /// The last message is the result of a tool: the answer should use it.
    pub(super) tool_result: Option<String>,
}

/// A request that the primary refuses before a stream, in llama-server's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) message: String,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal {
        status: 400,
        kind: "invalid_request_error",
        message: message.into(),
    }
}

/// Reads the body of a request.
///
/// # Errors
/// [`Refusal`] with status 400 where the body is no JSON object, or a field that matters is missing or of a wrong type.
pub(super) fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Ask, Refusal> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|e| invalid(format!("[json.exception.parse_error.101] parse error: {e}")))?;
    if !body.is_object() {
        return Err(invalid("the request body must be a JSON object"));
    }
    let mut ask = Ask {
        endpoint,
        model: body
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or("demo")
            .to_owned(),
        question: String::new(),
        corrected: false,
        prefill: None,
        prompt_tokens: 1,
        stream: flag(&body, "stream")?,
        include_usage: body
            .pointer("/stream_options/include_usage")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        max_tokens: max_tokens(&body)?,
        stop: stop(&body)?,
        n: choices(&body)?,
        json: json_format(&body)?,
        tool: None,
        tool_result: None,
    };
    match endpoint {
        Endpoint::Chat => read_messages(&body, &mut ask)?,
        Endpoint::Completions => {
            ask.question = prompt(&body)?;
            ask.prompt_tokens = tokens_of(&ask.question);
            // A prompt has no turns: where it has the beginning of an answer, that is what is to be continued.
            if let Some(at) = prose::answer_start(&ask.question) {
                ask.prefill = Some(ask.question.split_off(at));
            }
        }
    }
    Ok(ask)
}

fn prompt(body: &Value) -> Result<String, Refusal> {
    match body.get("prompt") {
        Some(Value::String(prompt)) => Ok(prompt.clone()),
        Some(Value::Array(parts)) => Ok(parts
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("\n")),
        Some(_) => Err(invalid("\"prompt\" must be a string or a list of strings")),
        None => Err(invalid("'prompt' is required")),
    }
}

/// A rough count of tokens: four bytes each, never zero.
fn tokens_of(text: &str) -> u64 {
    text.len().div_ceil(4).max(1) as u64
}

fn flag(body: &Value, key: &str) -> Result<bool, Refusal> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(_) => Err(invalid(format!("\"{key}\" must be a boolean"))),
    }
}

fn max_tokens(body: &Value) -> Result<Option<usize>, Refusal> {
    let given = ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|k| body.get(*k).filter(|v| !v.is_null()));
    match given.map(Value::as_i64) {
        None => Ok(None),
        // llama-server reads any negative number as "no limit".
        Some(Some(n)) => Ok(usize::try_from(n).ok()),
        Some(None) => Err(invalid("\"max_tokens\" must be an integer")),
    }
}

fn stop(body: &Value) -> Result<Vec<String>, Refusal> {
    let texts = match body.get("stop") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many
            .iter()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect(),
        Some(_) => return Err(invalid("\"stop\" must be a string or a list of strings")),
    };
    Ok(texts.into_iter().filter(|t| !t.is_empty()).collect())
}

fn choices(body: &Value) -> Result<usize, Refusal> {
    let n = match body.get("n") {
        None | Some(Value::Null) => return Ok(1),
        Some(n) => n.as_u64().and_then(|n| usize::try_from(n).ok()),
    };
    n.filter(|n| (1..=CHOICES_MAX).contains(n)).ok_or_else(|| {
        invalid(format!(
            "\"n\" must be between 1 and the number of slots, {CHOICES_MAX}"
        ))
    })
}

fn json_format(body: &Value) -> Result<Option<Option<Value>>, Refusal> {
    let Some(format) = body.get("response_format").filter(|f| !f.is_null()) else {
        return Ok(None);
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(format.get("schema").cloned())),
        Some("json_schema") => Ok(Some(format.pointer("/json_schema/schema").cloned())),
        other => Err(invalid(format!(
            "response_format type must be one of \"text\", \"json_object\" or \"json_schema\", but got: {}",
            other.unwrap_or("nothing")
        ))),
    }
}

fn read_messages(body: &Value, ask: &mut Ask) -> Result<(), Refusal> {
    let messages = body
        .get("messages")
        .ok_or_else(|| invalid("'messages' is required"))?;
    let messages = messages
        .as_array()
        .ok_or_else(|| invalid("Expected 'messages' to be an array"))?;
    let last = messages
        .last()
        .ok_or_else(|| invalid("'messages' must not be empty"))?;
    let mut tokens = 0;
    for message in messages {
        let role = message
            .get("role")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("Missing 'role' in a message"))?;
        let mut text = text_of(message.get("content"));
        // Six tokens a message: about what a ChatML template adds around it.
        tokens += 6 + tokens_of(&text);
        if let Some(at) = text.find(CORRECTION_START) {
            ask.corrected = true;
            text.truncate(text[..at].trim_end().len());
        }
        if role == "user" {
            ask.question = text;
        }
    }
    ask.prompt_tokens = tokens;
    let text = text_of(last.get("content"));
    match last.get("role").and_then(Value::as_str) {
        Some("tool") => ask.tool_result = Some(text),
        // Templates trim what is to be continued.
        Some("assistant") => ask.prefill = Some(text.trim_end().to_owned()),
        _ => {}
    }
    if body.get("tool_choice").and_then(Value::as_str) != Some("none") {
        ask.tool = first_tool(body)?;
    }
    Ok(())
}

/// The text of a message's content: a string, or the text parts of a list.
fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|p| p.get("text").and_then(Value::as_str))
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

fn first_tool(body: &Value) -> Result<Option<Tool>, Refusal> {
    let Some(tools) = body.get("tools").filter(|t| !t.is_null()) else {
        return Ok(None);
    };
    let tools = tools
        .as_array()
        .ok_or_else(|| invalid("Expected 'tools' to be an array"))?;
    let Some(function) = tools.first().map(|t| t.get("function").unwrap_or(&Value::Null)) else {
        return Ok(None);
    };
    let name = function
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("Missing 'name' in a tool"))?;
    let parameters = function.get("parameters").cloned().unwrap_or(Value::Null);
    Ok(Some(Tool {
        name: name.to_owned(),
        parameters,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_what_is_wrong() {
        let wrong = [
            (r#"{"messages":["#, "parse error"),
            ("[]", "JSON object"),
            (r#"{"stream":true}"#, "'messages' is required"),
            (r#"{"messages":"hi"}"#, "to be an array"),
            (r#"{"messages":[]}"#, "not be empty"),
            (r#"{"messages":[{"content":"hi"}]}"#, "'role'"),
            (r#"{"messages":[{"role":"user","content":"hi"}],"n":0}"#, "\"n\""),
            (
                r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":"many"}"#,
                "\"max_tokens\"",
            ),
            (
                r#"{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"xml"}}"#,
                "xml",
            ),
        ];
        for (body, why) in wrong {
            let refusal = parse(Endpoint::Chat, body.as_bytes()).expect_err(body);
            assert_eq!(refusal.status, 400, "{body}");
            assert!(refusal.message.contains(why), "{body} gave {refusal:?}");
        }
        let refusal = parse(Endpoint::Completions, b"{}").expect_err("no prompt");
        assert_eq!(refusal.message, "'prompt' is required");
    }

    #[test]
    fn the_last_user_message_is_the_question() {
        let body = r#"{"model":"demo-loop","messages":[{"role":"user","content":"first"},{"role":"assistant","content":"x"},
            {"role":"user","content":[{"type":"text","text":"second"}]},{"role":"tool","content":"21 degrees"}],
            "max_tokens":-1,"stop":"END","stream_options":{"include_usage":true},
            "tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}]}"#;
        let ask = parse(Endpoint::Chat, body.as_bytes()).expect("a readable request");
        assert_eq!(
            (ask.model.as_str(), ask.question.as_str()),
            ("demo-loop", "second")
        );
        assert_eq!(ask.max_tokens, None);
        assert_eq!(ask.stop, ["END"]);
        assert!(ask.include_usage && !ask.stream);
        assert_eq!(ask.tool_result.as_deref(), Some("21 degrees"));
        assert_eq!(ask.tool.map(|t| t.name).as_deref(), Some("look"));
    }

    #[test]
    fn a_hidden_request_is_known_by_its_correction_and_its_prefill() {
        use aegis_core::correction::DEFAULT_TEXTS;
        for (_, text) in DEFAULT_TEXTS {
            assert!(text.starts_with(CORRECTION_START), "{text}");
        }
        let body = serde_json::json!({"messages": [
            {"role": "user", "content": format!("Why?\n\n{}", DEFAULT_TEXTS[0].1)},
            {"role": "assistant", "content": "\n", "reasoning_content": "Hm."}]});
        let ask = parse(Endpoint::Chat, body.to_string().as_bytes()).expect("a readable request");
        assert_eq!((ask.question.as_str(), ask.corrected), ("Why?", true));
        assert_eq!(ask.prefill.as_deref(), Some(""));
        let legacy = serde_json::json!({"prompt": format!("Why?{}", prose::answer("Why?", 0))});
        let ask = parse(Endpoint::Completions, legacy.to_string().as_bytes()).expect("a readable request");
        assert_eq!((ask.question.as_str(), ask.corrected), ("Why?", false));
        assert_eq!(ask.prefill, Some(prose::answer("Why?", 0)));
    }
}
