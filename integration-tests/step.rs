//! What the scripted upstream does while it answers, step by step.

use serde::Deserialize;
use std::path::PathBuf;

/// How a script ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndHow {
    /// The body ends as its framing says; the connection stays for the next request where it can.
    Close,
    /// The connection closes in the middle of the body: no last chunk, less than the announced length.
    Drop,
    /// The connection is reset (RST).
    Reset,
    /// Nothing more comes, until the peer leaves.
    Hang,
}

/// One thing the upstream does, in order.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Writes this text as it is.
    Raw {
        /// The text.
        text: String,
    },
    /// Writes bytes given in hexadecimal; white space is ignored.
    Hex {
        /// The digits.
        bytes: String,
    },
    /// Writes a file.
    File {
        /// Its path; relative to the case's folder in a `case.toml`.
        path: PathBuf,
    },
    /// The first delta of a choice: `{"role":"assistant","content":null}`.
    Role {
        /// The choice's index.
        #[serde(default)]
        choice: u64,
    },
    /// Text, cut into chunks of `piece` characters.
    Text {
        /// The text.
        text: String,
        /// The member of the delta that carries it.
        #[serde(default = "content")]
        channel: String,
        /// Characters a chunk.
        #[serde(default = "four")]
        piece: usize,
        /// How often the text is repeated.
        #[serde(default = "one")]
        times: usize,
        /// The choice's index.
        #[serde(default)]
        choice: u64,
        /// Pause after each chunk, in milliseconds.
        #[serde(default)]
        gap_ms: u64,
    },
    /// The first delta of a tool call: id, type, name and empty arguments.
    ToolOpen {
        /// The call's index.
        index: u64,
        /// The function's name.
        name: String,
        /// The choice's index.
        #[serde(default)]
        choice: u64,
    },
    /// A whole tool call in one delta, as Ollama sends it.
    ToolCall {
        /// The call's index.
        index: u64,
        /// The function's name.
        name: String,
        /// Its arguments.
        arguments: String,
        /// The choice's index.
        #[serde(default)]
        choice: u64,
    },
    /// Arguments of a tool call, cut into chunks of `piece` characters.
    ToolArguments {
        /// The call's index.
        index: u64,
        /// The text.
        text: String,
        /// Characters a chunk.
        #[serde(default = "four")]
        piece: usize,
        /// How often the text is repeated.
        #[serde(default = "one")]
        times: usize,
        /// The choice's index.
        #[serde(default)]
        choice: u64,
    },
    /// A chunk with these members beside `id`, `object`, `created` and `model`.
    Chunk {
        /// The members, as JSON text.
        json: String,
    },
    /// The finish chunk of a choice.
    Finish {
        /// `stop`, `length`, `tool_calls` …
        reason: String,
        /// The choice's index.
        #[serde(default)]
        choice: u64,
    },
    /// The usage chunk: `choices: []`.
    Usage {
        /// Tokens of the prompt.
        #[serde(default = "five")]
        prompt: u64,
        /// Tokens of the answer.
        #[serde(default = "seven")]
        completion: u64,
    },
    /// `data: [DONE]`.
    Done,
    /// The comment frame that llama-server sends in silence.
    Ping,
    /// An error frame of the upstream's own.
    Error {
        /// Its message.
        message: String,
    },
    /// Nothing for a while.
    Sleep {
        /// Milliseconds.
        ms: u64,
    },
    /// A stream of distinct words in chunks, at least this many bytes of body; made while it is written.
    Flood {
        /// Bytes.
        bytes: u64,
    },
    /// One `data:` line of at least this many bytes without an end; made while it is written.
    BigLine {
        /// Bytes.
        bytes: u64,
    },
    /// The end. Without one a script ends with [`EndHow::Close`].
    End {
        /// How.
        how: EndHow,
    },
}

pub(crate) fn content() -> String {
    "content".to_owned()
}

const fn four() -> usize {
    4
}

const fn one() -> usize {
    1
}

const fn five() -> u64 {
    5
}

const fn seven() -> u64 {
    7
}
