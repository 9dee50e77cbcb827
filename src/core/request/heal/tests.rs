use super::*;
use crate::limits::JSON_DEPTH_MAX;
use proptest::prelude::*;
use serde_json::{Value, json};

fn call(arguments: &Value) -> Value {
    json!({"id": "c", "type": "function", "function": {"name": "search", "arguments": arguments}})
}

fn body(calls: &[Value]) -> String {
    let calls: Vec<Value> = calls.iter().map(call).collect();
    json!({"model": "m", "messages": [
        {"role": "user", "content": "say \"arguments\""},
        {"role": "assistant", "content": null, "tool_calls": calls},
    ], "seed": 7})
    .to_string()
}

fn healed(body: &str) -> Option<Healed> {
    heal(body.as_bytes(), JSON_DEPTH_MAX)
}

fn arguments_of(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let calls = body["messages"][1]["tool_calls"].as_array().unwrap().iter();
    calls.map(|call| call["function"]["arguments"].clone()).collect()
}

#[test]
fn broken_arguments_are_mended_or_emptied() {
    let body = body(&[
        json!(r#"{"q": 1}"#),
        json!(r#"{"q": [1, 2,], "r": {"s": true"#),
        json!("{\"q\": \"two\nlines\"}"),
        json!(r#"{"q": "unfini"#),
        json!(""),
        json!(" \n"),
        json!("search(q=1)"),
        json!(r#"{"q": "\ud83e"}"#),
        json!({"q": 1}),
        json!(null),
        json!("null"),
    ]);
    let healed = healed(&body).unwrap();
    let wanted = [
        json!(r#"{"q": 1}"#),
        json!(r#"{"q": [1, 2], "r": {"s": true}}"#),
        json!(r#"{"q": "two\nlines"}"#),
        json!("{}"),
        json!("{}"),
        json!("{}"),
        json!("{}"),
        json!(r#"{"q": "\ufffd"}"#),
        json!({"q": 1}),
        json!(null),
        json!("null"),
    ];
    assert_eq!(arguments_of(&healed.body), wanted);
    assert_eq!(healed.calls, 7);
    let notes: Vec<_> = healed
        .notes
        .iter()
        .map(|n| (n.message, n.call, n.what, n.why.as_str()))
        .collect();
    assert_eq!(
        notes,
        [
            (
                1,
                1,
                Healing::Mended,
                "a trailing comma at byte 12, after a comma in an array, 2 brackets deep"
            ),
            (
                1,
                2,
                Healing::Mended,
                "the control character 0x0a inside a string at byte 10, inside a string, 1 bracket deep"
            ),
            (
                1,
                3,
                Healing::Emptied,
                "the text ends inside a string, 1 bracket deep"
            ),
            (1, 4, Healing::Emptied, "there is nothing"),
            (1, 5, Healing::Emptied, "there is nothing"),
            (
                1,
                6,
                Healing::Emptied,
                "text that is not JSON at byte 0, before the value"
            ),
            (1, 7, Healing::Mended, "half a surrogate pair in a string"),
        ]
    );
    assert!(healed.notes.iter().all(|n| n.name == "search"));
}

#[test]
fn nothing_but_the_strings_changes() {
    let body = "{ \"messages\" : [ {\"role\":\"assistant\" ,\"function_call\":{\"arguments\" : \"{\", \"name\":\"f\"},\
        \"tool_calls\":[{\"function\":{\"arguments\":\"[1,\"}}], \"x\": 1.50}\n], \"seed\":18446744073709551616,\
        \"\\u0078\":\"\\u00e9\" }";
    let healed = healed(body).unwrap();
    let wanted = body.replace("\"{\"", "\"{}\"").replace("\"[1,\"", "\"[1]\"");
    assert_eq!(String::from_utf8(healed.body).unwrap(), wanted);
    let names: Vec<_> = healed.notes.iter().map(|n| (n.call, n.name.as_str())).collect();
    assert_eq!(names, [(0, ""), (0, "f")]);
}

#[test]
fn a_healthy_body_is_not_touched() {
    for healthy in [
        body(&[json!("{}"), json!(r#"{"a":1}"#)]),
        r#"{"messages":[{"role":"user","content":"no calls"}]}"#.to_owned(),
        r#"{"messages":"arguments","arguments":"{"}"#.to_owned(),
        r#"{"prompt":"x","arguments":"{"}"#.to_owned(),
        r#"{"messages":[{"tool_calls":{"function":{"arguments":"{"}}},{"tool_calls":[3,{"function":"arguments"},{"function":{"arguments":5}}]}]}"#.to_owned(),
        r#"not JSON "arguments""#.to_owned(),
    ] {
        assert_eq!(healed(&healthy), None, "{healthy}");
    }
    assert_eq!(heal(b"\xff\"arguments\"", 9), None);
}

#[test]
fn deep_arguments_are_no_fault() {
    let deep = json!(format!("{}{}", "[".repeat(9), "]".repeat(9)));
    assert_eq!(heal(body(&[deep]).as_bytes(), 8), None);
}

#[test]
fn notes_are_bounded_and_calls_are_not() {
    let calls = vec![json!("{"); HEAL_NOTES_MAX + 3];
    let healed = healed(&body(&calls)).unwrap();
    assert_eq!((healed.notes.len(), healed.calls), (HEAL_NOTES_MAX, calls.len()));
    assert!(arguments_of(&healed.body).iter().all(|a| a == "{}"));
}

/// Arguments that are JSON, nearly JSON, no JSON or no text.
fn arguments() -> impl Strategy<Value = Value> {
    let piece = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "1", "-", "true", "tr", " ", "\n", "\\", "\\ud800", "é",
        "`",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..10).prop_map(|pieces| json!(pieces.concat())),
        any::<String>().prop_map(|text| json!(text)),
        Just(json!(r#"{"a":[1,{"b":null}]}"#)),
        Just(json!({"a": "{"})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn healing_is_complete_and_touches_nothing_else(calls in prop::collection::vec(arguments(), 0..5)) {
        let before = body(&calls);
        let whole = |a: &Value| a.as_str().is_none_or(|text| serde_json::from_str::<Value>(text).is_ok());
        let Some(healed) = healed(&before) else {
            prop_assert!(calls.iter().all(whole), "{before}");
            return Ok(());
        };
        prop_assert!(!calls.iter().all(whole), "{before}");
        let after = arguments_of(&healed.body);
        for (old, new) in calls.iter().zip(&after) {
            prop_assert!(whole(new), "{new}");
            prop_assert!(!whole(old) || old == new);
        }
        prop_assert_eq!(heal(&healed.body, JSON_DEPTH_MAX), None);
        prop_assert_eq!(body(&after).into_bytes(), healed.body);
    }
}
