//! Answers of a real llama-server whose connections break again and again: resumed, they are what they would have been,
//! byte for byte, and the server reads next to nothing twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests"
)]

#[path = "../real/mod.rs"]
mod real;

use aegis_integration_tests::client::Answer;
use aegis_integration_tests::flaky::{Cuts, Flaky};
use aegis_integration_tests::process::Aegis;
use real::answer::{CHAT, ask, one_answer, text, timings};
use real::body::with;
use real::{Llama, Tools};
use serde_json::{Value, json};

/// One slot: a request that is asked again meets the cache of the one that broke off.
const ONE_SLOT: &[&str] = &["-np", "1", "-c", "8192"];

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
        "direct: {} of {of} prompts are deterministic (answered alike twice); {distinct} different answers",
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
    let mut aegis = Aegis::in_front_of(&flaky.url(), &config).await;
    let mut cuts = 0;
    for torn in [false, true] {
        cuts += broken_again_and_again(&aegis, &flaky, &direct, torn).await;
    }
    cuts += broken_once(&aegis, &flaky, &direct).await;
    let incidents = aegis.ended_incidents().await;
    assert_eq!(incidents.len(), cuts, "one for each cut");
    for incident in incidents {
        let correction = &incident["correction"];
        assert_eq!(
            (&incident["code"], &correction["plan"], &correction["outcome"]),
            (&json!("A204_upstream_lost"), &json!("resume"), &json!("joined")),
            "{incident:#}"
        );
    }
}

/// What the last request of each answer had to read, and what the server still had in its cache.
#[derive(Default)]
struct Cached {
    /// Tokens read anew.
    read: Vec<u64>,
    /// Tokens of the answer that were not.
    reused: Vec<u64>,
}

impl Cached {
    /// The cache covers the prompt and the text that is out, but for a few tokens at most.
    #[track_caller]
    fn add(&mut self, aegis: &Aegis, answer: &Answer, prompt_tokens: u64) {
        let id = answer.header("x-aegis-request-id").unwrap();
        let incidents = aegis.incidents();
        let last = incidents.iter().rfind(|incident| incident["request_id"] == id);
        let kept = last.unwrap()["correction"]["tokens_kept"].as_u64().unwrap();
        let timings = timings(answer);
        let figure = |name: &str| timings[name].as_u64().unwrap();
        let (read, cache) = (figure("prompt_n"), figure("cache_n"));
        let known = prompt_tokens + kept;
        let figures =
            format!("{read} read, {cache} of the cache, {prompt_tokens} of the prompt, {kept} of the text");
        assert_eq!(read + cache, known, "the prompt is another: {figures}");
        assert!(
            read <= EVERY as u64,
            "the server has read its own text again: {figures}"
        );
        self.read.push(read);
        self.reused.push(cache - prompt_tokens);
    }
}

/// Least, median and most.
fn span(values: &[u64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    format!("{least}, {median}, {most}")
}

impl std::fmt::Display for Cached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the last request of each read {} tokens (least, median, most), and found the prompt and {} of the text in \
             the cache",
            span(&self.read),
            span(&self.reused)
        )
    }
}

/// Every connection breaks after its 7th frame with text. Gives how many broke.
async fn broken_again_and_again(aegis: &Aegis, flaky: &Flaky, direct: &[Direct], torn: bool) -> usize {
    let (mut cuts, mut cached) = (0, Cached::default());
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
        cached.add(aegis, &answer, *prompt_tokens);
    }
    eprintln!(
        "cut {} the 7th frame of each connection: {} answers, {cuts} cuts, all equal byte for byte; {cached}",
        if torn { "inside the frame after" } else { "behind" },
        direct.len(),
    );
    cuts
}

/// One connection breaks, after the 7th, the 14th … frame. Gives how many broke.
async fn broken_once(aegis: &Aegis, flaky: &Flaky, direct: &[Direct]) -> usize {
    let (mut runs, mut cached) = (0, Cached::default());
    for after in (EVERY..TOKENS as usize).step_by(EVERY) {
        for Direct {
            request,
            text,
            prompt_tokens,
        } in direct
        {
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
            cached.add(aegis, &answer, *prompt_tokens);
            runs += 1;
        }
    }
    eprintln!("one cut at each 7th token: {runs} answers, all equal byte for byte; {cached}");
    runs
}
