//! What the users of real client libraries see through Aegis: of a real server, and of answers that were corrected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::process::Aegis;
use aegis_integration_tests::scripted::Upstream;
use real::body::{greedy, rambling, tool_call, with};
use real::suite::{self, CASES, Case, Client, Line, Story, THOUGHT, Wants};
use real::{Llama, Tools, free_port};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use tokio::task::JoinHandle;

const SLOTS: &[&str] = &["-np", "2", "-c", "65536"];
const NO_LOOP_RULE: &str = "[rules.token_loop]\nenabled = false\n";
const FLAVOUR: &str = "[upstream]\nflavour = \"llama-server\"\n";
/// Who waits for a server that does not come back is told so soon.
const SHORT_WAIT: &str = "[corrections]\nresume_wait_s = 0.2\n";
const NO_CORRECTIONS: &str = "[corrections]\ncorrections_max = 0\n";

/// The clients, each in its styles and versions, by name.
fn clients(tools: &Tools) -> Vec<(&'static str, Command)> {
    vec![
        ("python", tools.python_client("sync")),
        ("python async", tools.python_client("async")),
        ("node 6", tools.node_client("openai")),
        ("node 7", tools.node_client("openai-current")),
    ]
}

/// Runs a client with this request, and gives the line that it prints.
fn run(name: &'static str, mut client: Command, url: &str, request: &Value) -> JoinHandle<Value> {
    client.arg(format!("{url}/v1")).arg(request.to_string());
    // A proxy of the environment is not part of the test.
    client.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
    tokio::task::spawn_blocking(move || {
        let output = client.output().unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let seen = serde_json::from_str(&text);
        seen.unwrap_or_else(|e| {
            panic!(
                "{name}: {e}: {text:?}\n{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    })
}

/// The error is an `APIError` with this code as its own attribute.
fn api_error<'s>(name: &str, seen: &'s Value, code: &str) -> &'s Value {
    let error = &seen["error"];
    let kinds = error["kinds"]
        .as_array()
        .unwrap_or_else(|| panic!("{name} raised nothing: {seen}"));
    assert!(kinds.iter().any(|kind| kind == "APIError"), "{name}: {seen}");
    assert_eq!(error["code"], code, "{name}: {seen}");
    assert_eq!(error["type"], "aegis_error", "{name}: {seen}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.len() > 20 && error["body"]["message"].is_string(),
        "{name}: {seen}"
    );
    error
}

#[tokio::test]
async fn answers_arrive_as_ever() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, SLOTS).await;
    let mut aegis = Aegis::in_front_of(&llama.url(), "").await;
    let whole = with(greedy(20), json!({"stream": false}));
    for (index, (name, stream)) in clients(&tools).into_iter().enumerate() {
        let again = || clients(&tools).swap_remove(index).1;
        let streamed = run(name, stream, &aegis.url(), &greedy(20)).await.unwrap();
        let plain = run(name, again(), &aegis.url(), &whole).await.unwrap();
        let tool = run(name, again(), &aegis.url(), &tool_call()).await.unwrap();
        for seen in [&streamed, &plain, &tool] {
            assert!(seen["error"].is_null(), "{name}: {seen}");
        }
        assert_eq!(
            (&streamed["finish"], &streamed["text"]),
            (&json!("length"), &plain["text"]),
            "{name}: {streamed}"
        );
        assert!(streamed["chunks"].as_u64() > Some(20), "{name}: {streamed}");
        assert_eq!(
            (&tool["finish"], &tool["tools"]["0"]["name"]),
            (&json!("tool_calls"), &json!("get_weather")),
            "{tool}"
        );
        let arguments: Value =
            serde_json::from_str(tool["tools"]["0"]["arguments"].as_str().unwrap()).unwrap();
        assert!(
            arguments["city"].is_string() && arguments["unit"].is_string(),
            "{name}: {tool}"
        );
    }
    assert_eq!(aegis.ended_incidents().await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_loop_raises_an_error_with_its_code() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, SLOTS).await;
    let mut aegis = Aegis::in_front_of(&llama.url(), NO_CORRECTIONS).await;
    for (name, client) in clients(&tools) {
        let seen = run(name, client, &aegis.url(), &greedy(20_000)).await.unwrap();
        api_error(name, &seen, "A201_token_loop");
        assert!(
            seen["finish"].is_null() && seen["chunks"].as_u64() > Some(10),
            "{name}: {seen}"
        );
    }
    let incidents = aegis.ended_incidents().await;
    assert_eq!(incidents.len(), 4, "one for each client: {incidents:#?}");
}

#[tokio::test]
async fn a_killed_server_raises_an_error_with_its_code() {
    let Some(tools) = Tools::find() else { return };
    for (name, client) in clients(&tools) {
        let mut llama = Llama::start(&tools, SLOTS).await;
        let aegis = Aegis::in_front_of(&llama.url(), &format!("{NO_LOOP_RULE}{SHORT_WAIT}")).await;
        let client = run(name, client, &aegis.url(), &rambling(30_000));
        llama.wait_decoded(200).await;
        llama.kill();
        let seen = client.await.unwrap();
        api_error(name, &seen, "A204_upstream_lost");
        assert!(
            seen["finish"].is_null() && seen["chunks"].as_u64() > Some(1),
            "{name}: {seen}"
        );
    }
}

#[tokio::test]
async fn an_absent_server_raises_an_error_with_its_code() {
    let Some(tools) = Tools::find() else { return };
    let aegis = Aegis::in_front_of(&format!("http://127.0.0.1:{}", free_port()), "").await;
    for (name, client) in clients(&tools) {
        let seen = run(name, client, &aegis.url(), &greedy(5)).await.unwrap();
        let error = api_error(name, &seen, "A601_upstream_connect");
        assert_eq!(error["status"], 502, "{name}: {seen}");
        assert!(
            error["kinds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| kind == "InternalServerError"),
            "{name}: {seen}"
        );
    }
}

/// What the upstream was asked for one client in one case.
fn asked(upstream: &Upstream, client: &str, case: Case) -> Vec<Value> {
    let path = format!("/{client}/{}/v1/chat/completions", case.name());
    let seen = upstream.seen();
    let own = seen.iter().filter(|seen| seen.target == path);
    own.map(|seen| serde_json::from_slice(&seen.body).unwrap())
        .collect()
}

/// The whole text that a client has to see: what the second request repeats of the draft, because it is to be kept, and
/// the second answer.
#[track_caller]
fn expected_text(story: &Story, requests: &[Value]) -> String {
    let Story { sound, fault, rest } = story;
    let draft = format!("{sound}{fault}");
    let Some(second) = requests.get(1) else {
        return draft;
    };
    let last = second["messages"].as_array().and_then(|all| all.last()).unwrap();
    let kept = last["content"]
        .as_str()
        .filter(|_| last["role"] == "assistant")
        .unwrap_or_default();
    assert!(
        draft.starts_with(kept) && kept.starts_with(sound),
        "{kept:?} is not the sound start of {draft:?}"
    );
    format!("{kept}{rest}")
}

/// One ordinary answer: the right text, once, with one id, one finish, as many usages as the upstream itself gives, and
/// nothing beside it.
#[track_caller]
fn check_line(wants: Wants, case: Case, line: &Line, direct: &Line, requests: &[Value]) {
    let name = format!(
        "{} {}, {}: {line:?}\n{requests:#?}",
        line.client,
        line.version,
        case.name()
    );
    assert_eq!(requests.len(), case.requests(), "{name}");
    assert!(
        !format!("{line:?}").contains("first attempt"),
        "a correction shows: {name}"
    );
    if case == Case::Cut {
        let error = line
            .error
            .as_ref()
            .unwrap_or_else(|| panic!("nothing was raised: {name}"));
        assert!(
            line.finishes.iter().all(|finish| finish == "error"),
            "it looks whole: {name}"
        );
        let code = match wants {
            Wants::Text => "A201_token_loop",
            Wants::Object => "A101_broken_json",
        };
        assert_eq!(error.code.as_deref(), Some(code), "{name}");
        return;
    }
    assert_eq!(line.error, None, "{name}");
    // instructor gives objects: ids and finishes are not to be seen while they stream.
    if wants == Wants::Text || case == Case::WholeCorrected {
        let finish = if case == Case::ToolCorrected {
            "tool_calls"
        } else {
            "stop"
        };
        assert_eq!(
            (line.finishes.as_slice(), line.ids),
            ([finish.to_owned()].as_slice(), 1),
            "{name}"
        );
    }
    // Some clients show the usage of a whole answer, and none of a stream.
    let own = case != Case::WholeCorrected;
    assert!(
        line.usages <= 1 && (!own || line.usages == direct.usages),
        "{name}"
    );
    assert!(
        case == Case::WholeCorrected || case == Case::ToolCorrected || line.chunks > 5,
        "{name}"
    );
    let story = wants.story(case);
    match (wants, case) {
        (Wants::Object, _) => {
            let object = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(object(&line.text), object(suite::OBJECT), "{name}");
        }
        (Wants::Text, Case::ToolCorrected) => {
            let arguments: Value = serde_json::from_str(story.rest).unwrap();
            assert_eq!(
                line.tool_calls,
                [json!({"name": "get_weather", "arguments": arguments})],
                "{name}"
            );
        }
        (Wants::Text, _) => {
            assert_eq!(line.text, expected_text(&story, requests), "{name}");
            // LangChain has no place for the reasoning of other servers than OpenAI's.
            let thought = if line.client == "LangChain" { "" } else { THOUGHT };
            assert_eq!(line.reasoning, thought, "{name}");
        }
    }
}

/// Gives the upstream its scripts and runs a client, first with the upstream itself and then through all cases.
async fn tell(client: Client, upstream: &Upstream, base: impl Fn(Case) -> String) -> Vec<Line> {
    for case in CASES {
        for script in client.wants.scripts(*case) {
            upstream.script(&format!("{}/chat/completions", client.path(*case)), script);
        }
    }
    let direct = (Case::Plain, upstream.url());
    let through = CASES.iter().map(|case| (*case, base(*case)));
    let asked: Vec<_> = [direct].into_iter().chain(through).collect();
    client.run(&asked).await.unwrap()
}

#[tokio::test]
async fn every_client_sees_one_ordinary_answer() {
    let Some(tools) = Tools::find() else { return };
    let upstream = Upstream::start().await;
    let mut correcting = Aegis::in_front_of(&upstream.url(), FLAVOUR).await;
    let mut cutting = Aegis::in_front_of(&upstream.url(), &format!("{FLAVOUR}{NO_CORRECTIONS}")).await;
    let mut rows = Vec::new();
    for client in suite::clients(&tools) {
        let (slug, wants) = (client.slug, client.wants);
        let base = |case| [&correcting, &cutting][usize::from(case == Case::Cut)].url();
        let mut lines = tell(client, &upstream, base).await;
        let direct = lines.remove(0);
        rows.push((slug, wants, direct, lines));
    }
    let lines: Vec<_> = rows.iter().map(|(.., lines)| lines.clone()).collect();
    println!("{}", suite::table(&lines));
    assert!(correcting.is_running() && cutting.is_running());
    for (slug, wants, direct, lines) in &rows {
        assert_eq!(lines.len(), CASES.len(), "{slug}: {lines:?}");
        assert_eq!(direct, &lines[0], "a plain answer is that of the upstream itself");
        for (case, line) in CASES.iter().zip(lines) {
            let requests = asked(&upstream, slug, *case);
            // The first plain one went to the upstream itself.
            let through = &requests[usize::from(*case == Case::Plain)..];
            check_line(*wants, *case, line, direct, through);
        }
    }
    let corrected = CASES.iter().filter(|case| case.requests() == 2).count() * rows.len();
    assert_eq!(correcting.ended_incidents().await.len(), corrected);
    assert_eq!(cutting.ended_incidents().await.len(), rows.len());
}

#[tokio::test]
async fn kill_nine_openai_python() {
    let Some(tools) = Tools::find() else { return };
    let mut llama = Llama::start(&tools, SLOTS).await;
    let more = format!("{NO_LOOP_RULE}{FLAVOUR}");
    let mut aegis = Aegis::in_front_of(&llama.url(), &more).await;
    let body = greedy(3000);
    let client = || tools.python_client("sync");
    let direct = run("direct", client(), &llama.url(), &body).await.unwrap();
    let through = run("through Aegis", client(), &aegis.url(), &body);
    llama.wait_decoded(400).await;
    llama.kill();
    let llama = Llama::start_at(&tools, llama.addr().port(), SLOTS).await;
    let seen = through.await.unwrap();
    assert!(seen["error"].is_null(), "{seen}");
    let ids = seen["ids"].as_array().unwrap().len();
    assert_eq!(
        (&seen["finish"], &seen["finishes"], ids),
        (&direct["finish"], &json!(1), 1),
        "{seen}"
    );
    assert_eq!(seen["text"], direct["text"]);
    assert_eq!(seen["chunks"], direct["chunks"]);
    let incidents = aegis.ended_incidents().await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["code"], "A204_upstream_lost", "{incidents:#?}");
    let waited = &incidents[0]["correction"]["waited_ms"];
    eprintln!("{} chunks; the client waited {waited} ms", seen["chunks"]);
    llama.wait_idle().await;
}
