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
        json!(5),
        json!([{"q": 1}]),
        json!(" []"),
        json!("\"{}\""),
        json!("[1,"),
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
        json!("{}"),
        json!("{}"),
        json!("{}"),
        json!("{}"),
        json!("{}"),
        json!("{}"),
        json!("{}"),
    ];
    assert_eq!(arguments_of(&healed.body), wanted);
    assert_eq!(healed.calls, 14);
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
            (1, 9, Healing::Emptied, "null in place of a text"),
            (1, 10, Healing::Emptied, "null in place of an object"),
            (1, 11, Healing::Emptied, "a number in place of a text"),
            (1, 12, Healing::Emptied, "an array in place of a text"),
            (1, 13, Healing::Emptied, "an array in place of an object"),
            (1, 14, Healing::Emptied, "a string in place of an object"),
            (
                1,
                15,
                Healing::Emptied,
                "the text ends after a comma in an array, 1 bracket deep"
            ),
        ]
    );
    assert!(healed.notes.iter().all(|n| n.name == "search"));
}

#[test]
fn nothing_but_the_strings_changes() {
    let body = "{ \"messages\" : [ {\"role\":\"assistant\" ,\"function_call\":{\"arguments\" : \"{\", \"name\":\"f\"},\
        \"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":[1,\"}}], \"x\": 1.50}\n], \"seed\":18446744073709551616,\
        \"\\u0078\":\"\\u00e9\" }";
    let healed = healed(body).unwrap();
    let wanted = body.replace("\"{\"", "\"{}\"").replace("[1,\"", "[1]}\"");
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
        r#"{"messages":[{"tool_calls":{"function":{"arguments":"{"}}},{"tool_calls":[3,{"function":"arguments"},{"custom":{"input":5}}]},{"function_call":{"name":"f"}}]}"#.to_owned(),
        r#"not JSON "arguments""#.to_owned(),
    ] {
        assert_eq!(healed(&healthy), None, "{healthy}");
    }
    assert_eq!(heal(b"\xff\"arguments\"", 9), None);
}

#[test]
fn deep_arguments_are_no_fault() {
    let deep = json!(format!("{{\"a\":{}{}}}", "[".repeat(9), "]".repeat(9)));
    assert_eq!(heal(body(&[deep]).as_bytes(), 8), None);
}

#[test]
fn half_a_pair_in_the_bodys_own_string_is_mended() {
    let body = |arguments: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"tool_calls":[{{"function":{{"name":"f","arguments":{arguments}}}}}]}}]}}"#
        )
    };
    for (arguments, wanted) in [
        (r#""{\"q\": \"\ud83e\"}""#, r#"{"q": "\u{fffd}"}"#),
        (r#""{\"q\": \"\\ud83e\"}""#, r#"{"q": "\ufffd"}"#),
        (r#"{"q": "\ud83e"}"#, r#"{"q": "\ufffd"}"#),
        (r#""\ud83e""#, "{}"),
    ] {
        let wanted = wanted.replace("\\u{fffd}", "\u{fffd}");
        let healed = heal(body(arguments).as_bytes(), JSON_DEPTH_MAX).unwrap();
        assert_eq!(arguments_of(&healed.body), [json!(wanted)], "{arguments}");
    }
    let whole = body(r#""{\"q\": \"\ud83e\udd80\"}""#);
    assert_eq!(heal(whole.as_bytes(), JSON_DEPTH_MAX), None);
}

#[test]
fn a_call_without_arguments_gets_some() {
    let body =
        r#"{"messages":[{"role":"user"},{"tool_calls":[{"function":{"name":"f"}},{"function": { }}]}]}"#;
    let healed = healed(body).unwrap();
    let wanted = r#"{"messages":[{"role":"user"},{"tool_calls":[{"function":{"arguments":"{}","name":"f"}},{"function": {"arguments":"{}" }}]}]}"#;
    assert_eq!(String::from_utf8(healed.body).unwrap(), wanted);
    assert_eq!(
        (healed.calls, healed.notes[0].why.as_str()),
        (2, "there are none")
    );
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
        Just(json!(null)),
        Just(json!([1])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn healing_is_complete_and_touches_nothing_else(calls in prop::collection::vec(arguments(), 0..5)) {
        let before = body(&calls);
        let whole = |a: &Value| {
            let read = a.as_str().map(serde_json::from_str::<Value>);
            a.is_object() || matches!(read, Some(Ok(Value::Object(_))))
        };
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
