//! What holds for every request.

use super::*;
use crate::request::members::Members;
use proptest::prelude::*;
use serde_json::value::RawValue;

const CORRECTION: &str = "[Note \u{1f980} \"of the test\"]";

/// JSON as a client may write it, with its own spacing.
fn member() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        any::<String>().prop_map(|s| Value::from(s).to_string()),
        Just(r#""\u00e9\/""#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(" , "))),
            inner.prop_map(|value| format!("{{ \"k\" : {value} }}")),
        ]
    })
}

fn message() -> impl Strategy<Value = String> {
    let role = prop_oneof![Just("user"), Just("assistant"), Just("system"), Just("tool")];
    let text = prop_oneof![any::<String>(), "[a-z ]{0,8}"];
    (role, text, any::<bool>(), member()).prop_map(|(role, text, parts, other)| {
        let text = Value::from(text);
        let content = if parts {
            format!(r#"[{{"type":"image_url"}}, {{"type":"text","text":{text}}}]"#)
        } else {
            text.to_string()
        };
        format!(r#"{{"role": "{role}","x":{other},"content" : {content}}}"#)
    })
}

prop_compose! {
    fn request()(
        before in prop::collection::vec(("x[a-z]{1,4}", member()), 0..3),
        messages in prop::collection::vec(message(), 0..4),
        after in prop::collection::vec(("y[a-z]{1,4}", member()), 0..3),
        budget in prop::option::of(1u64..12),
        constraint in prop_oneof![
            4 => Just(None),
            1 => Just(Some(r#""response_format":{"type":"json_object"}"#)),
            1 => Just(Some(r#""regex":"a+""#)),
        ],
    ) -> String {
        let named = |(name, json): (String, String)| format!("\"{name}\" : {json}");
        let mut members: Vec<String> = before.into_iter().map(named).collect();
        members.push(format!(r#""messages": [{}]"#, messages.join(" ,\n")));
        members.extend(after.into_iter().map(named));
        members.extend(budget.map(|n| format!(r#""max_tokens":{n}"#)));
        members.extend(constraint.map(str::to_owned));
        format!("{{ {} }}\n", members.join(" , "))
    }
}

prop_compose! {
    fn any_case()(
        body in request(),
        flavour in prop::sample::select(Flavour::ALL),
        (content, reasoning) in ("[a-z \n]{0,6}", "[a-z \n]{0,6}"),
        (content_out, reasoning_out) in (0usize..7, 0usize..7),
        tokens in 0u64..8,
        fault in prop::sample::select(vec![
            None, Some(Channel::Content), Some(Channel::Reasoning), Some(Channel::ToolArguments(1)),
        ]),
        corrected in any::<bool>(),
        placement in prop_oneof![Just(Placement::UserTail), Just(Placement::SystemTurn)],
    ) -> Case {
        let beginning = |text: &str, to: usize| text[..to.min(text.len())].to_owned();
        Case {
            dialect: Dialect::Chat,
            body,
            capabilities: flavour.0.into(),
            released: Draft {
                content: beginning(&content, content_out),
                reasoning: beginning(&reasoning, reasoning_out),
                tokens,
                thoughts: 0,
            },
            sound: Draft {
                content,
                reasoning,
                tokens,
                thoughts: 0,
            },
            call_released: false,
            fault,
            correction: corrected.then(|| CORRECTION.to_owned()),
            placement,
        }
    }
}

/// The top level of a body without the members that a plan may change, and its messages.
fn taken_apart(body: &str) -> (String, Vec<String>) {
    let mut members = Members::read(body.as_bytes()).unwrap();
    let messages: Vec<Box<RawValue>> = members.read_as("messages").unwrap();
    for changed in [
        "messages",
        "max_tokens",
        "continue_final_message",
        "add_generation_prompt",
        "chat_template_kwargs",
        "reasoning_effort",
    ] {
        members.remove(changed);
    }
    let messages = messages.iter().map(|raw| raw.get().to_owned()).collect();
    (members.to_json(), messages)
}

fn role(message: &str) -> String {
    serde_json::from_str::<Value>(message).unwrap()["role"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// How often the text stands in the strings of a value.
fn count(value: &Value, text: &str) -> usize {
    match value {
        Value::String(string) => string.matches(text).count(),
        Value::Array(items) => items.iter().map(|item| count(item, text)).sum(),
        Value::Object(members) => members.values().map(|item| count(item, text)).sum(),
        _ => 0,
    }
}

/// Text of a message, whatever its shape.
fn text(message: &str) -> String {
    let message: Value = serde_json::from_str(message).unwrap();
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

proptest! {
    #[test]
    fn a_redo_without_a_correction_is_the_same_request(case in any_case()) {
        let case = Case { correction: None, fault: None, ..case };
        if let Ok(ask) = case.ask() && ask.plan == Plan::Redo {
            prop_assert_eq!(ask.body, case.body.as_bytes());
        }
    }

    #[test]
    fn a_resume_differs_in_its_prefill_its_flags_and_its_budget(case in any_case()) {
        let case = Case { correction: None, ..case };
        let Ok(ask) = case.ask() else { return Ok(()) };
        if ask.plan != Plan::Resume { return Ok(()) }
        let (was, mut before) = taken_apart(&case.body);
        let (is, mut after) = taken_apart(&case.body());
        prop_assert_eq!(was, is);
        let continues = matches!(case.capabilities.prefill, Prefill::Trailing | Prefill::No)
            || case.capabilities.flavour == Flavour::LlamaServer
            || case.body.contains("continue_final_message");
        let own = before.pop_if(|last| continues && role(last) == "assistant").map(|last| text(&last)).unwrap_or_default();
        let prefill = after.pop().unwrap();
        prop_assert_eq!(before, after);
        prop_assert_eq!(role(&prefill), "assistant");
        // With what was trimmed it is the sound text, behind what the client itself began.
        let said = Some(text(&prefill)).filter(|text| text != "\n" || !own.is_empty()).unwrap_or_default();
        let begun = said + &ask.joint.spaced;
        let echoed = case.capabilities.echoes && case.sound.content.trim_end().starts_with(&own);
        let whole = if echoed && !case.sound.content.trim().is_empty() { String::new() } else { own } + &case.sound.content;
        prop_assert_eq!(begun, whole);
        let budget = |body: &str| serde_json::from_str::<Value>(body).unwrap()["max_tokens"].as_u64();
        prop_assert_eq!(budget(&case.body()), budget(&case.body).map(|n| n - case.sound.tokens));
    }

    #[test]
    fn whatever_the_plan_nothing_of_the_client_is_lost(case in any_case()) {
        let Ok(ask) = case.ask() else { return Ok(()) };
        let (was, before) = taken_apart(&case.body);
        let (is, after) = taken_apart(&case.body());
        prop_assert_eq!(was, is);
        // The client's messages come in their order, each as it was or with text at its end.
        let mut rest = after.iter();
        for message in &before {
            let begins = |other: &&String| {
                *other == message
                    || role(other) == role(message) && text(other).starts_with(&text(message))
            };
            prop_assert!(rest.any(|other| begins(&other)), "{} in {:?}", message, after);
        }
        prop_assert!(after.len() <= before.len() + 2);
        let times = count(&case.json(), CORRECTION);
        prop_assert_eq!(times, usize::from(case.correction.is_some()));
        prop_assert_eq!(ask.keeps_sound, ask.plan != Plan::Redo);
    }

    #[test]
    fn text_that_is_out_is_never_redone_and_a_grammar_never_begun_twice(case in any_case()) {
        let Ok(ask) = case.ask() else { return Ok(()) };
        let text_is_out = !case.released.content.trim().is_empty();
        prop_assert!(!(text_is_out && ask.plan == Plan::Redo));
        if case.body.contains(r#""regex":"a+""#) {
            prop_assert_eq!(ask.plan, Plan::Redo);
        }
        if ask.plan == Plan::Redo {
            prop_assert_eq!(ask.joint.spaced, case.released.content);
        }
    }
}
