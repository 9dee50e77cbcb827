use super::*;
use aegis_core::continuation::Placement;
use aegis_core::decide::{Fallback, Finding, Mode, OnFailure};
use aegis_core::error::Code;
use aegis_core::rule::{Action, Severity};

fn problems(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = Config::parse("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8181");
    assert_eq!(config.upstream.to_string(), "http://127.0.0.1:8080");
    let lost = config.guard.rulebook.policy(Code::UpstreamLost);
    assert_eq!((lost.severity, lost.action), (Severity::Minor, Action::Correct));
    let looped = config.guard.rulebook.policy(Code::TokenLoop);
    assert_eq!((looped.action, looped.chosen), (Action::Correct, false));
    assert_eq!(config.flavour, None);
    assert_eq!(
        config.guard.corrections,
        aegis_core::correction::Corrections::default()
    );
}

#[test]
fn the_shipped_file_is_the_default_config() {
    let text = include_str!("../../../proxy.toml");
    let (shipped, default) = (Config::parse(text).unwrap(), Config::parse("").unwrap());
    assert_eq!(
        format!("{:?}", shipped.guard.policy),
        format!("{:?}", default.guard.policy)
    );
    assert_eq!(shipped.flavour, default.flavour);
    assert_eq!(shipped.guard.corrections, default.guard.corrections);
    assert_eq!(shipped.hidden, default.hidden);
    assert_eq!(
        shipped.guard.rulebook.tool_arguments,
        default.guard.rulebook.tool_arguments
    );
    assert_eq!(format!("{:?}", shipped.bounds), format!("{:?}", default.bounds));
    assert_eq!(shipped.guard.limits, default.guard.limits);
    assert_eq!(shipped.guard.release, default.guard.release);
    assert_eq!(shipped.guard.rulebook.stall, default.guard.rulebook.stall);
    assert_eq!(shipped.listen, default.listen);
    for &code in Code::ALL {
        assert_eq!(
            shipped.guard.rulebook.policy(code),
            default.guard.rulebook.policy(code),
            "{code}"
        );
    }
}

#[test]
fn everything_can_be_set() {
    let config = Config::parse(
        r#"
        listen = "0.0.0.0:9000"
        workers = 1
        [upstream]
        url = "http://gpu:8080/llama"
        flavour = "llama-server-old"
        [policy]
        mode = "shadow"
        on_failure = "closed"
        [corrections]
        corrections_max = 0
        placement = "system_turn"
        on_exhausted = "note"
        on_not_injectable = "note"
        hidden_max = 3
        resume_wait_s = 0.5
        ping_s = 1
        streamed_upstream = false
        [corrections.texts]
        default = "{rule} {{}}"
        stall = "never said"
        [limits]
        frame_bytes_max = 4096
        hold_ms = 5
        drain_s = 0.5
        [incidents]
        excerpts = false
        [rules.token_loop]
        severity = "critical"
        [rules.tool_arguments]
        schema = false
        text_form = true
        heal_history = false
        [rules.stall]
        after_s = 1.5
        [rules.forbidden_phrase]
        literals = ["BEGIN PRIVATE KEY"]
        action = "note"
        "#,
    )
    .unwrap();
    assert_eq!(
        (config.guard.policy.mode, config.guard.policy.on_failure),
        (Mode::Shadow, OnFailure::Closed)
    );
    assert_eq!(config.guard.limits.frame_bytes_max, 4096);
    assert_eq!(config.bounds.drain, Duration::from_millis(500));
    assert_eq!(config.flavour, Some(Flavour::LlamaServerOld));
    let corrections = &config.guard.corrections;
    assert_eq!(
        (corrections.corrections_max, corrections.placement),
        (0, Placement::SystemTurn)
    );
    assert_eq!(
        (corrections.on_exhausted, corrections.on_not_injectable),
        (Fallback::Note, Fallback::Note)
    );
    let finding = Finding::bare(Code::ForbiddenPhrase, Severity::Minor, Action::Correct);
    let own = corrections.texts.correction(&finding);
    assert!(
        own.is_some_and(|text| text.starts_with("[Note:")),
        "a code's own text goes before"
    );
    let finding = Finding {
        code: Code::CorrectionsExhausted,
        ..finding
    };
    assert_eq!(
        corrections.texts.correction(&finding).as_deref(),
        Some("corrections_exhausted {}")
    );
    assert_eq!(
        config.hidden,
        HiddenSettings {
            hidden_max: 3,
            resume_wait: Duration::from_millis(500),
            ping: Duration::from_secs(1),
            streamed_upstream: false,
        }
    );
    assert_eq!(config.guard.limits.hold_ms, 5);
    let book = &config.guard.rulebook;
    let calls = &book.tool_arguments;
    assert_eq!(
        (calls.schema, calls.text_form, calls.heal_history),
        (false, true, false)
    );
    assert!(book.policy(Code::ForbiddenPhrase).chosen);
    assert_eq!(
        book.policy(Code::TokenLoop).action,
        Action::Cut,
        "critical is cut unless an action is set"
    );
    assert_eq!(book.policy(Code::ForbiddenPhrase).action, Action::Note);
    assert_eq!(book.stall.after, Duration::from_millis(1500));
    assert!(book.phrases.is_some());
    assert_eq!(book.excerpt_chars_max, 0);
}

#[test]
fn all_errors_come_at_once_with_path_value_and_remedy() {
    insta::assert_snapshot!(problems(
        r#"
        listen = "nowhere"
        lissten = 1
        [upstream]
        url = "https://x"
        flavour = "llama"
        [policy]
        mode = "loud"
        on_unavailable = "note"
        [corrections]
        corrections_max = 65
        on_exhausted = "repair"
        hidden_max = 0
        [corrections.texts]
        default = "avoid {who}"
        broken_json = " "
        stall = "a } b"
        token_lop = "x"
        [limits]
        streams_max = 0
        drain_s = -1
        [rules.token_lop]
        enabled = true
        [rules.stall]
        after = 3
        [rules.upstream_lost]
        action = "note"
        [rules.forbidden_phrase]
        literals = [""]
        "#
    ));
}

#[test]
fn text_that_is_not_toml_names_the_line() {
    assert!(problems("listen = = 3").contains("line 1"));
}

#[test]
fn answers_for_nobody_who_reads_along_are_held_whole() {
    let config =
        Config::parse("[limits]\nring_bytes_max = 2048\nanswer_bytes_max = 4096\nhold_ms = 1").unwrap();
    let whole = &config.guard_whole;
    let complete = ReleasePolicy {
        content: Release::Complete,
        reasoning: Release::Complete,
        tool_arguments: Release::Complete,
    };
    assert_eq!((whole.release, whole.limits.ring_bytes_max), (complete, 4096));
    assert_eq!(config.guard.release, ReleasePolicy::default());
    assert_eq!(config.guard.limits.hold_ms, 1);
    assert!(whole.limits.hold_ms > 1);
}
