//! `aegis scan`: the rules over JSON lines, for measuring them on real corpora.

use super::{BAD_INPUT, load};
use crate::cli::ScanArgs;
use aegis_core::decide::{Decision, Finding, wanted};
use aegis_core::error::Code;
use aegis_core::event::{Channel, FinishReason, LaneId};
use aegis_core::relay::Guard;
use aegis_core::request::{self, RequestFacts};
use aegis_core::rule::{Action, Severity};
use aegis_core::sentinel::Sentinel;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// One answer to be judged.
#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Output<'a> {
    id: Option<&'a RawValue>,
    findings: Vec<Found>,
    decision: Decision,
    /// Bytes of the lane seen when the decision fell; null when it is `pass`.
    decided_at: Option<u64>,
}

#[derive(Serialize)]
struct Found {
    code: Code,
    rule: &'static str,
    severity: Severity,
    action: Action,
    lane: Option<LaneId>,
    offset: u64,
    span: [u64; 2],
}

/// Reads lines from standard input and writes one verdict per line, in the same order.
pub(crate) fn run(args: &ScanArgs) -> ExitCode {
    let config = match load(args.config.as_deref()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let scan = Scan {
        guard: &config.guard,
        chunk_chars: args.chunk as usize,
    };
    match scan.lines(io::stdin().lock(), BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            eprintln!("{error}");
            ExitCode::from(BAD_INPUT)
        }
        // The reader of our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Scan<'a> {
    guard: &'a Guard,
    chunk_chars: usize,
}

impl Scan<'_> {
    fn lines(&self, mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let bad = |reason: String| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {number}: {reason}"))
            };
            let answer: Input<'_> = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
            let facts = self.facts(answer.request).map_err(bad)?;
            serde_json::to_writer(&mut output, &self.judge(&answer, facts))?;
            output.write_all(b"\n")?;
        }
        output.flush()
    }

    fn facts(&self, request: Option<&RawValue>) -> Result<RequestFacts, String> {
        let default = RequestFacts {
            choices: 1,
            ..RequestFacts::default()
        };
        request
            .filter(|raw| raw.get() != "null")
            .map_or(Ok(default), |raw| {
                request::read(raw.get().as_bytes(), self.guard.limits.json_depth_max)
                    .map_err(|bad| format!("request: {bad}"))
            })
    }

    fn judge<'a>(&self, answer: &Input<'a>, facts: RequestFacts) -> Output<'a> {
        let mut sentinel = Sentinel::new(
            Arc::clone(&self.guard.rulebook),
            Arc::new(facts),
            self.guard.policy.on_failure,
        );
        let mut output = Output {
            id: answer.id,
            findings: Vec::new(),
            decision: Decision::Pass,
            decided_at: None,
        };
        let mut found = Vec::new();
        let calls = answer.tool_calls.iter().flatten().enumerate().map(|(k, call)| {
            let arguments = call.arguments.as_deref().unwrap_or("");
            (Channel::ToolArguments(k as u32), call.name.as_deref(), arguments)
        });
        let texts = [
            (
                Channel::Reasoning,
                None,
                answer.reasoning.as_deref().unwrap_or(""),
            ),
            (Channel::Content, None, answer.content.as_deref().unwrap_or("")),
        ];
        for (channel, name, text) in texts.into_iter().chain(calls) {
            let opens = matches!(channel, Channel::ToolArguments(_));
            if let Some(name) = name {
                sentinel.name(LaneId::first(channel), name, &mut found);
                if output.settle(&mut found) {
                    return output;
                }
            }
            for piece in pieces(text, self.chunk_chars).chain(opens.then_some("").filter(|_| text.is_empty()))
            {
                sentinel.feed(LaneId::first(channel), piece, &mut found);
                if output.settle(&mut found) {
                    return output;
                }
            }
        }
        let reason = answer
            .finish_reason
            .as_deref()
            .map_or(FinishReason::Stop, FinishReason::parse);
        sentinel.finish(0, reason, &mut found);
        output.settle(&mut found);
        output
    }
}

impl Output<'_> {
    /// Takes findings up to the one that decides. `true` when it came.
    fn settle(&mut self, found: &mut Vec<Finding>) -> bool {
        for finding in found.drain(..) {
            let decision = wanted(&finding);
            self.findings.push(Found {
                code: finding.code,
                rule: finding.code.name(),
                severity: finding.severity,
                action: finding.action,
                lane: finding.lane,
                offset: finding.offset,
                span: [finding.span.start, finding.span.end],
            });
            if decision != Decision::Pass {
                self.decision = decision;
                self.decided_at = Some(finding.offset);
                return true;
            }
        }
        false
    }
}

/// `text` in pieces of `chars` characters.
fn pieces(text: &str, chars: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = rest.char_indices().nth(chars).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(input: &str, chunk_chars: usize) -> String {
        let guard = Guard::default();
        let mut output = Vec::new();
        Scan {
            guard: &guard,
            chunk_chars,
        }
        .lines(input.as_bytes(), &mut output)
        .unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn verdicts_keep_the_order_and_do_not_depend_on_chunks() {
        let text = "again and again, without any end in sight; ".repeat(40);
        let input = format!(
            "{}\n\n{}\n{}\n",
            serde_json::json!({"id": "a", "request": null, "content": "fine", "finish_reason": "stop"}),
            serde_json::json!({"id": 7, "content": text, "reasoning": "é漢 ok"}),
            serde_json::json!({"request": {"response_format": {"type": "json_object"}}, "content": "[1,]"}),
        );
        let whole = scan(&input, usize::MAX);
        assert_eq!(scan(&input, 1), whole);
        assert_eq!(scan(&input, 3), whole);
        let lines: Vec<serde_json::Value> = whole.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(
            lines[0],
            serde_json::json!({"id":"a","findings":[],"decision":"pass","decided_at":null})
        );
        assert_eq!(
            (&lines[1]["id"], &lines[1]["decision"]),
            (&7.into(), &"correct".into())
        );
        assert_eq!(
            lines[2]["findings"][0],
            serde_json::json!({"code":"A101_broken_json","rule":"broken_json","severity":"minor","action":"correct","lane":"content","offset":4,"span":[3,4]})
        );
    }

    #[test]
    fn a_call_is_judged_by_its_name() {
        let call = |name: &str| {
            let tools = serde_json::json!([{"type": "function", "function": {"name": "read"}}]);
            let input = serde_json::json!({"request": {"messages": [], "tools": tools}, "tool_calls": [{"name": name, "arguments": "{}"}]});
            let output = scan(&input.to_string(), 4);
            serde_json::from_str::<serde_json::Value>(&output).unwrap()["findings"][0]["rule"].clone()
        };
        assert_eq!(
            (call("read"), call("raed")),
            (serde_json::Value::Null, "unknown_tool".into())
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let guard = Guard::default();
        let scan = Scan {
            guard: &guard,
            chunk_chars: 4,
        };
        let error = scan
            .lines("{}\n{\"content\":5}\n".as_bytes(), Vec::new())
            .unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }
}
