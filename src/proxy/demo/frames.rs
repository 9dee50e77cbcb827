//! The bytes on the wire: an answer as llama-server's chunks, or as its one body.

use super::request::{Ask, Endpoint};
use super::script::{Choice, Piece, Script};
use super::shapes::{
    Call, CallDelta, ChatChoice, ChatChunk, Delta, Function, FunctionDelta, Message, MessageChoice,
    PromptDetails, RoleDelta, TextChoice, Timings, Usage, Whole,
};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FINGERPRINT: &str = "aegis-demo";

/// Writes the frames of one answer.
#[derive(Debug)]
pub(super) struct Frames {
    id: String,
    model: String,
    endpoint: Endpoint,
    include_usage: bool,
    prompt_tokens: u64,
    prompt_time: Duration,
}

impl Frames {
    /// For one answer to `ask`, with an id of its own.
    pub(super) fn new(ask: &Ask, script: &Script) -> Self {
        Self {
            id: format!("chatcmpl-{}", uuid::Uuid::now_v7().simple()),
            model: ask.model.clone(),
            endpoint: ask.endpoint,
            include_usage: ask.include_usage,
            prompt_tokens: script.prompt_tokens,
            prompt_time: script.prompt_time,
        }
    }

    /// The first frame of choice `index`; a legacy completion has none.
    pub(super) fn role(&self, index: usize, out: &mut BytesMut) {
        if self.endpoint == Endpoint::Chat {
            let delta = RoleDelta {
                role: "assistant",
                content: None,
            };
            self.chat(
                [ChatChoice {
                    finish_reason: None,
                    index,
                    delta,
                }],
                None,
                None,
                out,
            );
        }
    }

    /// One token of choice `index`.
    pub(super) fn piece(&self, index: usize, piece: &Piece, out: &mut BytesMut) {
        match (self.endpoint, piece) {
            (Endpoint::Completions, Piece::Content(text)) => {
                self.text(
                    [TextChoice {
                        text,
                        index,
                        logprobs: None,
                        finish_reason: None,
                    }],
                    None,
                    None,
                    out,
                );
            }
            // A legacy completion has no other lane, and no script puts one there.
            (Endpoint::Completions, _) => {}
            (Endpoint::Chat, piece) => {
                let delta = self.delta(index, piece);
                self.chat(
                    [ChatChoice {
                        finish_reason: None,
                        index,
                        delta,
                    }],
                    None,
                    None,
                    out,
                );
            }
        }
    }

    fn delta<'a>(&self, index: usize, piece: &'a Piece) -> Delta<'a> {
        let call = |id, kind, function| Delta {
            tool_calls: Some([CallDelta {
                index: 0,
                id,
                kind,
                function,
            }]),
            ..Delta::default()
        };
        match piece {
            Piece::Reasoning(text) => Delta {
                reasoning_content: Some(text),
                ..Delta::default()
            },
            Piece::Content(text) => Delta {
                content: Some(text),
                ..Delta::default()
            },
            Piece::ToolOpen { name, arguments } => call(
                Some(self.call_id(index)),
                Some("function"),
                FunctionDelta {
                    name: Some(name),
                    arguments,
                },
            ),
            Piece::ToolArguments(arguments) => call(
                None,
                None,
                FunctionDelta {
                    name: None,
                    arguments,
                },
            ),
        }
    }

    /// The id of the tool call of choice `index`: constant within the answer.
    fn call_id(&self, index: usize) -> String {
        format!("call_{index}_{}", self.id.trim_start_matches("chatcmpl-"))
    }

    /// The last frame of choice `index`. As in llama-server, the last JSON frame of an answer has the timings, and a
    /// legacy completion has its usage there.
    pub(super) fn finish(&self, index: usize, choice: &Choice, predicted: Duration, out: &mut BytesMut) {
        let tokens = choice.pieces.len();
        let timings = self.timings(tokens, predicted);
        let finish_reason = choice.ending.finish_reason();
        match self.endpoint {
            Endpoint::Chat => {
                let timings = (!self.include_usage).then_some(timings);
                self.chat(
                    [ChatChoice {
                        finish_reason,
                        index,
                        delta: Delta::default(),
                    }],
                    None,
                    timings,
                    out,
                );
            }
            Endpoint::Completions => {
                let usage = self.include_usage.then(|| self.usage(tokens));
                self.text(
                    [TextChoice {
                        text: "",
                        index,
                        logprobs: None,
                        finish_reason,
                    }],
                    usage,
                    Some(timings),
                    out,
                );
            }
        }
    }

    /// What follows the last choice's finish: the usage frame where asked for, and `[DONE]`.
    pub(super) fn done(&self, tokens: usize, predicted: Duration, out: &mut BytesMut) {
        if self.include_usage && self.endpoint == Endpoint::Chat {
            let none: [ChatChoice<Delta<'_>>; 0] = [];
            self.chat(
                none,
                Some(self.usage(tokens)),
                Some(self.timings(tokens, predicted)),
                out,
            );
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    /// The body of a non-streaming answer.
    pub(super) fn whole(&self, choices: &[Choice], predicted: Duration) -> Bytes {
        let tokens = choices.iter().map(|c| c.pieces.len()).sum();
        let (usage, timings) = (Some(self.usage(tokens)), Some(self.timings(tokens, predicted)));
        let mut out = BytesMut::new();
        match self.endpoint {
            Endpoint::Chat => {
                let choices: Vec<_> = choices
                    .iter()
                    .enumerate()
                    .map(|(i, c)| self.message(i, c))
                    .collect();
                self.body(choices, "chat.completion", usage, timings, &mut out);
            }
            Endpoint::Completions => {
                let texts: Vec<String> = choices.iter().map(content_of).collect();
                let text = |(index, text)| TextChoice {
                    text,
                    index,
                    logprobs: None,
                    finish_reason: choices[index].ending.finish_reason(),
                };
                let choices: Vec<_> = texts.iter().map(String::as_str).enumerate().map(text).collect();
                self.body(choices, "text_completion", usage, timings, &mut out);
            }
        }
        out.freeze()
    }

    fn message(&self, index: usize, choice: &Choice) -> MessageChoice {
        let mut message = Message {
            role: "assistant",
            content: content_of(choice),
            reasoning_content: String::new(),
            tool_calls: Vec::new(),
        };
        for piece in &choice.pieces {
            match piece {
                Piece::Content(_) => {}
                Piece::Reasoning(text) => message.reasoning_content.push_str(text),
                Piece::ToolOpen { name, arguments } => message.tool_calls.push(Call {
                    kind: "function",
                    function: Function {
                        name: name.clone(),
                        arguments: arguments.clone(),
                    },
                    id: self.call_id(index),
                }),
                Piece::ToolArguments(more) => {
                    if let Some(call) = message.tool_calls.last_mut() {
                        call.function.arguments.push_str(more);
                    }
                }
            }
        }
        MessageChoice {
            finish_reason: choice.ending.finish_reason(),
            index,
            message,
        }
    }

    fn usage(&self, completion_tokens: usize) -> Usage {
        let completion_tokens = completion_tokens as u64;
        Usage {
            completion_tokens,
            prompt_tokens: self.prompt_tokens,
            total_tokens: self.prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens: 0 },
        }
    }

    fn timings(&self, predicted: usize, time: Duration) -> Timings {
        let (prompt_s, predicted_s) = (self.prompt_time.as_secs_f64(), time.as_secs_f64());
        let (prompt_n, predicted_n) = (self.prompt_tokens as f64, predicted as f64);
        // An answer of no tokens took no time; the quotients must stay finite to be JSON numbers.
        let per = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        Timings {
            cache_n: 0,
            prompt_n: self.prompt_tokens,
            prompt_ms: prompt_s * 1e3,
            prompt_per_token_ms: per(prompt_s * 1e3, prompt_n),
            prompt_per_second: per(prompt_n, prompt_s),
            predicted_n: predicted as u64,
            predicted_ms: predicted_s * 1e3,
            predicted_per_token_ms: per(predicted_s * 1e3, predicted_n),
            predicted_per_second: per(predicted_n, predicted_s),
        }
    }

    fn chat<C: Serialize>(
        &self,
        choices: C,
        usage: Option<Usage>,
        timings: Option<Timings>,
        out: &mut BytesMut,
    ) {
        out.put_slice(b"data: ");
        write_json(
            &ChatChunk {
                choices,
                created: now_s(),
                id: &self.id,
                model: &self.model,
                system_fingerprint: FINGERPRINT,
                object: "chat.completion.chunk",
                usage,
                timings,
            },
            out,
        );
        out.put_slice(b"\n\n");
    }

    fn text<C: Serialize>(
        &self,
        choices: C,
        usage: Option<Usage>,
        timings: Option<Timings>,
        out: &mut BytesMut,
    ) {
        out.put_slice(b"data: ");
        self.body(choices, "text_completion", usage, timings, out);
        out.put_slice(b"\n\n");
    }

    fn body<C: Serialize>(
        &self,
        choices: C,
        object: &'static str,
        usage: Option<Usage>,
        timings: Option<Timings>,
        out: &mut BytesMut,
    ) {
        let (id, model) = (self.id.as_str(), self.model.as_str());
        let whole = Whole {
            choices,
            created: now_s(),
            model,
            system_fingerprint: FINGERPRINT,
            object,
            usage,
            id,
            timings,
        };
        write_json(&whole, out);
    }
}

fn content_of(choice: &Choice) -> String {
    choice.pieces.iter().filter_map(Piece::content).collect()
}

/// Appends `value` as JSON.
fn write_json(value: &impl Serialize, out: &mut BytesMut) {
    // Plain structs with string keys always serialise, and `BytesMut` grows as needed.
    let _infallible = serde_json::to_writer(out.writer(), value);
}

/// Unix time in seconds; zero on a machine whose clock is before 1970.
fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
