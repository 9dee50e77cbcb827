//! Hidden corrections against a real llama-server: connections that break, a server that is killed, a poisoned history.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::client::Answer;
use aegis_integration_tests::events::{Reading, events};
use aegis_integration_tests::flaky::{Cuts, Flaky};
use aegis_integration_tests::process::Aegis;
use real::answer::{CHAT, ask, ask_meanwhile, cut_with, finished};
use real::body::{greedy, with};
use real::{Llama, Tools};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One slot: a request that is asked again meets the cache of the one that broke off.
const ONE_SLOT: &[&str] = &["-np", "1", "-c", "8192"];
const TWO_LONG_SLOTS: &[&str] = &["-np", "2", "-c", "65536"];

/// The small model repeats itself; that is not what is looked at here.
const NO_LOOP_RULE: &str = "[rules.token_loop]\nenabled = false\n";

const TOKENS: u32 = 64;
const EVERY: usize = 7;

/// Twenty requests with twenty different answers: each forbids the model a word, every other one to repeat itself.
fn prompts() -> Vec<Value> {
    let words = [
        "The",
        " the",
        " same",
        " work",
        " copy",
        " of",
        " Document",
        " program",
        " or",
        " and",
        " is",
        " not",
        " to",
        " be",
        " used",
        " that",
        " class",
        " first",
        " terms",
        "I",
    ];
    let prompts = words.iter().enumerate().map(|(number, word)| {
        let about = format!("Tell me about{word} and {number}.");
        let request = json!({
            "model": "tiny", "stream": true, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": true,
            "logit_bias": [[word, false]], "messages": [{"role": "user", "content": about}],
        });
        match number % 2 {
            0 => request,
            _ => with(request, json!({"repeat_penalty": 1.3, "repeat_last_n": 256})),
        }
    });
    prompts.collect()
}

/// The last `timings` of an answer.
fn timings(answer: &Answer) -> Value {
    let events = events(&answer.body).into_iter().rev();
    let mut found = events
        .filter_map(|event| serde_json::from_str::<Value>(&event.data).ok())
        .filter_map(|json| json.get("timings").cloned());
    found.next().unwrap_or_else(|| panic!("no timings: {answer}"))
}

/// An answer that came to its end, and looks as if one request had made it.
fn one_answer(answer: &Answer) -> Reading {
    let reading = finished(answer);
    assert_eq!(reading.roles, [0], "{answer}");
    for (name, values) in &reading.names {
        // llama-server stamps each chunk with its own time.
        assert!(values.len() == 1 || name == "created", "{name}: {values:?}");
    }
    assert_eq!(reading.after_done, 0);
    reading
}

fn text(answer: &Answer) -> String {
    finished(answer).lane("content").to_owned()
}

struct Direct {
    request: Value,
    text: String,
    prompt_tokens: u64,
}

/// The uninterrupted answers, of those requests that the server itself answers alike each time.
async fn direct(llama: &Llama) -> Vec<Direct> {
    let mut equal = Vec::new();
    let all = prompts();
    for request in &all {
        let first = ask(llama.addr(), CHAT, request).await;
        let second = ask(llama.addr(), CHAT, request).await;
        let took = timings(&first);
        let prompt_tokens = took["prompt_n"].as_u64().unwrap() + took["cache_n"].as_u64().unwrap();
        let (text, again) = (text(&first), text(&second));
        assert!(text.len() > 100, "{text:?}");
        if text == again {
            let request = request.clone();
            equal.push(Direct {
                request,
                text,
                prompt_tokens,
            });
        }
    }
    let mut texts: Vec<_> = equal.iter().map(|direct| &direct.text).collect();
    texts.sort();
    texts.dedup();
    let (of, distinct) = (all.len(), texts.len());
    eprintln!(
        "direct: {} of {of} prompts are answered alike twice; {distinct} different answers",
        equal.len()
    );
    // With fewer there would be little to compare.
    assert!(equal.len() >= 15 && distinct >= 10);
    equal
}

#[tokio::test]
async fn greedy_equivalence() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_SLOT).await;
    let direct = direct(&llama).await;
    let flaky = Flaky::in_front_of(llama.addr()).await;
    let config = format!("{NO_LOOP_RULE}[corrections]\ncorrections_max = 32\n");
    let aegis = Aegis::in_front_of(&flaky.url(), &config).await;
    for torn in [false, true] {
        broken_again_and_again(&aegis, &flaky, &direct, torn).await;
    }
    broken_once(&aegis, &flaky, &direct).await;
    let incidents = aegis.incidents();
    assert!(!incidents.is_empty());
    for incident in incidents {
        let correction = &incident["correction"];
        assert_eq!(
            (&incident["code"], &correction["plan"], &correction["outcome"]),
            (&json!("A204_upstream_lost"), &json!("resume"), &json!("joined")),
            "{incident:#}"
        );
    }
}

/// Every connection breaks after its 7th frame with text.
async fn broken_again_and_again(aegis: &Aegis, flaky: &Flaky, direct: &[Direct], torn: bool) {
    let (mut cuts, mut reused) = (0, Vec::new());
    for Direct {
        request,
        text,
        prompt_tokens,
    } in direct
    {
        flaky.cut(Cuts {
            after: EVERY,
            torn,
            most: usize::MAX,
        });
        let answer = ask(aegis.addr(), CHAT, request).await;
        assert_eq!(
            one_answer(&answer).lane("content"),
            text,
            "after {} cuts",
            flaky.made()
        );
        assert!(
            flaky.made() >= TOKENS as usize / EVERY - 1,
            "{} cuts",
            flaky.made()
        );
        cuts += flaky.made();
        let cache = timings(&answer)["cache_n"].as_u64().unwrap();
        assert!(
            cache > *prompt_tokens,
            "{cache} tokens of the cache, {prompt_tokens} of the prompt"
        );
        reused.push(cache - prompt_tokens);
    }
    reused.sort_unstable();
    eprintln!(
        "cut {} the 7th frame of each connection: {} answers, {cuts} cuts, all equal byte for byte; the last request of \
         each reused its prompt and {} (least) or {} (median) generated tokens",
        if torn { "inside the frame after" } else { "behind" },
        direct.len(),
        reused[0],
        reused[reused.len() / 2],
    );
}

/// One connection breaks, after the 7th, the 14th … frame.
async fn broken_once(aegis: &Aegis, flaky: &Flaky, direct: &[Direct]) {
    let mut runs = 0;
    for after in (EVERY..TOKENS as usize).step_by(EVERY) {
        for Direct { request, text, .. } in direct {
            flaky.cut(Cuts {
                after,
                torn: false,
                most: 1,
            });
            let answer = ask(aegis.addr(), CHAT, request).await;
            assert_eq!(
                one_answer(&answer).lane("content"),
                text,
                "cut behind frame {after}"
            );
            assert_eq!(flaky.made(), 1);
            runs += 1;
        }
    }
    eprintln!("one cut at each 7th token: {runs} answers, all equal byte for byte");
}

#[tokio::test]
async fn kill_nine_and_restart() {
    let Some(tools) = Tools::find() else { return };
    let mut llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let aegis = Aegis::in_front_of(&llama.url(), NO_LOOP_RULE).await;
    // Text that does not repeat itself: a round too much or too few would show.
    let request = with(greedy(4000), json!({"repeat_penalty": 1.3, "repeat_last_n": 256}));
    let uninterrupted = text(&ask(llama.addr(), CHAT, &request).await);

    let stream = ask_meanwhile(aegis.addr(), request);
    llama.wait_decoded(100).await;
    llama.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let restarted = Instant::now();
    let llama = Llama::start_at(&tools, llama.addr().port(), TWO_LONG_SLOTS).await;
    let ready = restarted.elapsed();
    let answer = stream.await.unwrap();
    let reading = one_answer(&answer);
    assert_eq!(reading.finishes, [(0, "length".to_owned())]);
    assert!(
        reading.lane("content") == uninterrupted,
        "the answer differs from the uninterrupted one"
    );

    let incidents = aegis.wait_incidents(1).await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    let correction = &incidents[0]["correction"];
    assert_eq!(
        (
            &incidents[0]["code"],
            &incidents[0]["decision"],
            &correction["outcome"]
        ),
        (&json!("A204_upstream_lost"), &json!("correct"), &json!("joined")),
        "{incidents:#?}"
    );
    let timings = timings(&answer);
    eprintln!(
        "killed after {} tokens, gone for 1 s, healthy {ready:?} after its start; the client waited {} ms and got {} \
         characters, equal to the uninterrupted answer; the resumed request read {} tokens in {} ms",
        correction["tokens_kept"],
        correction["waited_ms"],
        uninterrupted.len(),
        timings["prompt_n"],
        timings["prompt_ms"],
    );
    llama.wait_idle().await;
}

#[tokio::test]
async fn a_server_that_stays_away_is_lost() {
    let Some(tools) = Tools::find() else { return };
    let mut llama = Llama::start(&tools, TWO_LONG_SLOTS).await;
    let config = format!("{NO_LOOP_RULE}[corrections]\nresume_wait_s = 1\n");
    let aegis = Aegis::in_front_of(&llama.url(), &config).await;
    let stream = ask_meanwhile(aegis.addr(), greedy(30_000));
    llama.wait_decoded(100).await;
    llama.kill();
    let reading = cut_with(&stream.await.unwrap(), "A204_upstream_lost");
    assert!(!reading.lane("content").is_empty(), "text came before the kill");
    let incidents = aegis.wait_incidents(1).await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(incidents[0]["correction"]["outcome"], "failed", "{incidents:#?}");
}

#[tokio::test]
async fn a_real_loop_is_corrected() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_SLOT).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    // The model loops again at once, so the answer ends by its token limit or is cut: what counts is how it goes on.
    let answer = ask(aegis.addr(), CHAT, &greedy(3000)).await;
    let incidents = aegis.wait_incidents(2).await;
    let (first, last) = (&incidents[0], &incidents[incidents.len() - 1]);
    assert_eq!(
        (&first["decision"], &first["correction"]["outcome"]),
        (&json!("correct"), &json!("joined"))
    );
    assert_eq!(
        (&last["decision"], &last["severity"]),
        (&json!("cut"), &json!("critical")),
        "{incidents:#?}"
    );
    let reading = cut_with(&answer, "A201_token_loop");
    assert_eq!(
        (reading.roles.as_slice(), reading.names["id"].len()),
        (&[0][..], 1)
    );
    assert!(!String::from_utf8_lossy(&answer.body).contains("[Note: a first attempt"));
    llama.wait_idle().await;
}

#[tokio::test]
async fn a_real_thinking_loop_is_closed() {
    let Some(tools) = Tools::find() else { return };
    let template = tools.think_template();
    let arguments = [
        "-np",
        "1",
        "-c",
        "8192",
        "--chat-template-file",
        template.to_str().unwrap(),
    ];
    let llama = Llama::start(&tools, &arguments).await;
    let aegis = Aegis::in_front_of(&llama.url(), "").await;
    // Enough for the loop to be certain, and too few for the answer to fall into another.
    let request = greedy(120);
    let direct = finished(&ask(llama.addr(), CHAT, &request).await);
    assert_eq!(
        direct.lane("content"),
        "",
        "the model is to think until its tokens are used up"
    );
    let answer = ask(aegis.addr(), CHAT, &request).await;
    let reading = one_answer(&answer);
    eprintln!(
        "directly: {} characters of thought and no answer; through Aegis: {} characters of thought, then {:?}",
        direct.lane("reasoning").len(),
        reading.lane("reasoning").len(),
        reading.lane("content")
    );
    assert!(direct.lane("reasoning").starts_with(reading.lane("reasoning")));
    assert!(!reading.lane("content").is_empty());
    let incidents = aegis.wait_incidents(1).await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!(
        (&incidents[0]["lane"], &incidents[0]["correction"]["plan"]),
        (&json!("reasoning"), &json!("resume")),
        "{incidents:#?}"
    );
}

#[tokio::test]
async fn a_poisoned_history_works() {
    let Some(tools) = Tools::find() else { return };
    let llama = Llama::start(&tools, ONE_SLOT).await;
    let aegis = Aegis::in_front_of(&llama.url(), NO_LOOP_RULE).await;
    for (arguments, streamed) in [
        ("{\"path\": \"a", true),
        ("{\"path\": \"a", false),
        ("", true),
        ("{\"path\": a}", true),
    ] {
        let call =
            json!({"id": "c1", "type": "function", "function": {"name": "read", "arguments": arguments}});
        let request = with(
            greedy(16),
            json!({
                "stream": streamed,
                "messages": [
                    {"role": "user", "content": "Read a."},
                    {"role": "assistant", "content": null, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c1", "content": "an error"},
                    {"role": "user", "content": "Go on."},
                ],
            }),
        );
        let direct = ask(llama.addr(), CHAT, &request).await;
        let through = ask(aegis.addr(), CHAT, &request).await;
        eprintln!(
            "arguments {arguments:?}, stream {streamed}: direct {}, through Aegis {}",
            direct.status, through.status
        );
        assert_eq!(
            (direct.status, through.status),
            (500, 200),
            "{arguments:?}: {direct}\n{through}"
        );
        match streamed {
            true => drop(one_answer(&through)),
            false => assert_eq!(through.json()["choices"][0]["message"]["role"], "assistant"),
        }
    }
    let incidents = aegis.wait_incidents(4).await;
    assert_eq!(incidents.len(), 4, "{incidents:#?}");
    for incident in incidents {
        assert_eq!(
            (&incident["code"], &incident["decision"]),
            (&json!("A104_tool_arguments"), &json!("repair")),
            "{incident:#}"
        );
    }
}
