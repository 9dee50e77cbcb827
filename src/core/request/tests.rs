//! Requests as clients send them.

use super::*;

fn facts(body: &str) -> RequestFacts {
    read(body.as_bytes(), JSON_DEPTH_MAX).unwrap()
}

fn error(body: &[u8]) -> String {
    read(body, 128).unwrap_err().to_string()
}

#[test]
fn a_plain_request_has_defaults() {
    let f = facts(r#"{"messages":[{"role":"user","content":"hi"}]}"#);
    assert_eq!(
        f,
        RequestFacts {
            choices: 1,
            ..RequestFacts::default()
        }
    );
}

#[test]
fn everything_that_matters_is_read() {
    let f = facts(
        r#"{"stream":true,"model":"m","n":2,"response_format":{"type":"json_schema","json_schema":{}},
            "tools":[{"type":"function"}],"unknown":{"deep":[1,2]},
            "messages":[{"role":"user","content":[{"type":"text","text":"repeat it 40 times"}]},{"role":"assistant","content":null}]}"#,
    );
    assert!(f.stream && f.json && f.tools);
    assert_eq!(
        f.offered,
        Arc::new(Tools::read(Some(r#"[{"type":"function"}]"#), None, None))
    );
    assert_eq!(
        (f.choices, f.model.as_deref(), f.repeats_asked),
        (2, Some("m"), Some(40))
    );
}

#[test]
fn nulls_and_text_formats_ask_for_nothing() {
    let f = facts(r#"{"stream":null,"n":null,"tools":null,"response_format":{"type":"text"},"messages":3}"#);
    assert_eq!(
        f,
        RequestFacts {
            choices: 1,
            ..RequestFacts::default()
        }
    );
}

#[test]
fn errors_name_field_value_reason_and_remedy() {
    for (body, wanted) in [
        (
            r#"{"stream":"yes"}"#,
            "stream: must be true or false (found `\"yes\"`). Write the word without quotes.",
        ),
        (
            r#"{"n":0}"#,
            "n: must be a whole number of at least 1 (found `0`).",
        ),
        (
            r#"{"response_format":"json"}"#,
            "response_format: must be an object",
        ),
        (r#"{"tools":{}}"#, "tools: must be an array"),
        ("[1]", "body: the JSON value is not an object"),
        ("", "body: the body is empty"),
        (r#"{"a":1"#, "body: the JSON text ends too early"),
        (r#"{"a":1,}"#, "not JSON at byte 7"),
        (r#"{"stream":true,"stream":true}"#, "duplicate field `stream`"),
    ] {
        assert!(
            error(body.as_bytes()).contains(wanted),
            "{body}: {}",
            error(body.as_bytes())
        );
    }
    assert!(error(b"{\"a\":\"\xff\"}").contains("not UTF-8 at byte 6"));
    assert!(error("[".repeat(100_000).as_bytes()).contains("nested deeper than 128"));
}

#[test]
fn what_only_the_upstream_understands_is_a_grammar() {
    for body in [
        r#"{"regex_pattern":"[a-z]+"}"#,
        r#"{"grammar_string":"root ::= \"a\""}"#,
        r#"{"response_format":{"type":"structural_tag","structures":[]}}"#,
        r#"{"response_format":{"type":"regex","pattern":"a"}}"#,
        r#"{"response_format":{"type":"grammar"},"json_schema":{}}"#,
    ] {
        let f = facts(body);
        assert_eq!((f.constraint, f.json), (Constraint::Grammar, false), "{body}");
    }
    for (body, wanted) in [
        (r#"{"response_format":{}}"#, Constraint::None),
        (r#"{"response_format":{"type":"text"}}"#, Constraint::None),
        (r#"{"response_format":{"type":"json_object"}}"#, Constraint::Json),
        (r#"{"regex_pattern":null,"grammar_string":""}"#, Constraint::None),
    ] {
        assert_eq!(facts(body).constraint, wanted, "{body}");
    }
}
