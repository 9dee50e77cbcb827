//! What each model says: its fault the first time, and the answer without it when it is asked again.

use super::model::Model;
use super::request::{Ask, Endpoint, Tool};
use super::script::{Choice, Ending, Piece};
use super::{FORBIDDEN_PHRASE, prose, sample};
use serde_json::{Value, json};

/// Tokens of a loop when the request sets no limit, as a primary with `-n 2000` would.
const LOOP_TOKENS: usize = 2_000;

/// Rounds of a loop that are surely more than these tokens, also behind a prefill of as many.
const LOOP_ROUNDS: usize = LOOP_TOKENS / 4;

/// Tokens that a stream gives before it dies or stalls.
const TOKENS_BEFORE_LOSS: usize = 24;

/// The block that `demo-loop` repeats.
const LOOP_BLOCK: &str = " I should check that once more, to be sure.";

/// The block that `demo-reasoning-loop` repeats.
const REASONING_BLOCK: &str =
    " Wait, maybe the user means something else. Let me reconsider the question from the start.";

/// What `demo-broken-json` writes up to its fault: a comma is missing here.
const JSON_BEFORE_FAULT: &str = r#"{"city": "Lisbon", "districts": ["Alfama", "Baixa" "#;
const JSON_AFTER_FAULT: &str = r#""Chiado"], "population": 545796}"#;

/// What both models of broken JSON meant to write.
pub(super) const JSON_MEANT: &str =
    r#"{"city": "Lisbon", "districts": ["Alfama", "Baixa", "Chiado"], "population": 545796}"#;

/// All that `demo-truncated-json` writes, and what closes it.
pub(super) const JSON_TRUNCATED: &str = r#"{"city": "Lisbon", "districts": ["Alfama", "Baixa", "Chiado""#;
pub(super) const JSON_CLOSERS: &str = "]}";

/// What `demo-forbidden` writes before the phrase, without the space between them.
pub(super) const BEFORE_PHRASE: &str = "Between the two of us, and only because you asked so nicely,";

/// What a model says to one choice of a request.
pub(super) fn choice(model: Model, ask: &Ask, variant: usize) -> Choice {
    if model == Model::Stubborn || !asked_again(ask) {
        faulty(model, ask, variant)
    } else {
        better(model, ask, variant)
    }
}

/// Whether the answer would go on until somebody ends it.
pub(super) fn is_endless(model: Model, ask: &Ask) -> bool {
    model == Model::Stubborn || matches!(model, Model::Loop | Model::ReasoningLoop) && !asked_again(ask)
}

const fn asked_again(ask: &Ask) -> bool {
    ask.corrected || ask.prefill.is_some()
}

/// What `demo-loop` and `demo-stubborn` say before and while they go in circles.
pub(super) fn looping(question: &str, rounds: usize) -> String {
    let topic = prose::topic(question);
    format!("Let me look into \"{topic}\" step by step.") + &LOOP_BLOCK.repeat(rounds)
}

/// What `demo-loop` says in the end, after that many rounds.
pub(super) fn looped(question: &str, rounds: usize) -> String {
    format!("{} {}", looping(question, rounds), prose::paragraph(question))
}

/// What `demo-reasoning-loop` thinks.
pub(super) fn thinking(question: &str, rounds: usize) -> String {
    let topic = prose::topic(question);
    format!("The user asks \"{topic}\".") + &REASONING_BLOCK.repeat(rounds)
}

/// What `demo-stall` and `demo-death` say before they are lost.
pub(super) fn before_loss(question: &str) -> String {
    let mut tokens = prose::tokens(&prose::answer(question, 0));
    tokens.truncate(TOKENS_BEFORE_LOSS);
    tokens.concat()
}

fn content(text: &str) -> Vec<Piece> {
    prose::tokens(text).into_iter().map(Piece::Content).collect()
}

/// The tokens of `whole`, from where the request has begun it.
fn rest(whole: &str, ask: &Ask) -> Vec<Piece> {
    match ask.prefill.as_deref() {
        None | Some("") => content(whole),
        Some(begun) => match whole.strip_prefix(begun) {
            Some(rest) => content(rest),
            None => content(&format!(" {whole}")),
        },
    }
}

fn ends(pieces: Vec<Piece>, ending: Ending) -> Choice {
    Choice { pieces, ending }
}

fn faulty(model: Model, ask: &Ask, variant: usize) -> Choice {
    let question = ask.question.as_str();
    match model {
        Model::Healthy | Model::SlowStart => healthy(ask, variant),
        Model::ToolCall => tool_call(ask, variant),
        Model::Loop | Model::Stubborn => {
            let mut pieces = rest(&looping(question, LOOP_ROUNDS), ask);
            pieces.truncate(LOOP_TOKENS);
            ends(pieces, Ending::Length)
        }
        Model::ReasoningLoop => {
            let mut texts = prose::tokens(&thinking(question, LOOP_ROUNDS));
            texts.truncate(LOOP_TOKENS);
            let lane = match ask.endpoint {
                Endpoint::Chat => Piece::Reasoning,
                Endpoint::Completions => Piece::Content,
            };
            ends(texts.into_iter().map(lane).collect(), Ending::Length)
        }
        Model::BrokenJson => ends(
            content(&[JSON_BEFORE_FAULT, JSON_AFTER_FAULT].concat()),
            Ending::Stop,
        ),
        Model::TruncatedJson => ends(content(JSON_TRUNCATED), Ending::Stop),
        Model::BrokenCall => broken_call(ask, variant),
        Model::Forbidden => ends(
            content(&format!(
                "{BEFORE_PHRASE} {FORBIDDEN_PHRASE}. Do not write it down."
            )),
            Ending::Stop,
        ),
        Model::Stall | Model::Death => {
            let mut pieces = content(&prose::answer(question, variant));
            pieces.truncate(TOKENS_BEFORE_LOSS);
            let ending = if model == Model::Stall {
                Ending::Wedge
            } else {
                Ending::Die
            };
            ends(pieces, ending)
        }
    }
}

/// The answer of a model that has been asked again.
fn better(model: Model, ask: &Ask, variant: usize) -> Choice {
    match model {
        Model::Loop => {
            let begun = ask.prefill.as_deref().unwrap_or_default();
            // The round that it was in is ended; a new one is not begun.
            let rounds = begun
                .len()
                .saturating_sub(looping(&ask.question, 0).len())
                .div_ceil(LOOP_BLOCK.len());
            ends(rest(&looped(&ask.question, rounds), ask), Ending::Stop)
        }
        Model::BrokenJson | Model::TruncatedJson => ends(rest(JSON_MEANT, ask), Ending::Stop),
        Model::ToolCall | Model::BrokenCall => tool_call(ask, variant),
        Model::Forbidden => {
            let whole = format!("{BEFORE_PHRASE} I can say that there is one.");
            ends(rest(&whole, ask), Ending::Stop)
        }
        Model::Healthy
        | Model::SlowStart
        | Model::ReasoningLoop
        | Model::Stall
        | Model::Death
        | Model::Stubborn => healthy(ask, variant),
    }
}

/// Prose, JSON or a tool call, whichever the request asks for. After a tool's result comes prose, so that an agent's
/// turn ends.
fn healthy(ask: &Ask, variant: usize) -> Choice {
    let whole = match (&ask.tool_result, &ask.tool, &ask.json) {
        (Some(result), _, _) => prose::tool_answer(&ask.question, result),
        (None, Some(tool), _) => return ends(call(tool, &arguments(tool, ask)), Ending::ToolCalls),
        (None, None, Some(schema)) => json_answer(ask, schema.as_ref()),
        (None, None, None) => prose::answer(&ask.question, variant),
    };
    ends(rest(&whole, ask), Ending::Stop)
}

fn tool_call(ask: &Ask, variant: usize) -> Choice {
    match (&ask.tool, &ask.tool_result) {
        (Some(tool), None) if Model::named(&ask.model) == Model::ToolCall => {
            let mut pieces = rest(&format!("I will use {} for that.", tool.name), ask);
            pieces.extend(call(tool, &arguments(tool, ask)));
            ends(pieces, Ending::ToolCalls)
        }
        (None, None) => ends(
            rest("I would call a tool, but the request offers none.", ask),
            Ending::Stop,
        ),
        (_, _) => healthy(ask, variant),
    }
}

/// A call whose arguments stop before their end. Without a tool there is nothing to break.
fn broken_call(ask: &Ask, variant: usize) -> Choice {
    match (&ask.tool, &ask.tool_result) {
        (Some(tool), None) => {
            let whole = arguments(tool, ask);
            // The last bracket and the quote before it: what is in an open string, nobody can guess.
            let broken: String = whole
                .chars()
                .take(whole.chars().count().saturating_sub(2))
                .collect();
            ends(call(tool, &broken), Ending::ToolCalls)
        }
        _ => tool_call(ask, variant),
    }
}

fn arguments(tool: &Tool, ask: &Ask) -> String {
    sample::sample(&tool.parameters, &prose::topic(&ask.question)).to_string()
}

fn call(tool: &Tool, arguments: &str) -> Vec<Piece> {
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

#[cfg(test)]
mod tests {
    use super::super::request::{CORRECTION_START, parse};
    use super::*;

    const SEA: &str = "Why is the sea salty?";

    fn said(body: &Value) -> Choice {
        let ask = parse(Endpoint::Chat, body.to_string().as_bytes()).expect("a readable request");
        choice(Model::named(&ask.model), &ask, 0)
    }

    fn text(choice: &Choice) -> String {
        choice.pieces.iter().filter_map(Piece::content).collect()
    }

    fn ask(model: &str, more: Value) -> Value {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": SEA}]});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        body
    }

    /// The same question, with a correction and a prefill where they are given.
    fn again(model: &str, correction: &str, begun: Option<&str>) -> Choice {
        let mut messages = vec![json!({"role": "user", "content": format!("{SEA}{correction}")})];
        messages.extend(begun.map(|text| json!({"role": "assistant", "content": text})));
        said(&ask(model, json!({"messages": messages})))
    }

    #[test]
    fn json_is_json_unless_the_fault_is_asked_for() {
        let format = json!({"response_format": {"type": "json_object"}});
        let good = said(&ask("demo", format.clone()));
        assert!(serde_json::from_str::<Value>(&text(&good)).is_ok_and(|v| v.is_object()));
        let broken = said(&ask("demo-broken-json", format.clone()));
        let error = serde_json::from_str::<Value>(&text(&broken)).expect_err("broken");
        assert_eq!(error.column(), JSON_BEFORE_FAULT.len() + 1, "a comma is missing");
        let truncated = said(&ask("demo-truncated-json", format));
        assert!(
            serde_json::from_str::<Value>(&text(&truncated))
                .expect_err("truncated")
                .is_eof()
        );
        for whole in [JSON_MEANT, &format!("{JSON_TRUNCATED}{JSON_CLOSERS}")] {
            assert!(serde_json::from_str::<Value>(whole).is_ok(), "{whole}");
        }
    }

    #[test]
    fn a_tool_is_called_once_and_its_result_is_used() {
        let tools = json!({"tools": [{"type": "function", "function": {"name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]});
        let mut after = ask("demo", tools.clone());
        assert_eq!(said(&after).ending, Ending::ToolCalls);
        after["messages"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"role": "tool", "content": "21 degrees"}));
        let done = said(&after);
        assert_eq!(done.ending, Ending::Stop);
        assert!(text(&done).contains("21 degrees"));
        let arguments = |choice: &Choice| -> String {
            let piece = |piece: &Piece| match piece {
                Piece::ToolOpen { arguments, .. } | Piece::ToolArguments(arguments) => arguments.clone(),
                _ => String::new(),
            };
            choice.pieces.iter().map(piece).collect()
        };
        let mut call = ask("demo-broken-call", tools);
        assert_eq!(arguments(&said(&call)), r#"{"city":"Lisbon"#);
        call["messages"][0]["content"] = json!(format!("{SEA}\n\n{CORRECTION_START} …]"));
        assert_eq!(arguments(&said(&call)), r#"{"city":"Lisbon"}"#);
    }

    #[test]
    fn the_phrase_is_split_over_tokens_and_is_the_one_configured() {
        let phrase = said(&ask("demo-forbidden", json!({})));
        assert!(text(&phrase).contains(FORBIDDEN_PHRASE));
        assert!(super::super::DEMO_CONFIG.contains(FORBIDDEN_PHRASE));
        let in_one = |p: &Piece| p.content().is_some_and(|t| t.contains("launch code"));
        assert!(!phrase.pieces.iter().any(in_one));
    }

    #[test]
    fn an_answer_goes_on_where_it_was_begun() {
        let (answer, looped) = (prose::answer(SEA, 0), looped(SEA, 4));
        for (model, whole) in [
            ("demo", answer.as_str()),
            ("demo-death", &answer),
            ("demo-loop", &looped),
            ("demo-broken-json", JSON_MEANT),
        ] {
            let in_the_fourth_round = looping(SEA, 3).len() + 20;
            for end in [20, 48, in_the_fourth_round]
                .into_iter()
                .filter(|end| *end < whole.len())
            {
                let begun = whole[..end].trim_end();
                let wanted = if model == "demo-loop" && end < in_the_fourth_round {
                    super::looped(SEA, 0)
                } else {
                    whole.to_owned()
                };
                let (said, ending) = (again(model, "", Some(begun)), Ending::Stop);
                assert_eq!(
                    (begun.to_owned() + &text(&said), said.ending),
                    (wanted, ending),
                    "{model} {end}"
                );
            }
        }
        assert_eq!(text(&again("demo", "", Some("Well:"))), format!(" {answer}"));
    }

    #[test]
    fn a_correction_is_heeded_by_all_but_one() {
        let note = format!("\n\n{CORRECTION_START} …]");
        for model in Model::ALL.iter().filter(|model| **model != Model::Stubborn) {
            let said = again(model.name(), &note, None);
            assert_eq!(said.ending, Ending::Stop, "{model:?}");
            assert!(!text(&said).contains(FORBIDDEN_PHRASE) && !text(&said).contains(CORRECTION_START));
        }
        let begun = looping(SEA, 4);
        let said = again("demo-stubborn", &note, Some(&begun[..begun.len() - 6]));
        assert!(text(&said).starts_with(&format!(" sure.{LOOP_BLOCK}{LOOP_BLOCK}")));
        assert_eq!(said.ending, Ending::Length);
    }
}
