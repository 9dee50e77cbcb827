//! How the next answer joins what the client has.

use super::*;
use crate::limits::OVERLAP_BYTES_MAX;

#[test]
fn reasoning_that_comes_again_is_not_shown_twice() {
    let joint = |case: Case| case.joint().reasoning;
    assert_eq!(joint(chat().held("", "Hm")), Shown::New);
    assert_eq!(joint(chat().out("", "Hm")), Shown::Same("Hm".into()));
    let faulty = |case: Case| case.flavour(Flavour::Vllm).fault(Channel::Reasoning);
    assert_eq!(joint(faulty(chat().out("", "Hm"))), Shown::Dropped);
    assert_eq!(joint(faulty(chat().held("", "Hm"))), Shown::New);
    assert_eq!(joint(chat().out("Yes", "")), Shown::New);
    assert_eq!(joint(chat().out("Yes", "Hm")), Shown::Dropped);
    assert_eq!(
        joint(chat().out("Yes", "Hm").flavour(Flavour::None)),
        Shown::Dropped
    );
}

#[test]
fn the_prompt_ends_before_white_space_and_the_joint_knows_it() {
    for flavour in [Flavour::LlamaServer, Flavour::None] {
        let case = chat().out("Yes:\u{a0} \n", "Hm \n").flavour(flavour);
        assert_eq!(case.json()["messages"][1]["content"], "Yes:");
        assert_eq!(case.joint().spaced, "\u{a0} \n");
    }
    assert_eq!(
        chat().out("Yes \n", "Hm \n").json()["messages"][1]["reasoning_content"],
        "Hm"
    );
    assert_eq!(chat().out("Yes", "").joint().spaced, "");
    // White space alone is no text to go on from, but the client has it.
    let blank = chat().out("\n\n", "");
    assert_eq!(
        (blank.plan(), blank.joint().spaced.as_str()),
        (Ok(Plan::Redo), "\n\n")
    );
    assert_eq!(chat().held("\n\n", "").joint().spaced, "");
    let prompt = legacy().out("a time \n", "");
    assert_eq!(prompt.json()["prompt"], "Once \u{fc}pona time");
    assert_eq!(prompt.joint().spaced, " \n");
}

#[test]
fn what_an_upstream_may_say_again_is_known() {
    let echo = |flavour: Flavour| chat().out("Yes, ", "").flavour(flavour).joint().echo;
    for flavour in [Flavour::LmStudio, Flavour::Ollama, Flavour::Tabbyapi] {
        assert_eq!(echo(flavour).as_deref(), Some("Yes,"), "{flavour:?}");
    }
    assert_eq!(echo(Flavour::LlamaServer), None);
    let asked = chat().out("Yes", "").with(r#""echo":true"#);
    assert_eq!(asked.joint().echo.as_deref(), Some("Yes"));
    let long = "ß".repeat(OVERLAP_BYTES_MAX);
    let appended = chat()
        .out(&format!("{long}. "), "")
        .flavour(Flavour::None)
        .joint();
    let tail = format!("{}.", "ß".repeat(OVERLAP_BYTES_MAX / 2 - 1));
    assert_eq!(appended.overlap, Some(tail));
    assert_eq!(appended.echo, Some(format!("{long}.")));
}

#[test]
fn behind_a_closed_thought_an_echo_is_what_the_client_asked_for() {
    let own = r#"[{"role":"assistant","content":"It "}]"#;
    let case = chat().messages(own).with(r#""echo":true"#).out("", "Hm");
    let case = case.fault(Channel::Reasoning);
    let message = json!({"role": "assistant", "content": "It ", "reasoning_content": "Hm"});
    assert_eq!(case.json()["messages"], json!([message]));
    assert_eq!(case.joint().echo, None);
}
