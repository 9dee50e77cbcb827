//! The calls of the Berkeley Function Calling Leaderboard against the schemas they are meant for.
//!
//! The corpus lies outside the project: `../shared/data`, or below `AEGIS_SHARED_DATA`. Without it the test prints why it
//! does nothing.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 5] = [
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
];

/// Calls of the corpus that do not fit their own schemas.
const MISFITS: &[&str] = &[
    "parallel_multiple_21",
    "parallel_multiple_94",
    "live_simple_71-35-0",
    "live_simple_106-63-0",
    "live_simple_112-68-0",
];

fn corpus() -> Option<PathBuf> {
    let data = std::env::var_os("AEGIS_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let path = data.join("bfcl");
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there (AEGIS_SHARED_DATA names the data folder)",
        path.display()
    );
    None
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The corpus writes types by the names that Python has for them.
fn schema(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let named = members.get("type").and_then(Value::as_str).map(str::to_owned);
            match named.as_deref() {
                Some("dict") => drop(members.insert("type".into(), json!("object"))),
                Some("float") => drop(members.insert("type".into(), json!("number"))),
                Some("tuple") => drop(members.insert("type".into(), json!("array"))),
                Some("any") => drop(members.remove("type")),
                _ => {}
            }
            members.values_mut().for_each(schema);
        }
        Value::Array(elements) => elements.iter_mut().for_each(schema),
        _ => {}
    }
}

/// A call from its accepted answers: the first of each. An empty string among them says that the argument may be left out;
/// those that the schema requires are not.
fn arguments(accepted: &Value, required: &Value) -> Value {
    let Value::Object(members) = accepted else {
        return accepted.clone();
    };
    let is_required = |name: &str| required.as_array().is_some_and(|r| r.contains(&json!(name)));
    let chosen = members.iter().filter_map(|(name, values)| {
        let (values, left_out) = (values.as_array()?, json!(""));
        if values.contains(&left_out) && !is_required(name) {
            return None;
        }
        let first = values.iter().find(|value| **value != left_out)?;
        Some((name.clone(), inner(first)))
    });
    Value::Object(chosen.collect())
}

/// Objects inside an answer have their accepted values one level down, too.
fn inner(value: &Value) -> Value {
    match value {
        Value::Object(_) => arguments(value, &Value::Null),
        Value::Array(elements) => elements.iter().map(inner).collect(),
        other => other.clone(),
    }
}

fn judge(request: &RequestFacts, name: &str, text: &str) -> Vec<Raised> {
    let chars: Vec<char> = text.chars().collect();
    let parts: Vec<String> = chars.chunks(4).map(|part| part.iter().collect()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    run(rule(Settings::default(), request), Some(name), &parts, FINISHED).0
}

#[test]
fn calls_of_a_public_corpus_fit_their_schemas() {
    let Some(corpus) = corpus() else { return };
    let (mut calls, mut faults, mut misfits) = (0, 0, Vec::new());
    for file in FILES {
        let file = format!("BFCL_v4_{file}.json");
        let answers = lines(&corpus.join("possible_answer").join(&file));
        for (mut question, answer) in lines(&corpus.join(&file)).into_iter().zip(answers) {
            assert_eq!(question["id"], answer["id"]);
            let functions = question["function"].as_array_mut().unwrap();
            functions.iter_mut().for_each(|f| schema(&mut f["parameters"]));
            let tools: Vec<Value> = functions
                .iter()
                .map(|f| json!({"type":"function","function":f}))
                .collect();
            let request = offering(&json!(tools));
            for call in answer["ground_truth"].as_array().unwrap() {
                let (name, accepted) = call.as_object().unwrap().iter().next().unwrap();
                let Offer::Tool(tool) = request.offered.find(name) else {
                    panic!("{}: {name}", answer["id"])
                };
                assert_eq!(tool.unchecked(), None, "{}", answer["id"]);
                let function = tools.iter().find(|t| t["function"]["name"] == *name).unwrap();
                let required = &function["function"]["parameters"]["required"];
                let good = arguments(accepted, required);
                calls += 1;
                let raised = judge(&request, name, &good.to_string());
                if !raised.is_empty() {
                    misfits.push(format!("{}: {good}: {}", answer["id"], raised[0].detail));
                }
                faults += broken(&request, tool.name(), &good, required[0].as_str());
            }
        }
    }
    println!("{calls} calls, {} misfits, {faults} faults found", misfits.len());
    println!("{}", misfits.join("\n"));
    let ids: Vec<&str> = misfits.iter().filter_map(|m| m.split('"').nth(1)).collect();
    assert_eq!(ids, MISFITS);
    assert!(calls > 1500 && faults > 3 * calls);
}

/// Breaks a call in every way that must be seen, and says in how many it was.
fn broken(request: &RequestFacts, name: &str, good: &Value, required: Option<&str>) -> usize {
    let text = good.to_string();
    let mut seen = 0;
    let mut expect = |name: &str, text: &str, code: Code| {
        let raised = judge(request, name, text);
        assert_eq!(raised.first().map(|r| r.code), Some(code), "{name}({text})");
        seen += 1;
    };
    expect(&format!("{name}2"), &text, Code::UnknownTool);
    expect(name, &text[..text.len() - 1], Code::ToolArguments);
    expect(name, &text.replacen('{', "{,", 1), Code::ToolArguments);
    if let Some(required) = required {
        let mut less = good.clone();
        less.as_object_mut().unwrap().remove(required);
        expect(name, &less.to_string(), Code::ToolArguments);
    }
    seen
}
