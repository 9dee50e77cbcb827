//! What the upstream must have been asked: the client's request, and the hidden ones behind it.

use crate::case::Case;
use crate::json_diff::{all_equal, difference, parsed};
use crate::seen::{Outcome, Seen};
use crate::verdict::diff;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the upstream must have been asked. A file `asked_K.json` in the case's folder is the whole body of request K
/// (from 1), whatever the order of its members.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// How many requests, looks at `/health`, `/slots` and the server's descriptions of itself aside. By default 1, or as
    /// many as there are answers.
    pub requests: Option<usize>,
    /// The first request's body is the client's, byte for byte. Not checked where `asked_1.json` says what it is.
    pub same_body: bool,
    /// Headers with exactly these values, on every request.
    pub headers: BTreeMap<String, String>,
    /// Headers that no request must have.
    pub absent_headers: Vec<String>,
    /// The first request's connection was closed before its script ended.
    pub left: bool,
    /// At least one look at `/health` or `/slots` came.
    pub looked: bool,
    /// The requests one by one.
    pub asked: Vec<Once>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            requests: None,
            same_body: true,
            headers: BTreeMap::new(),
            absent_headers: Vec::new(),
            left: false,
            looked: false,
            asked: Vec::new(),
        }
    }
}

/// One request to the upstream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Once {
    /// Its body is the client's, byte for byte.
    pub same_body: bool,
    /// Members of its body, as a JSON object: each must be equal, all through.
    pub members: Option<String>,
    /// Members that its body must not have.
    pub absent: Vec<String>,
    /// Its messages, as a JSON array.
    pub messages: Option<String>,
    /// Its connection was closed before its script ended.
    pub left: bool,
}

/// How many requests the upstream must get.
pub(crate) fn requests(case: &Case) -> usize {
    let answers = case.upstream.answers.len().max(1);
    case.expect.upstream.requests.unwrap_or(answers)
}

/// All that disagrees between what the upstream got and the expectation.
pub(crate) fn check(case: &Case, seen: &[Arc<Seen>]) -> Vec<String> {
    let expect = &case.expect.upstream;
    let requests = requests(case);
    let mut found = Vec::new();
    if seen.len() != requests {
        found.push(format!(
            "the upstream got {} requests instead of {requests}",
            seen.len()
        ));
    }
    for (number, seen) in (1..).zip(seen) {
        let own = check_once(case, number, seen);
        found.extend(
            own.into_iter()
                .map(|c| format!("request {number} to the upstream: {c}")),
        );
    }
    if expect.asked.len() > seen.len() {
        found.push(format!("no request came for {:?}", &expect.asked[seen.len()..]));
    }
    found
}

fn check_once(case: &Case, number: usize, seen: &Seen) -> Vec<String> {
    let expect = &case.expect.upstream;
    let none = Once::default();
    let once = expect.asked.get(number - 1).unwrap_or(&none);
    let mut found = Vec::new();
    if seen.method != case.request.method || seen.target != case.request.path {
        found.push(format!("it was {} {}", seen.method, seen.target));
    }
    let file = case.folder.join(format!("asked_{number}.json"));
    let as_file = file.is_file();
    if as_file {
        let wanted = std::fs::read(&file)
            .map_err(|e| e.to_string())
            .and_then(|text| parsed(&text));
        found.extend(match (wanted, parsed(&seen.body)) {
            (Ok(wanted), Ok(got)) => {
                difference(&wanted, &got).map(|d| format!("its body is not {}: {d}", file.display()))
            }
            (wanted, got) => Some(format!("{}: {:?} {:?}", file.display(), wanted.err(), got.err())),
        });
    }
    let client = case.request_body().unwrap_or_default();
    let same = once.same_body || number == 1 && expect.same_body && !as_file;
    if same && seen.body != client {
        found.push(format!(
            "its body is not the client's:\n{}",
            diff(&client, &seen.body)
        ));
    }
    found.extend(check_members(once, &seen.body));
    for (name, value) in &expect.headers {
        if seen.header(name) != Some(value) {
            found.push(format!("{name}: {:?} instead of {value:?}", seen.header(name)));
        }
    }
    for name in expect.absent_headers.iter().filter(|n| seen.header(n).is_some()) {
        found.push(format!("it must not have {name}: {:?}", seen.header(name)));
    }
    if (once.left || number == 1 && expect.left) && !matches!(seen.ended(), Some((Outcome::PeerLeft, _))) {
        found.push(format!("its connection was not closed early: {:?}", seen.ended()));
    }
    found
}

fn check_members(once: &Once, body: &[u8]) -> Vec<String> {
    if once.members.is_none() && once.messages.is_none() && once.absent.is_empty() {
        return Vec::new();
    }
    let body = match parsed(body) {
        Ok(body) => body,
        Err(error) => return vec![format!("its body is not JSON: {error}")],
    };
    let mut found = Vec::new();
    if let Some(members) = &once.members {
        found.extend(all_equal(members, &body));
    }
    if let Some(messages) = &once.messages {
        let wanted: Value = serde_json::from_str(messages).unwrap_or_else(|e| panic!("{messages}: {e}"));
        found.extend(difference(&wanted, &body["messages"]).map(|d| format!("messages: {d}")));
    }
    for name in once.absent.iter().filter(|name| body.get(name).is_some()) {
        found.push(format!("it must not have the member {name:?}: {}", body[name]));
    }
    found
}
