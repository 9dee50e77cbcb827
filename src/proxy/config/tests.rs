use super::*;
use aegis_core::decide::{Mode, OnFailure};
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
    assert_eq!((lost.severity, lost.action), (Severity::Critical, Action::Cut));
    assert_eq!(
        config.guard.rulebook.policy(Code::TokenLoop).action,
        Action::Correct
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
        [policy]
        mode = "shadow"
        on_failure = "closed"
        [limits]
        frame_bytes_max = 4096
        drain_s = 0.5
        [incidents]
        excerpts = false
        [rules.token_loop]
        severity = "critical"
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
    let book = &config.guard.rulebook;
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
        [policy]
        mode = "loud"
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
