//! The members of llama-server's chunks and bodies, in its order: `serde_json`'s own maps would sort them.

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ChatChunk<'a, C> {
    pub(super) choices: C,
    pub(super) created: u64,
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) system_fingerprint: &'static str,
    pub(super) object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timings: Option<Timings>,
}

#[derive(Serialize)]
pub(super) struct ChatChoice<D> {
    pub(super) finish_reason: Option<&'static str>,
    pub(super) index: usize,
    pub(super) delta: D,
}

#[derive(Serialize)]
pub(super) struct RoleDelta {
    pub(super) role: &'static str,
    pub(super) content: Option<&'static str>,
}

#[derive(Serialize, Default)]
pub(super) struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_calls: Option<[CallDelta<'a>; 1]>,
}

#[derive(Serialize)]
pub(super) struct CallDelta<'a> {
    pub(super) index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) function: FunctionDelta<'a>,
}

#[derive(Serialize)]
pub(super) struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    pub(super) arguments: &'a str,
}

#[derive(Serialize)]
pub(super) struct TextChoice<'a> {
    pub(super) text: &'a str,
    pub(super) index: usize,
    pub(super) logprobs: Option<()>,
    pub(super) finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct Whole<'a, C> {
    pub(super) choices: C,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) system_fingerprint: &'static str,
    pub(super) object: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Usage>,
    pub(super) id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timings: Option<Timings>,
}

#[derive(Serialize)]
pub(super) struct MessageChoice {
    pub(super) finish_reason: Option<&'static str>,
    pub(super) index: usize,
    pub(super) message: Message,
}

#[derive(Serialize)]
pub(super) struct Message {
    pub(super) role: &'static str,
    pub(super) content: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<Call>,
}

#[derive(Serialize)]
pub(super) struct Call {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: Function,
    pub(super) id: String,
}

#[derive(Serialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) arguments: String,
}

#[derive(Serialize)]
pub(super) struct Usage {
    pub(super) completion_tokens: u64,
    pub(super) prompt_tokens: u64,
    pub(super) total_tokens: u64,
    pub(super) prompt_tokens_details: PromptDetails,
}

#[derive(Serialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: u64,
}

#[derive(Serialize)]
pub(super) struct Timings {
    pub(super) cache_n: u64,
    pub(super) prompt_n: u64,
    pub(super) prompt_ms: f64,
    pub(super) prompt_per_token_ms: f64,
    pub(super) prompt_per_second: f64,
    pub(super) predicted_n: u64,
    pub(super) predicted_ms: f64,
    pub(super) predicted_per_token_ms: f64,
    pub(super) predicted_per_second: f64,
}
