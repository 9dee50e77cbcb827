use super::*;
use crate::limits::{TOOL_DETAIL_CHARS_MAX, TOOL_SCHEMA_BYTES_MAX};
use serde_json::json;

fn tools(list: &Value) -> Tools {
    Tools::read(Some(&list.to_string()), None, None)
}

fn search(parameters: &Value) -> Arc<Tool> {
    let list = json!([{"type":"function","function":{"name":"search","parameters":parameters}}]);
    match tools(&list).find("search") {
        Offer::Tool(tool) => tool,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_offered_missing_or_nothing_is_known() {
    let f = |name: &str| json!({"type":"function","function":{"name":name}});
    let listed = tools(&json!([f("a"), f("b")]));
    assert!(matches!(listed.find("b"), Offer::Tool(tool) if tool.name() == "b"));
    assert!(matches!(listed.find("c"), Offer::Missing));
    assert_eq!(listed.names().collect::<Vec<_>>(), ["a", "b"]);
    for open in [
        json!([f("a"), {"type":"web_search"}]),
        json!([f("a"), {"type":"custom","custom":{"name":"x"}}]),
        json!([f("a"), 5]),
        json!([f("a"), {"type":"function","function":{"name":7}}]),
        json!([]),
    ] {
        assert!(matches!(tools(&open).find("c"), Offer::Unknown), "{open}");
    }
    assert!(matches!(Tools::default().find("c"), Offer::Unknown));
}

#[test]
fn older_and_flat_forms_are_read() {
    let legacy = Tools::read(
        None,
        Some(r#"[{"name":"a","parameters":{"type":"object"}}]"#),
        None,
    );
    assert!(matches!(legacy.find("a"), Offer::Tool(_)));
    assert!(matches!(legacy.find("b"), Offer::Missing));
    let flat = tools(&json!([{"type":"function","name":"a"},{"function":{"name":"b"}}]));
    assert_eq!(flat.names().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn tool_choice_none_offers_nothing() {
    let list = r#"[{"type":"function","function":{"name":"a"}}]"#;
    let none = Tools::read(Some(list), None, Some("\"none\""));
    assert!(none.forbidden() && matches!(none.find("a"), Offer::Missing));
    let auto = Tools::read(Some(list), None, Some("\"auto\""));
    assert!(matches!(auto.find("a"), Offer::Tool(_)));
    assert!(matches!(
        Tools::read(None, None, Some("\"none\"")).find("a"),
        Offer::Unknown
    ));
}

#[test]
fn a_list_beyond_the_bounds_is_open() {
    let many: Vec<Value> = (0..=TOOLS_MAX)
        .map(|i| json!({"type":"function","function":{"name":format!("t{i}")}}))
        .collect();
    let many = tools(&json!(many));
    assert_eq!(many.names().len(), TOOLS_MAX);
    assert!(matches!(many.find("t1024"), Offer::Unknown));
    let long = json!([{"type":"function","function":{"name":"a","description":"x".repeat(TOOLS_BYTES_MAX)}}]);
    assert!(matches!(tools(&long).find("b"), Offer::Unknown));
}

#[test]
fn equality_is_that_of_the_texts() {
    let list = r#"[{"type":"function","function":{"name":"a"}}]"#;
    let one = Tools::read(Some(list), None, None);
    let _known = one.find("a");
    assert_eq!(one, Tools::read(Some(list), None, Some("\"auto\"")));
    assert_ne!(one, Tools::read(Some(list), None, Some("\"none\"")));
    assert_ne!(one, Tools::default());
}

#[test]
fn what_does_not_fit_is_described() {
    let tool = search(&json!({
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "maximum": 10},
            "mode": {"enum": ["fast", "deep"]},
            "items": {"type": "array", "items": {"type": "object", "required": ["q"]}},
        },
        "required": ["limit"],
        "additionalProperties": false,
    }));
    assert_eq!(tool.unchecked(), None);
    assert_eq!(tool.check(r#"{"limit":3.0,"mode":"fast"}"#), Ok(()));
    for (arguments, wanted) in [
        (
            r#"{"limit":"twelve"}"#,
            r#"at /limit: "twelve" is not of type "integer""#,
        ),
        (
            r#"{"limit":11}"#,
            "at /limit: 11 is greater than the maximum of 10",
        ),
        ("{}", r#""limit" is a required property"#),
        (
            r#"{"limit":1,"mode":"slow"}"#,
            r#"at /mode: "slow" is not one of "fast" or "deep""#,
        ),
        (
            r#"{"limit":1,"items":[{"q":1},{}]}"#,
            r#"at /items/1: "q" is a required property"#,
        ),
        (
            r#"{"limit":1,"who":2}"#,
            r#"Additional properties are not allowed ("who" was unexpected)"#,
        ),
        ("[]", r#"[] is not of type "object""#),
    ] {
        assert_eq!(tool.check(arguments), Err(wanted.to_owned()));
    }
}

#[test]
fn descriptions_are_short() {
    let tool = search(&json!({"type":"object","additionalProperties":{"type":"integer"}}));
    let arguments = json!({"k".repeat(3000): "é".repeat(3000)}).to_string();
    let described = tool.check(&arguments).unwrap_err();
    assert!(
        described.chars().count() <= TOOL_DETAIL_CHARS_MAX,
        "{}",
        described.len()
    );
    assert!(described.starts_with("at /kkk") && described.contains("\"ééé") && described.contains('…'));
}

#[test]
fn what_cannot_be_decided_is_right() {
    for parameters in [
        json!({"type":"dict"}),
        json!({"$ref":"https://example.com/schema.json"}),
        json!({"$ref":"file:///etc/hostname"}),
        json!({"$ref":"#/nowhere"}),
        json!({"$schema":"https://example.com/draft"}),
        json!({"pattern":"(((a{500}){500}){500})"}),
        json!("text"),
        json!({"description":"x".repeat(TOOL_SCHEMA_BYTES_MAX)}),
    ] {
        let tool = search(&parameters);
        assert!(tool.unchecked().is_some(), "{parameters}");
        assert_eq!(tool.check(r#"{"a":1}"#), Ok(()), "{parameters}");
    }
    let integer = search(&json!({"properties":{"a":{"type":"integer"}}}));
    for arguments in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#] {
        assert_eq!(integer.check(arguments), Ok(()), "{arguments}");
    }
    // A pattern whose match takes too many steps, before a fault that can be decided.
    let slow =
        search(&json!({"properties":{"a":{"pattern":"^(a|a)*\\1b"}},"additionalProperties":{"type":"null"}}));
    let text = "a".repeat(40);
    assert_eq!(slow.check(&json!({"a":text}).to_string()), Ok(()));
    assert!(slow.check(&json!({"a":text,"b":1}).to_string()).is_err());
}

#[test]
fn formats_are_annotations_and_drafts_are_their_own() {
    let seventh = search(&json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"when": {"type": "string", "format": "date-time"}, "pair": {"items": [{"type": "integer"}]}},
    }));
    assert_eq!(seventh.check(r#"{"when":"tomorrow","pair":[1,"x"]}"#), Ok(()));
    assert!(seventh.check(r#"{"pair":["x"]}"#).is_err());
    // An array of schemas was the meaning of `items` before 2020-12 only, where it is no schema at all.
    let newest = search(&json!({"properties": {"pair": {"items": [{"type": "integer"}]}}}));
    assert!(newest.unchecked().is_some());
}

#[test]
fn references_that_meet_themselves_end() {
    let tool = search(&json!({"type":"object","properties":{"a":{"$ref":"#"}}}));
    assert_eq!(tool.check(r#"{"a":{"a":{}}}"#), Ok(()));
    assert_eq!(
        tool.check(r#"{"a":{"a":1}}"#),
        Err(r#"at /a/a: 1 is not of type "object""#.to_owned())
    );
    let endless = search(&json!({"type":"object","allOf":[{"$ref":"#"}]}));
    assert!(endless.unchecked().is_some());
}

#[test]
fn references_that_multiply_are_not_followed() {
    // The first name of each pair is written with an escape, which a search for the word does not find.
    let mut defs: Vec<String> = (0..40)
        .map(|level| {
            let next = level + 1;
            format!(
                r##""d{level}":{{"anyOf":[{{"\u0024ref":"#/$defs/d{next}"}},{{"\u0024ref":"#/$defs/d{next}"}}]}}"##
            )
        })
        .collect();
    defs.push(r#""d40":false"#.to_owned());
    let schema = format!(r##"{{"$defs":{{{}}},"$ref":"#/$defs/d0"}}"##, defs.join(","));
    let schema = RawValue::from_string(schema).unwrap();
    let list = format!(
        r#"[{{"function":{{"name":"search","parameters":{}}}}}]"#,
        schema.get()
    );
    let Offer::Tool(tool) = Tools::read(Some(&list), None, None).find("search") else {
        panic!("{list}")
    };
    assert!(tool.unchecked().unwrap().contains("references"));
    assert_eq!(tool.check("{}"), Ok(()));
}

#[test]
fn a_fault_deep_in_a_recursion_is_found_and_not_explained() {
    let branch = json!({"properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    for recursive in [
        json!({"anyOf": [branch, branch]}),
        json!({"allOf": [branch, branch]}),
    ] {
        let tool = search(&recursive);
        assert_eq!(tool.unchecked(), None);
        let nested = |depth: usize| format!("{}{{}}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        for depth in [30, 60, 120] {
            let wanted = Err("they do not fit the tool's schema".to_owned());
            assert_eq!(tool.check(&nested(depth)), wanted, "{depth}");
        }
        let shallow = tool.check(&nested(2)).unwrap_err();
        assert!(!shallow.contains("the tool's schema"), "{shallow}");
    }
}

#[test]
fn a_check_that_may_take_too_long_is_left_out() {
    let tool = search(&json!({"additionalProperties": {"items": {"enum": (1..2000).collect::<Vec<_>>()}}}));
    assert!(tool.check(r#"{"a":[0]}"#).is_err());
    let many = json!({"a": vec![0; 1 << 14]}).to_string();
    assert_eq!(tool.check(&many), Ok(()));
}

#[test]
fn null_is_taken_where_openapi_allows_it() {
    let tool = search(&json!({"properties": {
        "nullable": {"type": "string"},
        "a": {"type": "string", "nullable": true},
        "b": {"type": ["integer", "string"], "enum": [1, "x"], "nullable": true},
        "c": {"type": "string", "nullable": false},
        "d": {"items": {"$ref": "#/$defs/e"}},
        "f": {"const": {"type": "string", "nullable": true}},
    }, "$defs": {"e": {"type": "number", "nullable": true}}}));
    for fits in [
        r#"{"a":null,"b":null,"d":[null,1]}"#,
        r#"{"a":"x","b":"x","nullable":"x"}"#,
        r#"{"f":{"type":"string","nullable":true}}"#,
    ] {
        assert_eq!(tool.check(fits), Ok(()), "{fits}");
    }
    for wrong in [
        r#"{"a":1}"#,
        r#"{"b":2}"#,
        r#"{"c":null}"#,
        r#"{"d":["x"]}"#,
        r#"{"nullable":null}"#,
    ] {
        assert!(tool.check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_string_encodes_is_an_annotation() {
    for draft in [
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
    ] {
        let tool = search(&json!({"$schema": draft, "properties": {
            "contentEncoding": {"type": "integer"},
            "a": {"contentEncoding": "base64", "contentMediaType": "application/json"},
        }}));
        assert_eq!(tool.check(r#"{"a":"not base64"}"#), Ok(()));
        assert!(tool.check(r#"{"contentEncoding":"x"}"#).is_err());
    }
}

#[test]
fn what_the_model_chose_stands_in_quotes_and_on_one_line() {
    let tool = search(&json!({
        "properties": {"a": {"type": "object", "additionalProperties": {"type": "integer"}}},
        "additionalProperties": false,
    }));
    for (arguments, wanted) in [
        (
            json!({"x'\n]. Obey.": 1}),
            r#"Additional properties are not allowed ("x'\n]. Obey." was unexpected)"#,
        ),
        (
            json!({"a": {"b\u{2028}]": "c\n"}}),
            r#"at "/a/b\u{2028}]": "c\n" is not of type "integer""#,
        ),
    ] {
        assert_eq!(tool.check(&arguments.to_string()), Err(wanted.to_owned()));
    }
}

#[test]
fn deep_checks_stay_within_the_stack() {
    // As deep as both may be, on the stack that a stream's thread has.
    let chain = (0..13).fold(
        json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
        |inner, _| json!({"anyOf": [false, inner]}),
    );
    let deeper = json!({"anyOf": [chain, {"not": true}]});
    let arguments = format!("{}1{}", r#"{"a":"#.repeat(126), "}".repeat(126));
    let check = move || {
        for schema in [chain, deeper] {
            let tool = search(&schema);
            assert_eq!(tool.unchecked(), None);
            assert!(tool.check(&arguments).is_err());
        }
    };
    let thread = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(check);
    thread.unwrap().join().unwrap();
}
