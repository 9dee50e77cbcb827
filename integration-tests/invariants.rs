//! What holds for every streamed answer, whatever its case says.

use crate::case::Case;
use crate::client::{Answer, Ended};
use crate::events::Reading;
use crate::verdict::diff;
use std::collections::BTreeSet;

/// How every default text of a correction begins, and what an upstream that cannot prefill is told. Neither is for the client.
const HIDDEN_TEXTS: &[&str] = &["[Note: a first attempt", "Your last message was broken off"];

/// No answer, streamed or not, tells of a hidden turn.
pub(crate) fn check_hidden_texts(answer: &Answer) -> Vec<String> {
    let body = String::from_utf8_lossy(&answer.body);
    let told = HIDDEN_TEXTS.iter().filter(|text| body.contains(**text));
    told.map(|text| format!("the client got a text of a hidden turn: {text:?}"))
        .collect()
}

/// Checks a stream against what the upstream sent, answer by answer.
pub(crate) fn check_stream(case: &Case, answer: &Answer, got: &Reading, sent: &[Reading]) -> Vec<String> {
    let mut found = check_text(case, got, sent);
    if got.dones > 1 {
        found.push(format!("{} times [DONE]", got.dones));
    }
    if got.after_done > 0 {
        found.push(format!("{} events after [DONE]", got.after_done));
    }
    if !got.after_error.is_empty() {
        found.push(format!("after the error came: {:?}", got.after_error));
    }
    let path = case.request.path.split('?').next().unwrap_or_default();
    if !path.ends_with("ompletions") {
        return found;
    }
    let told = !got.finishes.is_empty() || !got.errors.is_empty() || case.expect.may_end_unfinished;
    if answer.ended == Ended::Clean && !told {
        found.push("the stream ended cleanly with neither a finish nor an error".to_owned());
    }
    // What passes unchanged is the upstream's own, however odd.
    if !case.expect.body_equals_upstream {
        found.extend(check_oneness(case, answer, got, sent));
    }
    found
}

/// Text that nobody changed is a beginning of what the upstream sent; all other text is told by the case.
fn check_text(case: &Case, got: &Reading, sent: &[Reading]) -> Vec<String> {
    let mended = case.expect.incidents.iter().any(|incident| {
        let is = |name: &str, value: &str| incident.get(name).and_then(toml::Value::as_str) == Some(value);
        let shadow = incident.get("shadow").and_then(toml::Value::as_bool) == Some(true);
        !shadow && (is("decision", "repair") || is("decision", "correct"))
    });
    let mut found = Vec::new();
    for (lane, text) in &got.lanes {
        if mended || sent.len() > 1 {
            if !case.expect.lanes.contains_key(lane) {
                found.push(format!("the case does not say what lane {lane} is: {text:?}"));
            }
        } else {
            let all = sent.first().map_or("", |sent| sent.lane(lane));
            if !all.starts_with(text.as_str()) {
                let parts = diff(all.as_bytes(), text.as_bytes());
                found.push(format!(
                    "lane {lane} is not a prefix of what the upstream sent:\n{parts}"
                ));
            }
        }
    }
    found
}

/// One role, one identity, one finish a choice, one usage, one `[DONE]`, however many requests made the answer.
fn check_oneness(case: &Case, answer: &Answer, got: &Reading, sent: &[Reading]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, values) in got.names.iter().filter(|(_, values)| values.len() > 1) {
        found.push(format!("more than one {name}: {values:?}"));
    }
    let once = |what: &str, choices: Vec<u64>| {
        let distinct: BTreeSet<_> = choices.iter().collect();
        (distinct.len() < choices.len()).then(|| format!("more than one {what} of a choice: {choices:?}"))
    };
    found.extend(once("role", got.roles.clone()));
    found.extend(once(
        "finish",
        got.finishes.iter().map(|(choice, _)| *choice).collect(),
    ));
    if !got.lanes.is_empty() && got.roles.is_empty() && sent.iter().any(|sent| !sent.roles.is_empty()) {
        found.push("no delta has a role".to_owned());
    }
    if got.usages.len() > 1 {
        found.push(format!("more than one usage: {:?}", got.usages));
    }
    let whole = answer.ended == Ended::Clean && !case.expect.may_end_unfinished;
    let says_done = !got.errors.is_empty() || sent.last().is_some_and(|sent| sent.dones > 0);
    if whole && says_done && got.dones != 1 {
        found.push(format!("{} times [DONE] at the end", got.dones));
    }
    if whole && got.errors.is_empty() {
        let finished: BTreeSet<_> = got.finishes.iter().map(|(choice, _)| *choice).collect();
        let spoken: BTreeSet<_> = got.lanes.keys().map(|lane| choice_of(lane)).collect();
        if !spoken.is_subset(&finished) {
            found.push(format!("choices {spoken:?} speak, but {finished:?} finish"));
        }
    }
    found
}

fn choice_of(lane: &str) -> u64 {
    lane.split_once(':')
        .and_then(|(choice, _)| choice.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::read;

    fn case(expect: &str) -> Case {
        toml::from_str(&format!("description = \"\"\n[expect]\n{expect}")).unwrap()
    }

    fn answer(frames: &[&str]) -> Answer {
        let body: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
        Answer {
            status: 200,
            body: body.into_bytes(),
            ended: Ended::Clean,
            ..Answer::empty()
        }
    }

    const ROLE: &str = r#"{"id":"a","choices":[{"index":0,"delta":{"role":"assistant"}}]}"#;
    const TEXT: &str = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    const OTHER: &str = r#"{"id":"b","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    const FINISH: &str = r#"{"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"id":"a","choices":[],"usage":{"total_tokens":1}}"#;

    #[test]
    fn what_is_there_twice_is_found() {
        let sound = answer(&[ROLE, TEXT, FINISH, USAGE, "[DONE]"]);
        let check = |frames: &[&str]| {
            let answer = answer(frames);
            let sent = read(&sound.body);
            check_stream(&case(""), &answer, &read(&answer.body), &[sent])
        };
        assert_eq!(check(&[ROLE, TEXT, FINISH, USAGE, "[DONE]"]), [""; 0]);
        for (frames, part) in [
            (&[ROLE, ROLE, TEXT, FINISH, "[DONE]"][..], "more than one role"),
            (&[TEXT, FINISH, "[DONE]"], "no delta has a role"),
            (&[ROLE, OTHER, FINISH, "[DONE]"], "more than one id"),
            (&[ROLE, TEXT, FINISH, FINISH, "[DONE]"], "more than one finish"),
            (
                &[ROLE, TEXT, FINISH, USAGE, USAGE, "[DONE]"],
                "more than one usage",
            ),
            (&[ROLE, TEXT, FINISH, "[DONE]", "[DONE]"], "2 times [DONE]"),
            (&[ROLE, TEXT, FINISH, "[DONE]", USAGE], "1 events after [DONE]"),
            (&[ROLE, TEXT, FINISH], "0 times [DONE]"),
            (&[ROLE, TEXT, "[DONE]"], "neither a finish nor an error"),
            (&[ROLE, TEXT, TEXT, FINISH, "[DONE]"], "not a prefix"),
        ] {
            let found = check(frames);
            assert!(found.iter().any(|c| c.contains(part)), "{part}: {found:?}");
        }
    }

    #[test]
    fn changed_text_must_be_told_by_the_case() {
        let answer = answer(&[ROLE, TEXT, FINISH, "[DONE]"]);
        let (got, sent) = (read(&answer.body), [Reading::default(), Reading::default()]);
        let check = |expect: &str| check_text(&case(expect), &got, &sent);
        assert_eq!(check("[expect.lanes]\ncontent = \"x\"\n"), [""; 0]);
        assert_eq!(check("").len(), 1);
    }

    #[test]
    fn a_hidden_text_is_found() {
        let told = answer(&["[Note: a first attempt was faulty]"]);
        assert_eq!(check_hidden_texts(&told).len(), 1);
        assert_eq!(check_hidden_texts(&answer(&[TEXT])), [""; 0]);
    }
}
