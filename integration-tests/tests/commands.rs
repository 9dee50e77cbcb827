//! The commands beside `serve`: what they print, and how they exit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::events;
use aegis_integration_tests::process::{Folder, run};
use aegis_integration_tests::script::{Op, Script, Step};
use serde_json::{Value, json};

const LOOP: &str = "The same sentence again and again, it never ends. ";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The body that a script makes.
fn body(script: &Script) -> Vec<u8> {
    script
        .render()
        .iter()
        .flat_map(|op| {
            if let Op::Write(bytes) = op {
                bytes.to_vec()
            } else {
                Vec::new()
            }
        })
        .collect()
}

fn stream(content: &str, times: usize, finish: &str) -> Script {
    Script::stream(vec![
        Step::Role { choice: 0 },
        Step::Text {
            text: content.to_owned(),
            channel: "content".to_owned(),
            piece: 4,
            times,
            choice: 0,
            gap_ms: 0,
        },
        Step::Finish {
            reason: finish.to_owned(),
            choice: 0,
        },
        Step::Done,
    ])
}

#[test]
fn check_accepts_a_sound_config() {
    let folder = Folder::new();
    let config = folder.file(
        "proxy.toml",
        "listen = \"127.0.0.1:8181\"\n[upstream]\nurl = \"http://127.0.0.1:8080\"\n[policy]\nmode = \"shadow\"\n\
         [rules.forbidden_phrase]\nliterals = [\"swordfish\"]\npatterns = [\"sk-[a-z]+\"]\n[rules.stall]\nafter_s = 2.5\n",
    );
    let output = run(&["check", &config.display().to_string()], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn check_reports_every_error_at_once_with_path_value_and_remedy() {
    let folder = Folder::new();
    let config = folder.file(
        "proxy.toml",
        "listen = \"nowhere\"\nlisen = 1\n[upstream]\nurl = \"ftp://x\"\n[policy]\nmode = \"enforced\"\non_failure = 3\n\
         [limits]\nframe_bytes_max = -5\n[rules.token_lop]\nenabled = true\n[rules.token_loop]\naction = \"cutt\"\n\
         [rules.forbidden_phrase]\npatterns = [\"(unclosed\"]\n[rules.stall]\nafter_s = \"soon\"\n",
    );
    let output = run(&["check", &config.display().to_string()], b"");
    let errors = text(&output.stderr);
    println!("{errors}");
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for (path, value) in [
        ("listen", "nowhere"),
        ("lisen", ""),
        ("upstream.url", "ftp"),
        ("policy.mode", "enforced"),
        ("policy.on_failure", "3"),
        ("limits.frame_bytes_max", "-5"),
        ("token_lop", ""),
        ("rules.token_loop.action", "cutt"),
        ("rules.forbidden_phrase.patterns", "(unclosed"),
        ("rules.stall.after_s", "soon"),
    ] {
        assert!(errors.contains(path), "{path} is not named in:\n{errors}");
        assert!(errors.contains(value), "{value:?} is not quoted in:\n{errors}");
    }
    for remedy in ["shadow", "token_loop", "listen"] {
        assert!(errors.contains(remedy), "nothing leads to {remedy:?}:\n{errors}");
    }
    assert!(output.stdout.is_empty(), "errors belong on stderr");
}

#[test]
fn check_names_a_file_that_is_missing_or_not_toml() {
    let folder = Folder::new();
    let missing = folder.path().join("none.toml").display().to_string();
    let output = run(&["check", &missing], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("none.toml"),
        "{}",
        text(&output.stderr)
    );
    let broken = folder
        .file("broken.toml", "[policy\nmode = 1")
        .display()
        .to_string();
    let output = run(&["check", &broken], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("line 1"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn serve_refuses_a_bad_config_instead_of_guessing() {
    let folder = Folder::new();
    let config = folder
        .file("proxy.toml", "[policy]\nmode = \"enforced\"\n")
        .display()
        .to_string();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--config", &config], b"");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("policy.mode"),
        "{}",
        text(&output.stderr)
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn replay_gives_what_a_client_would_have_got() {
    let folder = Folder::new();
    let sound = body(&stream(
        "Quiet rivers carry the morning light past old stone walls.",
        1,
        "stop",
    ));
    let file = folder.file("sound.sse", &sound).display().to_string();
    let output = run(&["replay", &file], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        output.stdout == sound,
        "a sound stream changed:\n{}",
        text(&output.stdout)
    );

    let looping = body(&stream(LOOP, 60, "length"));
    let file = folder.file("loop.sse", &looping).display().to_string();
    let output = run(&["replay", &file], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let reading = events::read(&output.stdout);
    assert_eq!(reading.errors[0]["code"], "A201_token_loop");
    assert!(reading.lane("content").len() < 600);
    let incident = text(&output.stderr)
        .lines()
        .find_map(|l| serde_json::from_str::<Value>(l).ok())
        .expect("an incident as JSON");
    assert_eq!(
        (&incident["code"], &incident["lane"]),
        (&json!("A201_token_loop"), &json!("content"))
    );
}

#[test]
fn replay_reads_the_request_and_the_config() {
    let folder = Folder::new();
    let file = folder
        .file("s.sse", body(&stream("{\"a\": swordfish", 1, "stop")))
        .display()
        .to_string();
    let request = folder
        .file(
            "r.json",
            r#"{"stream":true,"response_format":{"type":"json_object"}}"#,
        )
        .display()
        .to_string();
    let output = run(&["replay", &file, "--request", &request], b"");
    assert_eq!(events::read(&output.stdout).errors[0]["code"], "A101_broken_json");
    let config = folder
        .file("p.toml", "[rules.forbidden_phrase]\nliterals = [\"swordfish\"]\n")
        .display()
        .to_string();
    let output = run(&["replay", &file, "--config", &config], b"");
    assert_eq!(
        events::read(&output.stdout).errors[0]["code"],
        "A403_forbidden_phrase"
    );
    let output = run(&["replay", "/nowhere/at/all.sse"], b"");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("all.sse"));
}

#[test]
fn scan_keeps_the_order_and_does_not_depend_on_chunks() {
    let json_request = json!({"response_format": {"type": "json_object"}});
    let lines = [
        json!({"id": 1, "content": "Quiet rivers carry the morning light.", "finish_reason": "stop"}),
        json!({"id": 2, "content": LOOP.repeat(40), "finish_reason": "length"}),
        json!({"id": 3, "request": json_request, "content": "{\"a\": nope}", "finish_reason": "stop"}),
        json!({"id": 4, "request": json_request, "content": "{\"a\": \"half", "finish_reason": "length"}),
        json!({"id": 5, "reasoning": LOOP.repeat(40), "content": "ok", "finish_reason": "stop"}),
        json!({"id": 6, "tool_calls": [{"name": "f", "arguments": format!("{{\"text\": \"{}\"}}", LOOP.repeat(40))}], "finish_reason": "tool_calls"}),
        json!({"id": "seven", "content": "日本語の文章。", "finish_reason": "stop"}),
    ];
    let input: String = lines.iter().map(|l| format!("{l}\n")).collect();
    let outputs: Vec<Vec<u8>> = ["1", "3", "7", "64", "1000000"]
        .iter()
        .map(|chunk| {
            let output = run(&["scan", "--chunk", chunk], input.as_bytes());
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            output.stdout
        })
        .collect();
    for other in &outputs[1..] {
        assert_eq!(text(other), text(&outputs[0]), "chunk sizes must not matter");
    }
    let verdicts: Vec<Value> = text(&outputs[0])
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let ids: Vec<&Value> = verdicts.iter().map(|v| &v["id"]).collect();
    assert_eq!(
        ids,
        [
            &json!(1),
            &json!(2),
            &json!(3),
            &json!(4),
            &json!(5),
            &json!(6),
            &json!("seven")
        ]
    );
    let codes: Vec<&Value> = verdicts.iter().map(|v| &v["findings"][0]["code"]).collect();
    let expected = json!([
        null,
        "A201_token_loop",
        "A101_broken_json",
        "A103_truncated_json",
        "A201_token_loop",
        "A201_token_loop",
        null
    ]);
    assert_eq!(json!(codes), expected);
    for verdict in &verdicts {
        let clear = verdict["findings"].as_array().unwrap().is_empty();
        assert_eq!(verdict["decision"] == "pass", clear, "{verdict}");
        assert_eq!(verdict["decided_at"].is_null(), clear, "{verdict}");
    }
    // A loop is certain long before the text is over.
    assert!(
        verdicts[1]["decided_at"].as_u64().unwrap() < 600,
        "{}",
        verdicts[1]
    );
}

#[test]
fn scan_names_a_line_it_cannot_read() {
    let output = run(&["scan"], b"{\"id\":1,\"content\":\"a\"}\n{\"id\":2,\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("line 2"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn demo_once_ends_well() {
    let output = run(&["demo", "--once"], b"");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let shown = text(&output.stdout) + &text(&output.stderr);
    for code in ["A201_token_loop", "A204_upstream_lost"] {
        assert!(shown.contains(code), "the tour shows no {code}:\n{shown}");
    }
}

#[test]
fn help_and_version_tell() {
    let output = run(&["--version"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).starts_with("aegis "),
        "{}",
        text(&output.stdout)
    );
    let help = text(&run(&["--help"], b"").stdout);
    for command in ["serve", "check", "replay", "scan", "demo"] {
        assert!(help.contains(command), "{help}");
    }
    assert_eq!(run(&["no-such-command"], b"").status.code(), Some(2));
}
