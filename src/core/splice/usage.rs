//! The usage of an answer that took several requests: the sum of what the client got and what it did not see.

use super::Spent;
use super::chunk::Chunk;
use serde_json::{Map, Value};

/// Adds to the usage of a chunk what earlier requests spent. Only whole numbers that are there are changed.
///
/// Tokens that were thrown away count as the OpenAI API counts those of a prediction that was not used: as completion
/// tokens, and once more in `completion_tokens_details.rejected_prediction_tokens`.
pub(super) fn add(chunk: &mut Chunk, spent: Spent) {
    if spent == Spent::default() {
        return;
    }
    add_native(chunk, spent);
    let Some(mut usage) = chunk.members().read_as::<Map<String, Value>>("usage") else {
        return;
    };
    let completion = change(&mut usage, "completion_tokens", |tokens| {
        tokens.saturating_add(spent.kept).saturating_add(spent.discarded)
    });
    let prompt = change(&mut usage, "prompt_tokens", |tokens| {
        tokens.saturating_sub(spent.prefilled)
    });
    if let (Some(completion), Some(prompt)) = (completion, prompt) {
        change(&mut usage, "total_tokens", |_| completion.saturating_add(prompt));
    }
    if let Some(prompt) = prompt
        && let Some(Value::Object(details)) = usage.get_mut("prompt_tokens_details")
    {
        // The prefill comes from the cache, but is no part of the prompt any more.
        change(details, "cached_tokens", |tokens| tokens.min(prompt));
    }
    if completion.is_some() {
        reject(&mut usage, spent.discarded);
    }
    chunk.set("usage", &Value::Object(usage));
}

/// llama-server's own format has the two figures at the top of its last object.
fn add_native(chunk: &mut Chunk, spent: Spent) {
    if chunk.members().get("stop") != Some("true") {
        return;
    }
    let figure = |chunk: &Chunk, name: &str| chunk.members().read_as::<u64>(name);
    if let Some(tokens) = figure(chunk, "tokens_predicted") {
        let all = tokens.saturating_add(spent.kept).saturating_add(spent.discarded);
        chunk.set("tokens_predicted", &all.into());
    }
    if let Some(tokens) = figure(chunk, "tokens_evaluated") {
        chunk.set("tokens_evaluated", &tokens.saturating_sub(spent.prefilled).into());
    }
}

/// Counts tokens as rejected.
pub(super) fn reject(usage: &mut Map<String, Value>, tokens: u64) {
    const REJECTED: &str = "rejected_prediction_tokens";
    if tokens == 0 {
        return;
    }
    let details = usage.entry("completion_tokens_details").or_insert(Value::Null);
    if details.is_null() {
        *details = Value::Object(Map::new());
    }
    if let Some(details) = details.as_object_mut() {
        let before = details.get(REJECTED).and_then(Value::as_u64).unwrap_or(0);
        details.insert(REJECTED.to_owned(), before.saturating_add(tokens).into());
    }
}

/// Changes a whole number, if it is one, and returns what it is then.
fn change(usage: &mut Map<String, Value>, name: &str, to: impl FnOnce(u64) -> u64) -> Option<u64> {
    let slot = usage.get_mut(name)?;
    let tokens = to(slot.as_u64()?);
    *slot = tokens.into();
    Some(tokens)
}
