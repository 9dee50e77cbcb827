//! Whole bodies, as the upstream gets them.

use super::*;

/// What clients send beside the messages.
const MEMBERS: &str = r#""model":"m", "seed":18446744073709551616,"top_p":0.90,"tools":[{"type":"function","function":{"name":"f"}}],"x_\u0061":{"b" : [1, 2]},"stream":true,"max_tokens":20"#;

fn full() -> Case {
    chat()
        .messages(r#"[{"role":"system","content":"Be \u0062rief."} , {"content":"Say \u0069t.","role":"user","name":"u"}]"#)
        .with(MEMBERS)
}

const SEEN: &str = r#"{"type":"image_url","image_url":{"url":"data:,"}}"#;

#[test]
fn redo() {
    let case = full().fault(Channel::Content);
    assert_eq!(case.body(), case.body);
    insta::assert_snapshot!(case.corrected().body(), @r#"{"messages":[{"role":"system","content":"Be \u0062rief."},{"content":"Say \u0069t.\n\n[Note: \"again\"]","role":"user","name":"u"}],"model":"m","seed":18446744073709551616,"top_p":0.90,"tools":[{"type":"function","function":{"name":"f"}}],"x_a":{"b" : [1, 2]},"stream":true,"max_tokens":20}"#);
}

#[test]
fn redo_with_a_system_turn() {
    let case = Case {
        placement: Placement::SystemTurn,
        ..full().fault(Channel::Content).corrected()
    };
    insta::assert_snapshot!(case.body(), @r#"{"messages":[{"role":"system","content":"Be \u0062rief."},{"content":"Say \u0069t.","role":"user","name":"u"},{"role":"system","content":"[Note: \"again\"]"}],"model":"m","seed":18446744073709551616,"top_p":0.90,"tools":[{"type":"function","function":{"name":"f"}}],"x_a":{"b" : [1, 2]},"stream":true,"max_tokens":20}"#);
}

#[test]
fn resume() {
    insta::assert_snapshot!(full().out("It \"is", "").body(), @r#"{"messages":[{"role":"system","content":"Be \u0062rief."},{"content":"Say \u0069t.","role":"user","name":"u"},{"role":"assistant","content":"It \"is"}],"model":"m","seed":18446744073709551616,"top_p":0.90,"tools":[{"type":"function","function":{"name":"f"}}],"x_a":{"b" : [1, 2]},"stream":true,"max_tokens":16,"continue_final_message":true,"add_generation_prompt":false}"#);
    insta::assert_snapshot!(full().out("It is", "Hm\n").fault(Channel::Content).corrected().body(), @r#"{"messages":[{"role":"system","content":"Be \u0062rief."},{"content":"Say \u0069t.\n\n[Note: \"again\"]","role":"user","name":"u"},{"role":"assistant","content":"It is","reasoning_content":"Hm"}],"model":"m","seed":18446744073709551616,"top_p":0.90,"tools":[{"type":"function","function":{"name":"f"}}],"x_a":{"b" : [1, 2]},"stream":true,"max_tokens":16,"continue_final_message":true,"add_generation_prompt":false}"#);
}

#[test]
fn resume_with_a_system_turn() {
    let case = Case {
        placement: Placement::SystemTurn,
        ..chat().out("It is", "").corrected()
    };
    insta::assert_snapshot!(case.body(), @r#"{"messages":[{"role":"user","content":"Say it."},{"role":"system","content":"[Note: \"again\"]"},{"role":"assistant","content":"It is"}],"continue_final_message":true,"add_generation_prompt":false}"#);
}

#[test]
fn resume_after_a_closed_thought() {
    insta::assert_snapshot!(chat().out("", "Hm\n").fault(Channel::Reasoning).corrected().body(), @r#"{"messages":[{"role":"user","content":"Say it.\n\n[Note: \"again\"]"},{"role":"assistant","content":"\n","reasoning_content":"Hm"}],"continue_final_message":true,"add_generation_prompt":false}"#);
}

#[test]
fn append() {
    let case = || {
        chat()
            .with(r#""continue_final_message":true,"add_generation_prompt":false"#)
            .flavour(Flavour::None)
    };
    insta::assert_snapshot!(case().out("It is ", "Hm").body(), @r#"{"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It is"},{"role":"user","content":"Your last message was broken off. Continue it exactly where it stopped: repeat nothing of it, comment on nothing, and begin with the very next character."}]}"#);
    insta::assert_snapshot!(case().out("It is ", "Hm").corrected().body(), @r#"{"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It is"},{"role":"user","content":"[Note: \"again\"]\n\nYour last message was broken off. Continue it exactly where it stopped: repeat nothing of it, comment on nothing, and begin with the very next character."}]}"#);
}

#[test]
fn flags_of_every_flavour() {
    let bodies: Vec<String> = Flavour::ALL
        .iter()
        .map(|(flavour, name)| format!("{name}: {}", chat().out("It", "").flavour(*flavour).body()))
        .collect();
    insta::assert_snapshot!(bodies.join("\n"), @r#"
llama-server: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}],"continue_final_message":true,"add_generation_prompt":false}
llama-server-old: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}],"chat_template_kwargs":{"enable_thinking":false}}
vllm: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}],"continue_final_message":true,"add_generation_prompt":false}
sglang: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}],"continue_final_message":true,"chat_template_kwargs":{"enable_thinking":false}}
ollama: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}]}
tabbyapi: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}],"continue_final_message":true,"add_generation_prompt":false}
lm-studio: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"}]}
none: {"messages":[{"role":"user","content":"Say it."},{"role":"assistant","content":"It"},{"role":"user","content":"Your last message was broken off. Continue it exactly where it stopped: repeat nothing of it, comment on nothing, and begin with the very next character."}]}
"#);
}

#[test]
fn a_redo_without_thinking() {
    let case = |flavour| {
        chat()
            .out("", "Hm")
            .fault(Channel::Reasoning)
            .flavour(flavour)
            .body()
    };
    insta::assert_snapshot!(case(Flavour::LlamaServerOld), @r#"{"messages":[{"role":"user","content":"Say it."}],"chat_template_kwargs":{"enable_thinking":false}}"#);
    insta::assert_snapshot!(case(Flavour::Ollama), @r#"{"messages":[{"role":"user","content":"Say it."}],"reasoning_effort":"none"}"#);
}

#[test]
fn content_in_parts() {
    let parts = format!(r#"[{{"role":"user","content":[{SEEN},{{"type":"text","text":"What?"}}]}}]"#);
    insta::assert_snapshot!(chat().messages(&parts).out("A", "").corrected().body(), @r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}},{"type":"text","text":"What?"},{"type":"text","text":"[Note: \"again\"]"}]},{"role":"assistant","content":"A"}],"continue_final_message":true,"add_generation_prompt":false}"#);
}

#[test]
fn a_client_that_prefills_itself() {
    let own = |content: &str| {
        chat().messages(&format!(
            r#"[{{"role":"user","content":"Say"}},{{"role":"assistant","content":{content}}}]"#
        ))
    };
    insta::assert_snapshot!(own("\"I\\u0074 \"").out("is ", "Hm").corrected().body(), @r#"{"messages":[{"role":"user","content":"Say\n\n[Note: \"again\"]"},{"role":"assistant","content":"I\u0074 is","reasoning_content":"Hm"}],"continue_final_message":true,"add_generation_prompt":false}"#);
    let parts = r#"[{"type":"text","text":"It"},{"text":" ","type":"text"}]"#;
    insta::assert_snapshot!(own(parts).out("is", "").body(), @r#"{"messages":[{"role":"user","content":"Say"},{"role":"assistant","content":[{"type":"text","text":"It"},{"text":" is","type":"text"}]}],"continue_final_message":true,"add_generation_prompt":false}"#);
    insta::assert_snapshot!(own("\"It \"").out("is", "").corrected().flavour(Flavour::None).body(), @r#"{"messages":[{"role":"user","content":"Say"},{"role":"assistant","content":"It is"},{"role":"user","content":"[Note: \"again\"]\n\nYour last message was broken off. Continue it exactly where it stopped: repeat nothing of it, comment on nothing, and begin with the very next character."}]}"#);
    let system = Case {
        placement: Placement::SystemTurn,
        ..own("\"It \"").corrected()
    };
    insta::assert_snapshot!(system.body(), @r#"{"messages":[{"role":"user","content":"Say"},{"role":"system","content":"[Note: \"again\"]"},{"role":"assistant","content":"It "}]}"#);

    assert_eq!(own("null").out("is", "").json()["messages"][1]["content"], "is");
    let other = format!("[{SEEN}]");
    for unclear in [
        "[]",
        "7",
        "{}",
        other.as_str(),
        r#"[{"type":"text"}]"#,
        r#"[{"type":"x","text":"It"}]"#,
    ] {
        assert_eq!(own(unclear).out("is", "").plan(), Err(Unreadable), "{unclear}");
        assert_eq!(own(unclear).plan(), Ok(Plan::Redo), "{unclear}");
    }
}

#[test]
fn what_the_upstream_said_again_of_the_clients_prefill_is_not_doubled() {
    let own = r#"[{"role":"assistant","content":"It "}]"#;
    let case = |content| chat().messages(own).out(content, "").flavour(Flavour::LmStudio);
    for echoed in ["It is", "is"] {
        assert_eq!(case(echoed).json()["messages"][0]["content"], "It is", "{echoed}");
        assert_eq!(case(echoed).joint().echo.as_deref(), Some("It is"), "{echoed}");
    }
    // A server that never echoes has really said it twice.
    let twice = case("It is").flavour(Flavour::LlamaServer);
    assert_eq!(twice.json()["messages"][0]["content"], "It It is");
}

#[test]
fn a_trailing_message_with_calls_is_not_continued() {
    let calls = |calls: &str| {
        chat()
            .messages(&format!(
                r#"[{{"role":"assistant","content":"Let me","tool_calls":{calls}}}]"#
            ))
            .out("see", "")
    };
    assert_eq!(calls(r#"[{"id":"c"}]"#).plan(), Err(Unreadable));
    assert_eq!(calls("{}").plan(), Err(Unreadable));
    assert_eq!(calls("[]").plan(), Ok(Plan::Resume));
    assert_eq!(calls("null").plan(), Ok(Plan::Resume));
}

#[test]
fn a_correction_finds_its_place() {
    let said = |messages: &str| chat().messages(messages).corrected().json()["messages"].clone();
    let note = json!({"role": "user", "content": NOTE});
    let system = json!({"role": "system", "content": "s"});
    let answer = json!({"role": "assistant", "content": "a"});
    assert_eq!(said("[]"), json!([note]));
    assert_eq!(said(&json!([system]).to_string()), json!([system, note]));
    assert_eq!(
        said(&json!([system, answer]).to_string()),
        json!([system, note, answer])
    );
    for empty in [r#""""#, "null"] {
        assert_eq!(
            said(&format!(r#"[{{"role":"user","content":{empty}}}]"#)),
            json!([note])
        );
    }
    let tool = json!({"role": "tool", "tool_call_id": "c", "content": "t"});
    let user = json!({"role": "user", "content": "u"});
    assert_eq!(
        said(&json!([user, user, answer, tool]).to_string()),
        json!([user, {"role": "user", "content": format!("u\n\n{NOTE}")}, answer, tool])
    );
    let unclear = chat().messages(r#"[{"role":"user","content":7}]"#);
    assert_eq!(unclear.corrected().plan(), Err(Unreadable));
    // An empty text is none.
    let empty = Case {
        correction: Some(String::new()),
        ..chat()
    };
    assert_eq!(empty.body(), empty.body);
}
