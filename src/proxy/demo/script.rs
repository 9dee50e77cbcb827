//! What the primary will generate for a request: the pieces of each choice, the pace, and how it ends. The faults live
//! here.

use super::model::Model;
use super::request::{Ask, Endpoint, Tool};
use super::{FORBIDDEN_PHRASE, prose, sample};
use serde_json::{Value, json};
use std::time::Duration;

/// Tokens of a loop when the request sets no limit, as a primary with `-n 2000` would.
const LOOP_TOKENS: usize = 2_000;

/// Tokens that a stream gives before it dies or stalls.
const TOKENS_BEFORE_LOSS: usize = 24;

/// The block that `demo-loop` repeats.
const LOOP_BLOCK: &str =
    "\nI will check the file once more before I go on. The file looks right, but I should be sure.";

/// The block that `demo-reasoning-loop` repeats.
const REASONING_BLOCK: &str =
    " Wait, maybe the user means something else. Let me reconsider the question from the start.";

/// What `demo-broken-json` writes up to its fault: a comma is missing here.
pub(super) const JSON_BEFORE_FAULT: &str = r#"{"city": "Lisbon", "districts": ["Alfama", "Baixa" "#;
const JSON_AFTER_FAULT: &str = r#""Chiado"], "population": 545796}"#;

/// All that `demo-truncated-json` writes.
pub(super) const JSON_TRUNCATED: &str = r#"{"city": "Lisbon", "districts": ["Alfama", "Baixa", "Chi"#;

/// What `demo-forbidden` writes before the phrase.
pub(super) const BEFORE_PHRASE: &str = "Between the two of us, and only because you asked so nicely, ";

/// How fast the primary works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    /// Between two tokens.
    pub(super) token: Duration,
    /// Between two tokens of a loop; loops are quick, as a cached model's are.
    pub(super) loop_token: Duration,
    /// For an ordinary prompt.
    pub(super) prompt: Duration,
    /// For the long prompt of `demo-slow-start`.
    pub(super) slow_prompt: Duration,
}

impl Tempo {
    /// About what a mid-range graphics card does.
    pub(super) const DEMO: Self = Self {
        token: Duration::from_millis(12),
        loop_token: Duration::from_millis(4),
        prompt: Duration::from_millis(40),
        slow_prompt: Duration::from_millis(3_000),
    };
}

/// The pace of the tests: quick, with a prompt long enough to be seen at work.
#[cfg(test)]
pub(super) const FAST: Tempo = Tempo {
    token: Duration::from_millis(1),
    loop_token: Duration::from_millis(1),
    prompt: Duration::ZERO,
    slow_prompt: Duration::from_millis(800),
};

/// One token of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Reasoning(String),
    Content(String),
    /// Opens the tool call; llama-server sends the first brace with the name.
    ToolOpen {
        name: String,
        arguments: String,
    },
    ToolArguments(String),
}

/// What comes after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// `finish_reason: stop`
    Stop,
    /// `finish_reason: length`
    Length,
    /// `finish_reason: tool_calls`
    ToolCalls,
    /// Nothing ever again, and the connection stays open.
    Wedge,
    /// The connection drops.
    Die,
}

impl Ending {
    /// The wire's `finish_reason`; none for an answer that has no end.
    pub(super) const fn finish_reason(self) -> Option<&'static str> {
        match self {
            Self::Stop => Some("stop"),
            Self::Length => Some("length"),
            Self::ToolCalls => Some("tool_calls"),
            Self::Wedge | Self::Die => None,
        }
    }
}

/// One choice of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) pieces: Vec<Piece>,
    pub(super) ending: Ending,
}

/// A whole answer, not yet played.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) choices: Vec<Choice>,
    pub(super) prompt_tokens: u64,
    pub(super) prompt_time: Duration,
    pub(super) pace: Duration,
}

impl Script {
    /// What the primary will answer to `ask`.
    pub(super) fn of(ask: &Ask, tempo: &Tempo) -> Self {
        let model = Model::named(&ask.model);
        let slow = model == Model::SlowStart;
        let pace = if matches!(model, Model::Loop | Model::ReasoningLoop) {
            tempo.loop_token
        } else {
            tempo.token
        };
        Self {
            choices: (0..ask.n)
                .map(|variant| limited(choice(model, ask, variant), ask))
                .collect(),
            // The slow start stands for a long document in the context, which the demo's request does not really carry.
            prompt_tokens: if slow { 24_576 } else { ask.prompt_tokens },
            prompt_time: if slow { tempo.slow_prompt } else { tempo.prompt },
            pace,
        }
    }
}

fn content(text: &str) -> Vec<Piece> {
    prose::tokens(text).into_iter().map(Piece::Content).collect()
}

fn ends(pieces: Vec<Piece>, ending: Ending) -> Choice {
    Choice { pieces, ending }
}

fn choice(model: Model, ask: &Ask, variant: usize) -> Choice {
    match model {
        Model::Healthy | Model::SlowStart => healthy(ask, variant),
        Model::ToolCall => tool_call(ask, variant),
        Model::Loop => {
            let head = format!(
                "Let me look into \"{}\" step by step.",
                prose::topic(&ask.question)
            );
            let pieces = content(&head)
                .into_iter()
                .chain(content(LOOP_BLOCK).into_iter().cycle());
            ends(pieces.take(LOOP_TOKENS).collect(), Ending::Length)
        }
        Model::ReasoningLoop => {
            let head = format!("The user asks \"{}\".", prose::topic(&ask.question));
            let block = prose::tokens(REASONING_BLOCK);
            let texts = prose::tokens(&head).into_iter().chain(block.into_iter().cycle());
            let lane = if ask.endpoint == Endpoint::Chat {
                Piece::Reasoning
            } else {
                Piece::Content
            };
            ends(texts.take(LOOP_TOKENS).map(lane).collect(), Ending::Length)
        }
        Model::BrokenJson => ends(
            content(&[JSON_BEFORE_FAULT, JSON_AFTER_FAULT].concat()),
            Ending::Stop,
        ),
        Model::TruncatedJson => ends(content(JSON_TRUNCATED), Ending::Stop),
        Model::Forbidden => ends(
            content(&format!(
                "{BEFORE_PHRASE}{FORBIDDEN_PHRASE}. Do not write it down."
            )),
            Ending::Stop,
        ),
        Model::Stall | Model::Death => {
            let mut pieces = content(&prose::answer(&ask.question, variant));
            pieces.truncate(TOKENS_BEFORE_LOSS);
            ends(
                pieces,
                if model == Model::Stall {
                    Ending::Wedge
                } else {
                    Ending::Die
                },
            )
        }
    }
}

/// Prose, JSON or a tool call, whichever the request asks for. After a tool's result comes prose, so that an agent's
/// turn ends.
fn healthy(ask: &Ask, variant: usize) -> Choice {
    match (&ask.tool_result, &ask.tool, &ask.json) {
        (Some(result), _, _) => ends(content(&prose::tool_answer(&ask.question, result)), Ending::Stop),
        (None, Some(tool), _) => ends(call(tool, &ask.question), Ending::ToolCalls),
        (None, None, Some(schema)) => ends(content(&json_answer(ask, schema.as_ref())), Ending::Stop),
        (None, None, None) => ends(content(&prose::answer(&ask.question, variant)), Ending::Stop),
    }
}

fn tool_call(ask: &Ask, variant: usize) -> Choice {
    match (&ask.tool, &ask.tool_result) {
        (Some(tool), None) => {
            let said = content(&format!("I will use {} for that.", tool.name));
            ends(
                said.into_iter().chain(call(tool, &ask.question)).collect(),
                Ending::ToolCalls,
            )
        }
        (None, None) => ends(
            content("I would call a tool, but the request offers none."),
            Ending::Stop,
        ),
        (_, Some(_)) => healthy(ask, variant),
    }
}

fn call(tool: &Tool, question: &str) -> Vec<Piece> {
    let arguments = sample::sample(&tool.parameters, &prose::topic(question)).to_string();
    let rest = prose::tokens(arguments.get(1..).unwrap_or_default());
    let open = Piece::ToolOpen {
        name: tool.name.clone(),
        arguments: "{".to_owned(),
    };
    std::iter::once(open)
        .chain(rest.into_iter().map(Piece::ToolArguments))
        .collect()
}

fn json_answer(ask: &Ask, schema: Option<&Value>) -> String {
    let topic = prose::topic(&ask.question);
    let value = match schema {
        Some(schema) => sample::sample(schema, &topic),
        None => json!({"question": topic, "answer": prose::paragraph(&ask.question), "sure": true}),
    };
    value.to_string()
}

/// Applies the request's `stop` and `max_tokens` to a choice.
fn limited(mut choice: Choice, ask: &Ask) -> Choice {
    if let Some(end) = stop_position(&choice.pieces, &ask.stop) {
        cut_content(&mut choice.pieces, end);
        choice.ending = Ending::Stop;
    }
    if let Some(most) = ask.max_tokens.filter(|most| *most < choice.pieces.len()) {
        choice.pieces.truncate(most);
        choice.ending = Ending::Length;
    }
    choice
}

/// Where, in bytes of the content, the first stop string begins.
fn stop_position(pieces: &[Piece], stop: &[String]) -> Option<usize> {
    if stop.is_empty() {
        return None;
    }
    let text: String = pieces
        .iter()
        .filter_map(|p| {
            if let Piece::Content(t) = p {
                Some(t.as_str())
            } else {
                None
            }
        })
        .collect();
    stop.iter().filter_map(|s| text.find(s.as_str())).min()
}

/// Keeps the first `keep` bytes of the content and drops all that comes after them.
fn cut_content(pieces: &mut Vec<Piece>, mut keep: usize) {
    for index in 0..pieces.len() {
        let Piece::Content(text) = &mut pieces[index] else {
            continue;
        };
        if keep < text.len() {
            text.truncate(keep);
            let whole = index + usize::from(keep > 0);
            pieces.truncate(whole);
            return;
        }
        keep -= text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::*;

    fn script(body: &Value) -> Script {
        let ask = parse(Endpoint::Chat, body.to_string().as_bytes()).expect("a readable request");
        Script::of(&ask, &Tempo::DEMO)
    }

    fn text(choice: &Choice) -> String {
        choice
            .pieces
            .iter()
            .filter_map(|p| {
                if let Piece::Content(t) = p {
                    Some(t.as_str())
                } else {
                    None
                }
            })
            .collect()
    }

    fn ask(model: &str, more: Value) -> Value {
        let mut body =
            json!({"model": model, "messages": [{"role": "user", "content": "Why is the sea salty?"}]});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        body
    }

    #[test]
    fn limits_end_an_answer() {
        let whole = script(&ask("demo", json!({})));
        let stopped = script(&ask("demo", json!({"stop": ["the sea bed", "rivers"]})));
        let full = text(&whole.choices[0]);
        assert_eq!(
            text(&stopped.choices[0]),
            full[..full.find("rivers").expect("the text has rivers")]
        );
        assert_eq!(stopped.choices[0].ending, Ending::Stop);
        let short = script(&ask("demo-death", json!({"max_tokens": 3, "n": 2})));
        assert_eq!(short.choices.len(), 2);
        assert!(
            short
                .choices
                .iter()
                .all(|c| c.pieces.len() == 3 && c.ending == Ending::Length)
        );
    }

    #[test]
    fn json_is_json_unless_the_fault_is_asked_for() {
        let format = json!({"response_format": {"type": "json_object"}});
        let good = script(&ask("demo", format.clone()));
        assert!(serde_json::from_str::<Value>(&text(&good.choices[0])).is_ok_and(|v| v.is_object()));
        let broken = script(&ask("demo-broken-json", format.clone()));
        let error = serde_json::from_str::<Value>(&text(&broken.choices[0])).expect_err("broken");
        assert_eq!(
            error.column(),
            JSON_BEFORE_FAULT.len() + 1,
            "the fault is where the tour says it is"
        );
        let truncated = script(&ask("demo-truncated-json", format));
        assert!(
            serde_json::from_str::<Value>(&text(&truncated.choices[0]))
                .expect_err("truncated")
                .is_eof()
        );
    }

    #[test]
    fn a_tool_is_called_once_and_its_result_is_used() {
        let tools = json!({"tools": [{"type": "function", "function": {"name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]});
        let calls = script(&ask("demo", tools.clone()));
        assert_eq!(calls.choices[0].ending, Ending::ToolCalls);
        let mut after = ask("demo", tools);
        after["messages"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"role": "tool", "content": "21 degrees"}));
        let done = script(&after);
        assert_eq!(done.choices[0].ending, Ending::Stop);
        assert!(text(&done.choices[0]).contains("21 degrees"));
    }

    #[test]
    fn the_phrase_is_split_over_tokens_and_is_the_one_configured() {
        let said = script(&ask("demo-forbidden", json!({})));
        assert!(text(&said.choices[0]).contains(FORBIDDEN_PHRASE));
        assert!(super::super::DEMO_CONFIG.contains(FORBIDDEN_PHRASE));
        let in_one = |p: &Piece| matches!(p, Piece::Content(t) if t.contains("launch code"));
        assert!(!said.choices[0].pieces.iter().any(in_one));
    }
}
