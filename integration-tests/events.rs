//! A plain reader of SSE bodies, for what a test expects: events, lanes, finishes, errors.
//!
//! It works on whole bodies and favours obviousness over speed. It is not the reader that Aegis uses.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One event of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field, empty where there is none.
    pub name: String,
    /// The `data:` lines, joined by LF.
    pub data: String,
}

/// What a body says, as a client would understand it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Text of each lane: `content`, `reasoning`, `refusal`, `tool_arguments.K`, `tool_name.K`, with `C:` before it for
    /// choice C > 0.
    pub lanes: BTreeMap<String, String>,
    /// `(choice, finish_reason)` in order.
    pub finishes: Vec<(u64, String)>,
    /// The `error` objects, in order.
    pub errors: Vec<Value>,
    /// How many `data: [DONE]`.
    pub dones: usize,
    /// Events that are neither JSON nor `[DONE]`.
    pub unreadable: usize,
    /// What came after the first error, `[DONE]` aside: an empty list is the rule.
    pub after_error: Vec<String>,
    /// Events after the first `[DONE]`: 0 is the rule.
    pub after_done: usize,
    /// The choice of each delta with a `role`, in order.
    pub roles: Vec<u64>,
    /// The `id`, `model` and `created` that the events carry, each once.
    pub names: BTreeMap<String, BTreeSet<String>>,
    /// The `usage` objects, in order.
    pub usages: Vec<Value>,
}

/// Splits a body into its events. A last event without its blank line counts.
#[must_use]
pub fn events(body: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(body);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Vec::new();
    let (mut name, mut data): (String, Vec<&str>) = (String::new(), Vec::new());
    for line in unified.split('\n').chain([""]) {
        if line.is_empty() {
            if !data.is_empty() {
                found.push(Event {
                    name: std::mem::take(&mut name),
                    data: data.join("\n"),
                });
                data.clear();
            }
            name.clear();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "event" => value.clone_into(&mut name),
            _ => {}
        }
    }
    found
}

/// Reads a whole body.
#[must_use]
pub fn read(body: &[u8]) -> Reading {
    let mut reading = Reading::default();
    for event in events(body) {
        reading.after_done += usize::from(reading.dones > 0);
        if !reading.errors.is_empty() && event.data != "[DONE]" {
            reading.after_error.push(event.data.clone());
        }
        if event.data == "[DONE]" {
            reading.dones += 1;
        } else if let Ok(json) = serde_json::from_str::<Value>(&event.data) {
            reading.take(&json);
        } else {
            reading.unreadable += 1;
        }
    }
    reading
}

impl Reading {
    fn take(&mut self, json: &Value) {
        if let Some(error) = json.get("error").filter(|e| !e.is_null()) {
            self.errors.push(error.clone());
        }
        for name in ["id", "model", "created"] {
            if let Some(value) = json.get(name) {
                self.names
                    .entry(name.to_owned())
                    .or_default()
                    .insert(value.to_string());
            }
        }
        if let Some(usage) = json.get("usage").filter(|u| !u.is_null()) {
            self.usages.push(usage.clone());
        }
        if json.get("choices").is_none() && json.get("stop").is_some() {
            // llama-server's own format, as its /completions without a prefix speaks it.
            self.append("content", &json["content"]);
            if json["stop"] == true {
                self.finishes.push((0, "stop".to_owned()));
            }
        }
        for choice in json["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap_or(0);
            let prefix = if index == 0 {
                String::new()
            } else {
                format!("{index}:")
            };
            let delta = &choice["delta"];
            if delta["role"].is_string() {
                self.roles.push(index);
            }
            self.append(&format!("{prefix}content"), &delta["content"]);
            self.append(&format!("{prefix}content"), &choice["text"]);
            self.append(&format!("{prefix}reasoning"), &delta["reasoning_content"]);
            self.append(&format!("{prefix}reasoning"), &delta["reasoning"]);
            self.append(&format!("{prefix}refusal"), &delta["refusal"]);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let k = call["index"].as_u64().unwrap_or(0);
                self.append(&format!("{prefix}tool_name.{k}"), &call["function"]["name"]);
                self.append(
                    &format!("{prefix}tool_arguments.{k}"),
                    &call["function"]["arguments"],
                );
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finishes.push((index, reason.to_owned()));
            }
        }
    }

    fn append(&mut self, lane: &str, text: &Value) {
        if let Some(text) = text.as_str().filter(|t| !t.is_empty()) {
            self.lanes.entry(lane.to_owned()).or_default().push_str(text);
        }
    }

    /// The text of a lane, empty where the body has none.
    #[must_use]
    pub fn lane(&self, name: &str) -> &str {
        self.lanes.get(name).map_or("", String::as_str)
    }
}

/// Whether some text after `prefix` could make it one JSON value: a small pushdown check, strict in what counts here
/// (structure, strings, literals, numbers), written apart from Aegis' own automaton.
#[must_use]
pub fn is_json_prefix(prefix: &str) -> bool {
    // Every way to close an unfinished text: the tail completes the scalar in progress, then the brackets are closed
    // from the inside out. A prefix is good if one of the tails gives a text that serde_json accepts.
    let mut open = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for c in prefix.chars() {
        match (in_string, c) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (true, '"') => in_string = false,
            (true, _) => {}
            (false, '"') => in_string = true,
            (false, '{') => open.push('}'),
            (false, '[') => open.push(']'),
            (false, '}' | ']') => {
                open.pop();
            }
            _ => {}
        }
    }
    let closing: String = open.iter().rev().collect();
    const TAILS: &[&str] = &[
        "", "0", "null", "\"", "\":0", ":0", "\"k\":0", "rue", "ue", "e", "alse", "lse", "se", "ull", "ll",
        "l", "n\"", "0\"", "00\"", "000\"", "0000\"", "n\":0", "0000\":0", "000\":0", "00\":0", "0\":0",
    ];
    TAILS
        .iter()
        .any(|tail| serde_json::from_str::<Value>(&format!("{prefix}{tail}{closing}")).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_line_ends_names_and_comments() {
        for body in [
            "event: a\ndata: {}\n\n: ping\n\ndata: x",
            "event: a\r\ndata: {}\r\n\r\ndata: x\r\n\r\n",
            "event: a\rdata: {}\r\rdata: x\r\r",
        ] {
            let found = events(body.as_bytes());
            assert_eq!(found.len(), 2, "{body:?}");
            assert_eq!((found[0].name.as_str(), found[0].data.as_str()), ("a", "{}"));
            assert_eq!((found[1].name.as_str(), found[1].data.as_str()), ("", "x"));
        }
    }

    #[test]
    fn lanes_are_kept_apart() {
        let body = concat!(
            r#"data: {"choices":[{"index":0,"delta":{"content":"a","reasoning":"r"}},{"index":1,"delta":{"content":"b"}}]}"#,
            "\n\n",
            r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":2,"function":{"arguments":"{"}}]},"finish_reason":"stop"}]}"#,
            "\n\ndata: {\"error\":{\"code\":\"x\"}}\n\ndata: [DONE]\n\ndata: late\n\n"
        );
        let reading = read(body.as_bytes());
        assert_eq!((reading.lane("content"), reading.lane("1:content")), ("a", "b"));
        assert_eq!(
            (reading.lane("reasoning"), reading.lane("tool_arguments.2")),
            ("r", "{")
        );
        assert_eq!(
            (reading.dones, reading.errors.len(), reading.finishes.len()),
            (1, 1, 1)
        );
        assert_eq!(reading.after_error, ["late"]);
    }

    #[test]
    fn json_prefixes() {
        for good in [
            "",
            " ",
            "{",
            "{\"a\":",
            "{\"a\": [1, tr",
            "[\"x\\",
            "[1.5",
            "{\"a\"",
            "{\"a\":1}",
            "[-",
            "[1e",
            "[\"\\u12",
        ] {
            assert!(is_json_prefix(good), "{good:?}");
        }
        for bad in ["}", "{a", "[1,,", "{\"a\":1} x", "tru3", "[1 2"] {
            assert!(!is_json_prefix(bad), "{bad:?}");
        }
    }
}
