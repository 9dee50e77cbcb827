//! Requests to the test model, and what of its answers can be compared byte for byte.

use serde_json::{Value, json};

/// A chat request that falls into a loop: temperature 0, the whole prompt processed anew.
pub(crate) fn greedy(max_tokens: u32) -> Value {
    json!({
        "model": "tiny", "stream": true, "temperature": 0, "max_tokens": max_tokens, "ignore_eos": true,
        "cache_prompt": false,
        "messages": [{"role": "user", "content": "Tell me about the license."}],
    })
}

/// A chat request that rambles on and does not loop: for streams that have to last.
pub(crate) fn rambling(max_tokens: u32) -> Value {
    with(greedy(max_tokens), json!({"temperature": 1, "seed": 5}))
}

/// One tool whose arguments the grammar confines to a few words, so that the call always comes to its end.
pub(crate) fn tool_call() -> Value {
    let parameters = json!({
        "type": "object", "additionalProperties": false, "required": ["city", "unit"],
        "properties": {"city": {"type": "string", "enum": ["Bern", "Oslo"]}, "unit": {"type": "string", "enum": ["C", "F"]}},
    });
    let tool = json!({"type": "function", "function": {
        "name": "get_weather", "description": "The weather in a city.", "parameters": parameters,
    }});
    with(greedy(600), json!({"tools": [tool], "ignore_eos": false}))
}

/// The request with these members set.
///
/// # Panics
/// Where one of the two is not an object.
pub(crate) fn with(mut request: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("an object is wanted")
    };
    request.as_object_mut().expect("an object is wanted").extend(more);
    request
}

/// The bytes with everything blanked that the server itself makes anew for each answer: ids, times, timings.
pub(crate) fn normalised(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for (before, ends) in [
        ("\"id\":\"", "\""),
        ("\"created\":", ",}"),
        ("\"time_ms\":", ",}"),
        ("\"timings\":{", "}"),
    ] {
        text = blank(&text, before, ends);
    }
    text
}

/// The text with all digits blanked: what stays of counters and gauges is their names.
pub(crate) fn without_digits(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    words
        .filter(|word| !word.is_empty() && *word != "e")
        .collect::<Vec<_>>()
        .join("#")
}

fn blank(text: &str, before: &str, ends: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        out.push_str(head);
        rest = &tail[tail.find(|c| ends.contains(c)).unwrap_or(tail.len())..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_varies_is_blanked() {
        let a =
            br#"data: {"id":"x1","created":12,"choices":[{"delta":{"content":"id"}}],"timings":{"a":1.5}}"#;
        let b =
            br#"data: {"id":"y","created":3,"choices":[{"delta":{"content":"id"}}],"timings":{"a":2,"b":3}}"#;
        assert_eq!(normalised(a), normalised(b));
        assert_ne!(normalised(a), normalised(&a[..a.len() - 1]));
        assert_ne!(
            normalised(a),
            normalised(br#"data: {"id":"x1","created":12,"choices":[]}"#)
        );
    }
}
