//! One choice of an answer.

use super::joined::Joined;
use super::message::Message;
use super::object::{Kept, Writer};
use super::{object, text};
use crate::dialect::Dialect;
use crate::request::members::Members;
use crate::sse::parse::Unreadable;

/// A choice as it grows.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Of a chat.
    message: Message,
    /// Of a legacy completion.
    text: Joined,
    logprobs: Logprobs,
    /// Ids of the tokens, where the server sends them along.
    token_ids: Joined,
    /// The reason it ended, and all that is not known, log probabilities and token ids of an unknown shape included.
    others: Kept,
}

/// Members of a choice that are written by themselves.
const NAMED: [&str; 3] = ["finish_reason", "logprobs", "token_ids"];

impl Choice {
    /// Takes one chunk's part for this choice. `true` when the choice ends with it.
    pub(super) fn take(&mut self, choice: &Members) -> Result<bool, Unreadable> {
        let mut ended = false;
        for (name, json) in choice.iter() {
            match name {
                // One of the two says all; both together say it twice.
                "message" if choice.get("delta").is_some_and(|delta| delta != "null") => {}
                "delta" | "message" => {
                    if let Some(delta) = object(name, json)? {
                        self.message.take(&delta)?;
                    }
                }
                "text" => text(name, json, &mut self.text)?,
                "logprobs" if self.logprobs.take(json) => {}
                "token_ids" if self.token_ids.push(json) => {}
                "index" => {}
                // Some servers write an empty reason into every chunk.
                "finish_reason" if json == "\"\"" => {}
                _ => {
                    ended |= name == "finish_reason" && json != "null";
                    self.others.last(name, json);
                }
            }
        }
        Ok(ended)
    }

    /// Writes the choice with its members in the order of llama-server.
    pub(super) fn write(&self, dialect: Dialect, index: u32, out: &mut Vec<u8>) {
        let reason = self.others.get("finish_reason").unwrap_or("null");
        let logprobs = self.or_as_sent("logprobs", self.logprobs.to_json());
        let token_ids = self.or_as_sent("token_ids", self.token_ids.to_json());
        let mut choice = Writer::open(out);
        match dialect {
            Dialect::Chat => {
                choice.member("finish_reason", reason);
                choice.member("index", &index.to_string());
                self.message.write(choice.name("message"));
                choice.maybe("logprobs", logprobs.as_deref());
            }
            Dialect::Completions => {
                let text = self.text.to_json().filter(|text| text != "null");
                choice.member("text", text.as_deref().unwrap_or("\"\""));
                choice.member("index", &index.to_string());
                choice.maybe("logprobs", logprobs.as_deref());
                choice.member("finish_reason", reason);
            }
        }
        choice.maybe("token_ids", token_ids.as_deref());
        choice.all(self.others.except(&NAMED));
        choice.close();
    }

    /// A value that was put together, or else the last one of a shape that cannot be.
    fn or_as_sent(&self, name: &str, joined: Option<String>) -> Option<String> {
        let says = joined.as_deref().is_some_and(|json| json != "null");
        match self.others.get(name) {
            Some(odd) if !says => Some(odd.to_owned()),
            _ => joined,
        }
    }

    /// Whether it has a reason to have ended.
    pub(super) fn is_finished(&self) -> bool {
        let reason = self.others.get("finish_reason");
        reason.is_some_and(|reason| reason != "null")
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.message.len() + self.text.len() + self.logprobs.len() + self.token_ids.len() + self.others.len()
    }
}

/// The log probabilities of a choice: an object of lists, whatever their names (`content` and `refusal` of a chat, also
/// in llama-server's legacy form; `tokens`, `token_logprobs`, `top_logprobs` and `text_offset` elsewhere).
#[derive(Debug, Default)]
struct Logprobs {
    /// The member was there, though perhaps only null.
    seen: bool,
    lists: Vec<(String, Joined)>,
    others: Kept,
}

impl Logprobs {
    /// Takes one chunk's. `false` when it is neither an object nor null.
    fn take(&mut self, json: &str) -> bool {
        let Ok(logprobs) = object("logprobs", json) else {
            return false;
        };
        self.seen = true;
        for (name, json) in logprobs.iter().flat_map(Members::iter) {
            if !json.starts_with('[') && json != "null" {
                self.others.last(name, json);
                continue;
            }
            let at = self.lists.iter().position(|(n, _)| n == name);
            let at = at.unwrap_or_else(|| {
                self.lists.push((name.to_owned(), Joined::default()));
                self.lists.len() - 1
            });
            // A list or null: it always fits.
            let _fits = self.lists[at].1.push(json);
        }
        true
    }

    fn to_json(&self) -> Option<String> {
        if self.lists.is_empty() && self.others.len() == 0 {
            return self.seen.then(|| "null".to_owned());
        }
        let mut out = Vec::new();
        let mut object = Writer::open(&mut out);
        for (name, list) in &self.lists {
            let odd = self.others.get(name).filter(|_| matches!(list, Joined::Null));
            object.maybe(name, odd.map(str::to_owned).or_else(|| list.to_json()).as_deref());
        }
        let named: Vec<&str> = self.lists.iter().map(|(name, _)| name.as_str()).collect();
        object.all(self.others.except(&named));
        object.close();
        String::from_utf8(out).ok()
    }

    fn len(&self) -> usize {
        let lists: usize = self
            .lists
            .iter()
            .map(|(name, list)| name.len() + list.len())
            .sum();
        lists + self.others.len()
    }
}
