//! Requests that the scripted upstream does not take, such as a server that refuses a prefill.

use crate::script::{Framing, Script};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is refused, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Bodies with this top-level member.
    #[serde(default)]
    pub member: Option<String>,
    /// Bodies whose last message has this role.
    #[serde(default)]
    pub last_role: Option<String>,
    /// The status.
    #[serde(default = "bad_request")]
    pub status: u16,
    /// The message.
    #[serde(default)]
    pub message: String,
}

const fn bad_request() -> u16 {
    400
}

impl Refusal {
    pub(crate) fn concerns(&self, body: &[u8]) -> bool {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        let last = body["messages"].as_array().and_then(|messages| messages.last());
        let member = self.member.as_ref().is_some_and(|name| body.get(name).is_some());
        member
            || self
                .last_role
                .as_ref()
                .is_some_and(|role| last.is_some_and(|last| last["role"] == *role))
    }

    pub(crate) fn answer(&self) -> Script {
        let error = json!({"code": self.status, "message": self.message, "type": "invalid_request_error"});
        let body = json!({ "error": error }).to_string();
        let json = "application/json; charset=utf-8";
        Script::answer(self.status, json, Framing::Length, body.as_bytes())
    }
}
