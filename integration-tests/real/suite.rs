//! The suite of client libraries: what the upstream answers in each case, and what each client has shown of it.

use crate::real::Tools;
use aegis_integration_tests::script::{EndHow, Script, Step};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use tokio::task::JoinHandle;

/// The cases, in the order of the table's columns.
pub(crate) const CASES: &[Case] = &[
    Case::Plain,
    Case::Corrected,
    Case::Resumed,
    Case::ToolCorrected,
    Case::WholeCorrected,
    Case::Cut,
];

/// What happens upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// Nothing special, in a stream.
    Plain,
    /// The first answer is at fault and the second goes on where it was sound, in a stream.
    Corrected,
    /// The connection breaks in the middle, and the second answer goes on, in a stream.
    Resumed,
    /// The first tool call is no JSON, the second is, in a stream.
    ToolCorrected,
    /// As `Corrected`, for a client that wants no stream.
    WholeCorrected,
    /// As `Corrected`, where Aegis may not ask again.
    Cut,
}

impl Case {
    /// Its name in `cases.json`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Corrected => "corrected",
            Self::Resumed => "resumed",
            Self::ToolCorrected => "tool_corrected",
            Self::WholeCorrected => "whole_corrected",
            Self::Cut => "cut",
        }
    }

    /// Requests that the upstream gets.
    pub(crate) const fn requests(self) -> usize {
        match self {
            Self::Plain | Self::Cut => 1,
            _ => 2,
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Text, or a call of the tool in `cases.json`.
    Text,
    /// An object, as JSON or as the arguments of a tool call.
    Object,
}

/// What the upstream thinks before an answer in text.
pub(crate) const THOUGHT: &str = "They ask about rivers.";

const SENTENCE: &str = "Rivers carry water to the sea.";
const LOOPING: &str = " They bend and they bend, and then they bend once more.";
const REST: &str = " The longest of them is the Nile.";

/// The object that a client gets in the end.
pub(crate) const OBJECT: &str =
    r#"{"name": "Rhine", "length_km": 1233, "countries": ["Switzerland", "Germany"]}"#;
/// Sound up to here; what follows in a faulty answer is no JSON.
const OBJECT_BEGUN: &str = r#"{"name": "Rhine", "length_km":"#;

/// The texts of the upstream's answers to one client in one case.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// What is sound of the first answer; its last frame ends here.
    pub(crate) sound: &'static str,
    /// What follows in the first answer.
    pub(crate) fault: String,
    /// The second answer.
    pub(crate) rest: &'static str,
}

impl Wants {
    /// The texts of a case.
    pub(crate) fn story(self, case: Case) -> Story {
        let story = |sound, fault: &str, rest| Story {
            sound,
            fault: fault.to_owned(),
            rest,
        };
        let object_rest = &OBJECT[OBJECT_BEGUN.len()..];
        match (self, case) {
            (Self::Text, Case::Plain) => story(SENTENCE, REST, ""),
            (Self::Text, Case::Resumed) => story(SENTENCE, "", REST),
            (Self::Text, Case::ToolCorrected) => story(
                "",
                r#"{"city": "Bern", "unit": Celsius}"#,
                r#"{"city": "Bern", "unit": "C"}"#,
            ),
            (Self::Text, _) => story(SENTENCE, &LOOPING.repeat(60), REST),
            (Self::Object, Case::Plain) => story(OBJECT, "", ""),
            (Self::Object, Case::Resumed) => story(OBJECT_BEGUN, "", object_rest),
            // A call is never out before it is whole, so that the second answer starts again.
            (Self::Object, Case::ToolCorrected) => story("", &format!("{OBJECT_BEGUN} long}}"), OBJECT),
            (Self::Object, _) => story(OBJECT_BEGUN, " long}", object_rest),
        }
    }

    /// The scripts of a case, in the order of the requests.
    pub(crate) fn scripts(self, case: Case) -> Vec<Script> {
        let Story { sound, fault, rest } = self.story(case);
        let close = |reason: &str| {
            let reason = reason.to_owned();
            vec![
                Step::Finish { reason, choice: 0 },
                Step::Usage {
                    prompt: 5,
                    completion: 7,
                },
                Step::Done,
            ]
        };
        let answers = if case == Case::ToolCorrected {
            let name = if self == Self::Text {
                "get_weather"
            } else {
                "PartialRiver"
            };
            [&fault, rest].map(|arguments| [call(name, arguments), close("tool_calls")].concat())
        } else {
            let thought = if self == Self::Text { THOUGHT } else { "" };
            let end = match case {
                Case::Resumed => vec![Step::End { how: EndHow::Drop }],
                _ => close("stop"),
            };
            let mut first = vec![
                says("reasoning_content", thought),
                says("content", sound),
                says("content", &fault),
            ];
            first.extend(end);
            [first, [vec![says("content", rest)], close("stop")].concat()]
        };
        let opened = answers.map(|answer| [vec![Step::Role { choice: 0 }], answer].concat());
        let numbered = (1..).zip(opened).take(case.requests());
        numbered
            .map(|(number, steps)| Script {
                number,
                ..Script::stream(steps)
            })
            .collect()
    }
}

fn says(channel: &str, text: &str) -> Step {
    Step::Text {
        text: text.to_owned(),
        channel: channel.to_owned(),
        piece: 4,
        times: 1,
        choice: 0,
        gap_ms: 0,
    }
}

fn call(name: &str, arguments: &str) -> Vec<Step> {
    let text = arguments.to_owned();
    vec![
        Step::ToolOpen {
            index: 0,
            name: name.to_owned(),
            choice: 0,
        },
        Step::ToolArguments {
            index: 0,
            text,
            piece: 4,
            times: 1,
            choice: 0,
        },
    ]
}

/// One client library.
#[derive(Debug)]
pub(crate) struct Client {
    /// Part of the path it asks at.
    pub(crate) slug: &'static str,
    /// What it asks for.
    pub(crate) wants: Wants,
    /// How it is started.
    command: Command,
}

/// All of them.
pub(crate) fn clients(tools: &Tools) -> Vec<Client> {
    use Wants::{Object, Text};
    let python = |slug, wants, script| Client {
        slug,
        wants,
        command: tools.python_script(script),
    };
    let node = |slug, script: &str| Client {
        slug,
        wants: Text,
        command: tools.node_script(script),
    };
    let mut all = vec![
        python("openai-python", Text, "cases/with_openai.py"),
        node("openai-node-6", "cases/with_openai.mjs"),
        node("openai-node-7", "cases/with_openai.mjs"),
        python("langchain", Text, "cases/with_langchain.py"),
        python("litellm", Text, "cases/with_litellm.py"),
        python("pydantic-ai", Text, "cases/with_pydantic_ai.py"),
        node("vercel-ai", "cases/with_vercel_ai.mjs"),
        python("instructor", Object, "cases/with_instructor.py"),
    ];
    all[1].command.arg("openai");
    all[2].command.arg("openai-current");
    all
}

impl Client {
    /// The path of its requests in a case.
    pub(crate) fn path(&self, case: Case) -> String {
        format!("/{}/{}/v1", self.slug, case.name())
    }

    /// Runs it once for these cases at these base URLs, and gives a line for each.
    pub(crate) fn run(mut self, asked: &[(Case, String)]) -> JoinHandle<Vec<Line>> {
        for (case, base) in asked {
            self.command
                .arg(format!("{base}{}", self.path(*case)))
                .arg(case.name());
        }
        // A proxy of the environment is not part of the test.
        self.command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
        tokio::task::spawn_blocking(move || {
            let output = self
                .command
                .output()
                .unwrap_or_else(|e| panic!("{}: {e}", self.slug));
            let text = String::from_utf8_lossy(&output.stdout);
            let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{}: {}\n{text}\n{errors}",
                self.slug,
                output.status
            );
            lines.unwrap_or_else(|e| panic!("{}: {e}: {text:?}\n{errors}", self.slug))
        })
    }
}

/// What a client has shown of one answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) client: String,
    pub(crate) version: String,
    pub(crate) case: String,
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) tool_calls: Vec<Value>,
    pub(crate) finishes: Vec<String>,
    /// Usages with figures in them.
    pub(crate) usages: u64,
    /// Chunks, parts, events or partial objects, as the client counts.
    pub(crate) chunks: u64,
    /// Different ids.
    pub(crate) ids: u64,
    pub(crate) error: Option<Raised>,
}

/// What a client raised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raised {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) message: String,
    /// The error's code, or that of an error which it wraps.
    pub(crate) code: Option<String>,
    /// The error that has it.
    pub(crate) carried_by: Option<String>,
}

impl Line {
    /// The line as a cell of the table.
    fn cell(&self) -> String {
        if let Some(error) = &self.error {
            let code = error.code.as_deref().unwrap_or("no code");
            let within = error
                .carried_by
                .as_ref()
                .filter(|carrier| **carrier != error.kind);
            let within = within
                .map(|carrier| format!(" (in {carrier})"))
                .unwrap_or_default();
            return format!("`{}`, {code}{within}", error.kind);
        }
        let what = match self.tool_calls.len() {
            0 => format!("{} characters", self.text.chars().count()),
            n => format!("{n} call"),
        };
        let finish = match self.finishes.as_slice() {
            [] => "finish not shown".to_owned(),
            finishes => finishes.join(" + "),
        };
        let ids = match self.ids {
            0 => "id not shown".to_owned(),
            n => format!("{n} id"),
        };
        let chunks = match self.chunks {
            1 => "whole".to_owned(),
            n => format!("{n} chunks"),
        };
        format!("{what}, {finish}, {ids}, {chunks}")
    }
}

/// A Markdown table, client by case.
pub(crate) fn table(rows: &[Vec<Line>]) -> String {
    let mut table = "| client |".to_owned();
    for case in CASES {
        write!(table, " {} |", case.name()).unwrap();
    }
    table += &format!("\n|---|{}\n", "---|".repeat(CASES.len()));
    for row in rows {
        write!(table, "| {} {} |", row[0].client, row[0].version).unwrap();
        for line in row {
            write!(table, " {} |", line.cell()).unwrap();
        }
        table.push('\n');
    }
    table
}
