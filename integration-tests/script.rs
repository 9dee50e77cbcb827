//! What the scripted upstream is told to do for one request, as data, and the bytes that makes.

use crate::outage::Outage;
pub use crate::step::{EndHow, Step};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// How the end of a body is told to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    #[default]
    Chunked,
    /// `Content-Length`.
    Length,
    /// The connection's end.
    Eof,
}

/// The shape of the chunks that [`Step::Text`] and its kind make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `chat.completion.chunk`: `choices[].delta`.
    #[default]
    Chat,
    /// `text_completion`: `choices[].text`.
    Completions,
}

const fn ok() -> u16 {
    200
}

const fn first() -> u64 {
    1
}

fn lf() -> String {
    "\n".to_owned()
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// HTTP status.
    #[serde(default = "ok")]
    pub status: u16,
    /// Headers beside the framing's; `text/event-stream` where none is given.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// How the body's end is told.
    #[serde(default)]
    pub framing: Framing,
    /// The shape of generated chunks.
    #[serde(default)]
    pub dialect: Dialect,
    /// The line end of generated frames.
    #[serde(default = "lf")]
    pub newline: String,
    /// Milliseconds before the head.
    #[serde(default)]
    pub head_after_ms: u64,
    /// What happens in place of a head: the connection drops, resets or hangs.
    #[serde(default)]
    pub no_head: Option<EndHow>,
    /// The body.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The upstream is gone for a while after this answer.
    #[serde(default)]
    pub then_down: Option<Outage>,
    /// The how many-th answer this is, from 1: each has an id, a time and (from the second on) a model of its own.
    #[serde(skip, default = "first")]
    pub number: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            status: ok(),
            headers: Vec::new(),
            framing: Framing::default(),
            dialect: Dialect::default(),
            newline: lf(),
            head_after_ms: 0,
            no_head: None,
            steps: Vec::new(),
            then_down: None,
            number: first(),
        }
    }
}

impl Script {
    /// A script that answers with exactly this body.
    #[must_use]
    pub fn answer(status: u16, content_type: &str, framing: Framing, body: &[u8]) -> Self {
        let hex = body.iter().map(|b| format!("{b:02x}")).collect();
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            framing,
            steps: vec![Step::Hex { bytes: hex }],
            ..Self::default()
        }
    }

    /// A stream of these steps with status 200.
    #[must_use]
    pub fn stream(steps: Vec<Step>) -> Self {
        Self {
            steps,
            ..Self::default()
        }
    }

    /// The steps as writes, pauses and an end.
    #[must_use]
    pub fn render(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for step in &self.steps {
            self.render_step(step, &mut ops);
        }
        if !matches!(ops.last(), Some(Op::End(_))) {
            ops.push(Op::End(EndHow::Close));
        }
        ops
    }

    fn render_step(&self, step: &Step, ops: &mut Vec<Op>) {
        let frame = |members: Value| Op::Write(self.chunk(members).into());
        let delta = |choice: u64, delta: Value| {
            frame(json!({"choices": [{"index": choice, "delta": delta, "finish_reason": null}]}))
        };
        match step {
            Step::Raw { text } => ops.push(Op::Write(Bytes::copy_from_slice(text.as_bytes()))),
            Step::Hex { bytes } => ops.push(Op::Write(unhex(bytes).into())),
            Step::File { path } => {
                let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                ops.push(Op::Write(bytes.into()));
            }
            Step::Role { choice } => ops.push(delta(*choice, json!({"role": "assistant", "content": null}))),
            Step::Text { text, channel, piece, times, choice, gap_ms } => {
                for part in pieces(&text.repeat(*times), *piece) {
                    ops.push(match self.dialect {
                        Dialect::Chat => delta(*choice, json!({channel: part})),
                        Dialect::Completions => {
                            frame(json!({"choices": [{"index": choice, "text": part, "logprobs": null, "finish_reason": null}]}))
                        }
                    });
                    if *gap_ms > 0 {
                        ops.push(Op::Sleep(*gap_ms));
                    }
                }
            }
            Step::ToolOpen { index, name, choice } => {
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"index": index, "id": self.call_id(*index), "type": "function", "function": function});
                ops.push(delta(*choice, json!({"tool_calls": [call]})));
            }
            Step::ToolCall { index, name, arguments, choice } => {
                let function = json!({"name": name, "arguments": arguments});
                let call = json!({"index": index, "id": self.call_id(*index), "type": "function", "function": function});
                ops.push(delta(*choice, json!({"tool_calls": [call]})));
            }
            Step::ToolArguments { index, text, piece, times, choice } => {
                for part in pieces(&text.repeat(*times), *piece) {
                    let call = json!({"index": index, "function": {"arguments": part}});
                    ops.push(delta(*choice, json!({"tool_calls": [call]})));
                }
            }
            Step::Chunk { json } => {
                let members = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
                ops.push(frame(members));
            }
            Step::Finish { reason, choice } => ops.push(match self.dialect {
                Dialect::Chat => frame(json!({"choices": [{"index": choice, "delta": {}, "finish_reason": reason}]})),
                Dialect::Completions => {
                    frame(json!({"choices": [{"index": choice, "text": "", "logprobs": null, "finish_reason": reason}]}))
                }
            }),
            Step::Usage { prompt, completion } => {
                let usage = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
                ops.push(frame(json!({"choices": [], "usage": usage})));
            }
            Step::Done => ops.push(Op::Write(self.data("[DONE]").into())),
            Step::Ping => ops.push(Op::Write(format!(":{0}{0}", self.newline).into())),
            Step::Error { message } => {
                let error = json!({"error": {"code": 500, "message": message, "type": "server_error"}});
                ops.push(Op::Write(self.data(&error.to_string()).into()));
            }
            Step::Sleep { ms } => ops.push(Op::Sleep(*ms)),
            Step::Flood { bytes } => ops.push(Op::Flood(*bytes)),
            Step::BigLine { bytes } => ops.push(Op::BigLine(*bytes)),
            Step::End { how } => ops.push(Op::End(*how)),
        }
    }

    /// One frame with these members beside the constant ones.
    #[must_use]
    pub fn chunk(&self, mut members: Value) -> String {
        let (id, object) = match self.dialect {
            Dialect::Chat => ("chatcmpl", "chat.completion.chunk"),
            Dialect::Completions => ("cmpl", "text_completion"),
        };
        let model = match self.number {
            1 => "scripted".to_owned(),
            n => format!("scripted-{n}"),
        };
        let all = members.as_object_mut().expect("a chunk is an object");
        all.insert("id".to_owned(), format!("{id}-{}", self.number).into());
        all.insert("object".to_owned(), object.into());
        all.insert("created".to_owned(), (1_789_999_999 + self.number).into());
        all.insert("model".to_owned(), model.into());
        self.data(&members.to_string())
    }

    fn call_id(&self, index: u64) -> String {
        match self.number {
            1 => format!("call_{index}"),
            n => format!("call_{n}_{index}"),
        }
    }

    fn data(&self, payload: &str) -> String {
        format!("data: {payload}{0}{0}", self.newline)
    }
}

/// What the server does with a rendered script.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Writes body bytes.
    Write(Bytes),
    /// Waits, in milliseconds.
    Sleep(u64),
    /// See [`Step::Flood`].
    Flood(u64),
    /// See [`Step::BigLine`].
    BigLine(u64),
    /// Ends.
    End(EndHow),
}

fn pieces(text: &str, size: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(size.max(1))
        .map(|c| c.iter().collect())
        .collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "hexadecimal digits come in pairs");
    let value = |d: u8| {
        char::from(d)
            .to_digit(16)
            .unwrap_or_else(|| panic!("{:?} is no hexadecimal digit", char::from(d)))
    };
    digits
        .chunks(2)
        .map(|pair| (value(pair[0]) * 16 + value(pair[1])) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_into_whole_characters() {
        let script = Script::stream(vec![
            Step::Text {
                text: "äö€".into(),
                channel: crate::step::content(),
                piece: 2,
                times: 1,
                choice: 0,
                gap_ms: 0,
            },
            Step::Finish {
                reason: "stop".into(),
                choice: 0,
            },
            Step::Done,
        ]);
        let body: Vec<u8> = script
            .render()
            .iter()
            .flat_map(|op| if let Op::Write(b) = op { b.to_vec() } else { vec![] })
            .collect();
        let reading = crate::events::read(&body);
        assert_eq!(reading.lane("content"), "äö€");
        assert_eq!(
            (reading.finishes.len(), reading.dones, reading.unreadable),
            (1, 1, 0)
        );
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(unhex("ff 0a\n7f"), [0xff, 0x0a, 0x7f]);
    }
}
