//! Compares an answer with what its case expects, and with what holds for every answer.

use crate::case::Case;
use crate::client::Answer;
use crate::events::{self, Reading, is_json_prefix};
use crate::invariants::{self, check_hidden_texts};
use crate::json_diff::{all_equal, difference, parsed};
use crate::seen::Seen;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

/// All that disagrees between an answer and the expectation.
pub(crate) fn check_answer(case: &Case, answer: &Answer, seen: &[Arc<Seen>]) -> Vec<String> {
    let expect = &case.expect;
    let mut found = Vec::new();
    if answer.status != expect.status {
        found.push(format!("status {} instead of {}", answer.status, expect.status));
    }
    if answer.ended != expect.ended {
        found.push(format!(
            "the body ended {:?} instead of {:?}",
            answer.ended, expect.ended
        ));
    }
    if answer.header("x-aegis-request-id").is_none_or(str::is_empty) {
        found.push("the answer has no x-aegis-request-id".to_owned());
    }
    for (name, value) in &expect.headers {
        if answer.header(name) != Some(value) {
            found.push(format!(
                "header {name}: {:?} instead of {value:?}",
                answer.header(name)
            ));
        }
    }
    for name in expect
        .absent_headers
        .iter()
        .filter(|n| answer.header(n).is_some())
    {
        found.push(format!(
            "header {name} must not be there: {:?}",
            answer.header(name)
        ));
    }
    found.extend(check_body(case, answer, seen));
    found.extend(check_hidden_texts(answer));
    if answer
        .header("content-type")
        .is_some_and(|t| t.starts_with("text/event-stream"))
    {
        let got = events::read(&answer.body);
        let sent: Vec<Reading> = seen.iter().map(|seen| events::read(&seen.sent())).collect();
        found.extend(check_stream(case, answer, &got));
        found.extend(invariants::check_stream(case, answer, &got, &sent));
    }
    found
}

/// The body as bytes, as text and as JSON.
fn check_body(case: &Case, answer: &Answer, seen: &[Arc<Seen>]) -> Vec<String> {
    let expect = &case.expect;
    let mut found = Vec::new();
    let sent = seen.first().map(|seen| seen.sent()).unwrap_or_default();
    if expect.body_equals_upstream && answer.body != sent {
        found.push(format!(
            "the body is not the upstream's:\n{}",
            diff(&sent, &answer.body)
        ));
    }
    if let Some(file) = &expect.body_file {
        let path = case.folder.join(file);
        match std::fs::read(&path) {
            Ok(wanted) if wanted == answer.body => {}
            Ok(wanted) => found.push(format!(
                "the body is not {}:\n{}",
                file.display(),
                diff(&wanted, &answer.body)
            )),
            Err(error) => found.push(format!("{}: {error}", path.display())),
        }
    }
    let text = String::from_utf8_lossy(&answer.body);
    for part in expect.contains.iter().filter(|p| !text.contains(p.as_str())) {
        found.push(format!("the body does not contain {part:?}"));
    }
    for part in expect.absent.iter().filter(|p| text.contains(p.as_str())) {
        found.push(format!("the body contains {part:?}"));
    }
    if expect.error_code.is_some() && answer.error_code() != expect.error_code {
        found.push(format!(
            "error code {:?} instead of {:?}",
            answer.error_code(),
            expect.error_code
        ));
    }
    if let Some(file) = &expect.json_file {
        let path = case.folder.join(file);
        let wanted = std::fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|text| parsed(&text));
        found.extend(match (wanted, parsed(&answer.body)) {
            (Ok(wanted), Ok(got)) => {
                difference(&wanted, &got).map(|d| format!("the body is not {}: {d}", file.display()))
            }
            (wanted, got) => Some(format!("{}: {:?} {:?}", path.display(), wanted.err(), got.err())),
        });
    }
    found
}

/// What the case says of a stream.
fn check_stream(case: &Case, answer: &Answer, got: &Reading) -> Vec<String> {
    let expect = &case.expect;
    let mut found = Vec::new();
    for (lane, text) in &expect.lanes {
        if got.lane(lane) != text {
            found.push(format!(
                "lane {lane}:\n{}",
                diff(text.as_bytes(), got.lane(lane).as_bytes())
            ));
        }
    }
    for (lane, &most) in &expect.lane_chars_max {
        let chars = got.lane(lane).chars().count();
        if chars > most {
            found.push(format!(
                "{chars} characters of lane {lane} came out, at most {most} may"
            ));
        }
    }
    for lane in expect
        .json_prefix_lanes
        .iter()
        .filter(|lane| !is_json_prefix(got.lane(lane)))
    {
        found.push(format!(
            "lane {lane} is not a prefix of JSON: {:?}",
            got.lane(lane)
        ));
    }
    let errors = expect.errors.unwrap_or(usize::from(expect.error_code.is_some()));
    if got.errors.len() != errors {
        found.push(format!(
            "{} error frames instead of {errors}: {:?}",
            got.errors.len(),
            got.errors
        ));
    }
    if let Some(reason) = &expect.finish
        && (got.finishes.is_empty() || got.finishes.iter().any(|(_, got)| got != reason))
    {
        found.push(format!("finish {:?} instead of {reason:?}", got.finishes));
    }
    if let Some(usage) = &expect.usage {
        let got = got.usages.first().unwrap_or(&Value::Null);
        found.extend(
            all_equal(usage, got)
                .into_iter()
                .map(|c| format!("usage: {c}, in {got}")),
        );
    }
    if expect.error_code.is_some() && errors == 1 {
        found.extend(check_error_frame(answer, &got.errors));
    }
    found
}

/// The one frame of a cut, as every client library understands it.
fn check_error_frame(answer: &Answer, errors: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let Some(error) = errors.first() else { return found };
    let members: Vec<&str> = error
        .as_object()
        .map(|o| o.keys().map(String::as_str).collect())
        .unwrap_or_default();
    for name in ["message", "type", "param", "code"] {
        if !members.contains(&name) {
            found.push(format!("the error has no {name:?}: {error}"));
        }
    }
    if error["type"] != "aegis_error" || !error["param"].is_null() {
        found.push(format!("the error's type or param is wrong: {error}"));
    }
    if error["message"].as_str().is_none_or(|m| m.len() < 10) {
        found.push(format!("the error's message tells nothing: {error}"));
    }
    let text = String::from_utf8_lossy(&answer.body);
    if !text.ends_with("\n\ndata: [DONE]\n\n") {
        found.push("the cut stream does not end with [DONE]".to_owned());
    }
    if !text.contains("data: {\"error\":") {
        found.push("the error frame does not begin with data: {\"error\":".to_owned());
    }
    found
}

/// Where two bodies part, with what stands around.
#[must_use]
pub fn diff(wanted: &[u8], got: &[u8]) -> String {
    let at = wanted.iter().zip(got).take_while(|(a, b)| a == b).count();
    if at == wanted.len() && at == got.len() {
        return "  (equal)".to_owned();
    }
    let around = |bytes: &[u8]| {
        let from = at.saturating_sub(160);
        let to = bytes.len().min(at + 240);
        format!("…{:?}", String::from_utf8_lossy(&bytes[from.min(to)..to]))
    };
    let mut text = format!(
        "  they part at byte {at} (wanted {} bytes, got {})\n",
        wanted.len(),
        got.len()
    );
    writeln!(text, "  wanted {}", around(wanted)).expect("a String takes it");
    write!(text, "  got    {}", around(got)).expect("a String takes it");
    text
}
