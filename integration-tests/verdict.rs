//! Compares an answer with what its case expects, and with what holds for every answer.

use crate::case::Case;
use crate::client::{Answer, Ended};
use crate::events::{self, Reading, is_json_prefix};
use crate::scripted::Seen;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

/// All that disagrees between an answer and the expectation.
pub(crate) fn check_answer(case: &Case, answer: &Answer, seen: Option<&Arc<Seen>>) -> Vec<String> {
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
    let sent = seen.map(|s| s.sent()).unwrap_or_default();
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
    if answer
        .header("content-type")
        .is_some_and(|t| t.starts_with("text/event-stream"))
    {
        found.extend(check_stream(
            case,
            answer,
            &events::read(&answer.body),
            &events::read(&sent),
        ));
    }
    found
}

fn check_stream(case: &Case, answer: &Answer, got: &Reading, sent: &Reading) -> Vec<String> {
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
    // What holds for every stream, whatever the case says.
    for (lane, text) in &got.lanes {
        if !sent.lane(lane).starts_with(text.as_str()) {
            found.push(format!(
                "lane {lane} is not a prefix of what the upstream sent:\n{}",
                diff(sent.lane(lane).as_bytes(), text.as_bytes())
            ));
        }
    }
    if got.dones > 1 {
        found.push(format!("{} times [DONE]", got.dones));
    }
    if !got.after_error.is_empty() {
        found.push(format!("after the error came: {:?}", got.after_error));
    }
    let guarded = case
        .request
        .path
        .split('?')
        .next()
        .unwrap_or_default()
        .ends_with("/completions");
    let told = !got.finishes.is_empty() || !got.errors.is_empty() || expect.may_end_unfinished;
    if guarded && answer.ended == Ended::Clean && !told {
        found.push("the stream ended cleanly with neither a finish nor an error".to_owned());
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
