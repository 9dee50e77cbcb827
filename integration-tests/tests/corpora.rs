//! The rules over public corpora: the JSON rule on JSONTestSuite, the loop rule on real answers of 17 models.
//!
//! The corpora lie outside the project: `../shared/data`, or below `AEGIS_SHARED_DATA`. Without them a test prints why
//! it does nothing. The figures are printed too: run with `--no-capture`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use aegis_integration_tests::process::{Folder, run};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A `--chunk` that no text of the corpora reaches.
const WHOLE: &str = "100000000";

/// A file or folder of the shared data.
fn shared(name: &str) -> Option<PathBuf> {
    let data = std::env::var_os("AEGIS_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = data.join(name);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there (AEGIS_SHARED_DATA names the data folder)",
        path.display()
    );
    None
}

/// One line of `aegis scan`.
#[derive(Debug, Deserialize)]
struct Verdict {
    id: String,
    findings: Vec<Found>,
    decision: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Found {
    code: String,
    lane: Option<String>,
    offset: usize,
    span: [usize; 2],
}

/// Runs `aegis scan`; all of the input must have been readable.
fn scan(input: &[u8], args: &[&str]) -> Vec<u8> {
    let output = run(&[&["scan"], args].concat(), input);
    assert!(
        output.status.success(),
        "aegis scan {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn verdicts(output: &[u8]) -> Vec<Verdict> {
    let lines = output.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Fails where two outputs differ, and names the first line that does.
fn assert_same(one: &[u8], other: &[u8], what: &str) {
    if one != other {
        let pair = one.split(|b| *b == b'\n').zip(other.split(|b| *b == b'\n'));
        let (a, b) = pair.into_iter().find(|(a, b)| a != b).unwrap_or((b"", b""));
        let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
        panic!("{what} gives another output:\n{a}\n{b}");
    }
}

/// Texts of at least three bytes of which one continues any text that can still become JSON.
const CONTINUATIONS: &[&str] = &[
    "   ", "000", "0  ", "n00", "rue ", "ue ", "e  ", "alse ", "lse ", "se ", "ull ", "ll ", "l  ",
];

/// Whether `prefix` can still become JSON, by `serde_json` alone.
///
/// It tells a text that is wrong from one that is unfinished, but calls a number without its digits wrong, and looks at
/// the four digits of an escape only once all four are there. So it is asked about the prefix with something behind it:
/// whatever follows a dead prefix is wrong, and a live one has a continuation that is at worst unfinished. `IgnoredAny`
/// has no depth limit and looks at the grammar alone.
fn alive(prefix: &[u8]) -> bool {
    CONTINUATIONS.iter().any(|more| {
        let text = [prefix, more.as_bytes()].concat();
        match serde_json::from_slice::<IgnoredAny>(&text) {
            Ok(_) => true,
            Err(error) => error.is_eof(),
        }
    })
}

/// What the JSON rule must say about a text that is not JSON.
fn expected(text: &str, depth_max: usize) -> Found {
    let lane = Some("content".to_owned());
    // Brackets count only outside strings. The two deep files of the suite have none in theirs.
    let brackets = text.char_indices().filter(|(_, c)| matches!(c, '[' | '{'));
    let too_deep = (text.len() > 4096)
        .then(|| brackets.map(|(at, _)| at).nth(depth_max))
        .flatten();
    let bytes = text.as_bytes();
    let dead = || (0..bytes.len()).find(|&at| !alive(&bytes[..=at]));
    match too_deep.or_else(dead) {
        Some(at) => {
            let scalar = text[at..]
                .chars()
                .next()
                .expect("a fault lies at the start of a scalar");
            let end = at + scalar.len_utf8();
            Found {
                code: "A101_broken_json".into(),
                lane,
                offset: end,
                span: [at, end],
            }
        }
        None => {
            let start = text.find(|c: char| !c.is_ascii_whitespace()).unwrap_or(0);
            Found {
                code: "A103_truncated_json".into(),
                lane,
                offset: text.len(),
                span: [start, text.len()],
            }
        }
    }
}

/// The suite's files that are UTF-8, by name.
fn suite(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (
            entry.file_name().into_string().unwrap(),
            fs::read(entry.path()).unwrap(),
        )
    });
    files
        .filter_map(|(name, text)| Some((name, String::from_utf8(text).ok()?)))
        .collect()
}

#[test]
fn json_test_suite_is_judged_to_the_byte() {
    const DEPTH_MAX: usize = 512;
    let Some(folder) = shared("jsontestsuite/test_parsing") else {
        return;
    };
    let texts = suite(&folder);
    // Thousands of brackets in a row are a loop as well, found before they are too deep: the JSON rule alone counts here.
    let scratch = Folder::new();
    let config = scratch.file("proxy.toml", "[rules.token_loop]\nenabled = false\n");
    let config = config.to_str().unwrap();
    let mut input = String::new();
    for (name, text) in &texts {
        let request = json!({"response_format": {"type": "json_object"}, "messages": []});
        let line = json!({"id": name, "request": request, "content": text, "finish_reason": "stop"});
        input.push_str(&format!("{line}\n"));
    }
    let whole = scan(input.as_bytes(), &["--config", config, "--chunk", WHOLE]);
    for chunk in ["1", "4"] {
        let chunked = scan(input.as_bytes(), &["--config", config, "--chunk", chunk]);
        assert_same(&whole, &chunked, &format!("--chunk {chunk}"));
    }
    let (mut passed, mut broken, mut truncated, mut complaints) = (0, 0, 0, Vec::new());
    let found = verdicts(&whole);
    assert_eq!(found.len(), texts.len());
    for verdict in found {
        let text = &texts[&verdict.id];
        let wanted = match verdict.id.as_bytes()[0] {
            b'y' => {
                passed += 1;
                Vec::new()
            }
            b'n' => vec![expected(text, DEPTH_MAX)],
            _ => continue,
        };
        match wanted.first().map(|f| f.code.as_str()) {
            Some("A101_broken_json") => broken += 1,
            Some(_) => truncated += 1,
            None => {}
        }
        // Where a mend is certain the rule reads on as if it had been made, so a second fault may follow.
        if verdict.findings.first() != wanted.first() || (verdict.decision == "pass") != wanted.is_empty() {
            let shown: String = text.chars().take(60).collect();
            complaints.push(format!(
                "{}: {shown:?}: {verdict:?}, expected {wanted:?}",
                verdict.id
            ));
        }
    }
    println!("JSONTestSuite: {passed} pass, {broken} broken at the exact byte, {truncated} truncated");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(
        passed == 95 && broken + truncated >= 170,
        "the suite is incomplete: {passed} sound texts, {} faulty ones",
        broken + truncated
    );
}

/// One answer of the corpus, with its label.
#[derive(Deserialize)]
struct Answer {
    id: String,
    model: String,
    prompt: String,
    response: String,
    #[serde(rename = "loop")]
    looping: bool,
    /// Where the periodic tail starts, in characters.
    loop_start: Option<usize>,
    /// Its period, in characters.
    period: Option<usize>,
}

fn answers(file: &Path) -> Vec<Answer> {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(file).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What came of one model's answers.
#[derive(Default)]
struct Tally {
    answers: usize,
    loops: usize,
    found: usize,
    /// Answers with a label that were not flagged.
    missed: Vec<String>,
    /// Answers that have no label and were flagged nevertheless.
    others: Vec<String>,
}

/// How many characters after the end of the fourth repeat the loop was found; negative where fewer repeats sufficed.
fn delay(answer: &Answer, offset: usize) -> Option<i64> {
    let fourth_ends = answer.loop_start? + 4 * answer.period?;
    Some(answer.response[..offset].chars().count() as i64 - fourth_ends as i64)
}

/// The value below which a share of `percent` of the sorted values lies.
fn percentile(sorted: &[i64], percent: usize) -> i64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Models whose answers are good enough that a flag is nearly always a false one.
fn is_strong(model: &str) -> bool {
    ["gpt-4o", "claude", "o1"].iter().any(|name| model.contains(name))
}

#[test]
fn loops_of_real_models_are_found_soon_and_seldom_elsewhere() {
    let Some(file) = shared("responses-dev.jsonl.gz") else {
        return;
    };
    let answers = answers(&file);
    assert!(answers.len() > 6000, "only {} answers", answers.len());
    let mut input = String::new();
    for answer in &answers {
        let request = json!({"messages": [{"role": "user", "content": answer.prompt}]});
        let line =
            json!({"id": answer.id, "request": request, "content": answer.response, "finish_reason": "stop"});
        input.push_str(&format!("{line}\n"));
    }
    let started = Instant::now();
    let output = scan(input.as_bytes(), &["--chunk", "4"]);
    let seconds = started.elapsed().as_secs_f64();
    for chunk in ["1", "50", "200"] {
        assert_same(
            &output,
            &scan(input.as_bytes(), &["--chunk", chunk]),
            &format!("--chunk {chunk}"),
        );
    }
    let mut models: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut delays = Vec::new();
    let found = verdicts(&output);
    assert_eq!(found.len(), answers.len());
    for (answer, verdict) in answers.iter().zip(&found) {
        assert_eq!(answer.id, verdict.id, "the order is kept");
        let tally = models.entry(&answer.model).or_default();
        let flag = verdict.findings.iter().find(|f| f.code == "A201_token_loop");
        tally.answers += 1;
        tally.loops += usize::from(answer.looping);
        match flag {
            Some(flag) if answer.looping => {
                tally.found += 1;
                delays.extend(delay(answer, flag.offset));
            }
            Some(_) => tally.others.push(answer.id.clone()),
            None if answer.looping => tally.missed.push(answer.id.clone()),
            None => {}
        }
    }
    let bytes: usize = answers.iter().map(|a| a.response.len()).sum();
    println!(
        "scan of {:.1} MB of content: {:.1} MB/s",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds
    );
    report(&models, &mut delays);
}

/// Prints the figures and holds them against what the loop rule promises.
fn report(models: &BTreeMap<&str, Tally>, delays: &mut [i64]) {
    println!(
        "{:55} {:>7} {:>5} {:>5} {:>9}",
        "model", "answers", "loops", "found", "unlabeled"
    );
    for (model, t) in models {
        println!(
            "{model:55} {:7} {:5} {:5} {:9}",
            t.answers,
            t.loops,
            t.found,
            t.others.len()
        );
    }
    let loops: usize = models.values().map(|t| t.loops).sum();
    let found: usize = models.values().map(|t| t.found).sum();
    let recall = found as f64 / loops as f64;
    delays.sort_unstable();
    let (median, p90) = (percentile(delays, 50), percentile(delays, 90));
    println!(
        "recall {recall:.4} ({found} of {loops}), characters after the fourth repeat: median {median}, p90 {p90}, \
         worst {}",
        percentile(delays, 100)
    );
    let strong = models.iter().filter(|(model, _)| is_strong(model));
    let flagged: Vec<&String> = strong.flat_map(|(_, t)| &t.others).collect();
    let missed: Vec<&String> = models.values().flat_map(|t| &t.missed).collect();
    println!("missed: {missed:?}");
    println!("flags on answers of strong models that have no label: {flagged:?}");
    assert!(recall >= 0.95, "recall {recall:.4}");
    assert!(median <= 200, "median delay {median} characters");
    assert!(flagged.len() <= 2, "{flagged:?}");
}
