mod bodies;
mod joints;
mod properties;

use super::*;
use crate::capabilities::{Flavour, Prefill};
use crate::limits::JSON_DEPTH_MAX;
use crate::request;
use NotInjectable::{CallReleased, Constrained, Logprobs, NoTokensLeft, NoTurns, SeveralChoices, Unreadable};
use serde_json::{Value, json};

const NOTE: &str = "[Note: \"again\"]";

/// Everything that a plan is made of.
#[derive(Debug)]
struct Case {
    dialect: Dialect,
    body: String,
    capabilities: Capabilities,
    released: Draft,
    sound: Draft,
    call_released: bool,
    fault: Option<Channel>,
    correction: Option<String>,
    placement: Placement,
}

/// llama-server, a plain chat, nothing out.
fn chat() -> Case {
    Case {
        dialect: Dialect::Chat,
        body: r#"{"messages":[{"role":"user","content":"Say it."}]}"#.into(),
        capabilities: Flavour::LlamaServer.into(),
        released: Draft::default(),
        sound: Draft::default(),
        call_released: false,
        fault: None,
        correction: None,
        placement: Placement::UserTail,
    }
}

fn legacy() -> Case {
    Case {
        dialect: Dialect::Completions,
        body: r#"{"prompt":"Once \u00fcpon","max_tokens":9}"#.into(),
        ..chat()
    }
}

fn draft(content: &str, reasoning: &str) -> Draft {
    Draft {
        content: content.into(),
        reasoning: reasoning.into(),
        tokens: 4,
        thoughts: 0,
    }
}

impl Case {
    /// The same with another member in the body.
    fn with(mut self, member: &str) -> Self {
        self.body.pop();
        self.body = format!("{},{member}}}", self.body);
        self
    }

    fn messages(self, messages: &str) -> Self {
        Self {
            body: format!(r#"{{"messages":{messages}}}"#),
            ..self
        }
    }

    fn flavour(self, flavour: Flavour) -> Self {
        Self {
            capabilities: flavour.into(),
            ..self
        }
    }

    /// This much is out, and nothing is held.
    fn out(self, content: &str, reasoning: &str) -> Self {
        Self {
            released: draft(content, reasoning),
            sound: draft(content, reasoning),
            ..self
        }
    }

    /// This much is held, and nothing is out.
    fn held(self, content: &str, reasoning: &str) -> Self {
        Self {
            sound: draft(content, reasoning),
            ..self
        }
    }

    fn fault(self, channel: Channel) -> Self {
        Self {
            fault: Some(channel),
            ..self
        }
    }

    fn corrected(self) -> Self {
        Self {
            correction: Some(NOTE.into()),
            ..self
        }
    }

    fn ask(&self) -> Result<Ask, NotInjectable> {
        let facts = request::read(self.body.as_bytes(), JSON_DEPTH_MAX).unwrap();
        let original = Original {
            body: self.body.as_bytes(),
            dialect: self.dialect,
            facts: &facts,
        };
        let wanted = Wanted {
            released: &self.released,
            sound: &self.sound,
            call_released: self.call_released,
            fault: self.fault,
            correction: self.correction.as_deref(),
            placement: self.placement,
        };
        plan(&original, &self.capabilities, &wanted)
    }

    fn plan(&self) -> Result<Plan, NotInjectable> {
        self.ask().map(|ask| ask.plan)
    }

    fn joint(&self) -> Joint {
        self.ask().unwrap().joint
    }

    fn body(&self) -> String {
        String::from_utf8(self.ask().unwrap().body.to_vec()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body()).unwrap()
    }
}

#[test]
fn what_cannot_be_asked_again_is_named_first_things_first() {
    let all = || {
        let case = Case {
            call_released: true,
            ..chat().fault(Channel::Refusal)
        };
        case.messages("7")
    };
    let logprobs = r#""logprobs":true"#;
    assert_eq!(all().with(logprobs).with(r#""n":2"#).plan(), Err(SeveralChoices));
    assert_eq!(all().with(logprobs).plan(), Err(Logprobs));
    assert_eq!(all().plan(), Err(CallReleased));
    let refusal = chat().fault(Channel::Refusal).messages("7");
    assert_eq!(refusal.plan(), Err(NotInjectable::OtherLanes));
    for messages in ["7", "null", r#"{"role":"user"}"#, r#"["hi"]"#, "[{},[]]"] {
        assert_eq!(chat().messages(messages).plan(), Err(Unreadable), "{messages}");
    }
    let absent = Case {
        body: r#"{"model":"m"}"#.into(),
        ..chat()
    };
    assert_eq!(absent.plan(), Err(Unreadable));
    assert_eq!(chat().messages("[]").plan(), Ok(Plan::Redo));
}

#[test]
fn resume_has_what_is_left_of_the_budget_and_redo_all_of_it() {
    let budgets = r#""max_tokens":10,"max_completion_tokens":5,"n_predict":6.0"#;
    let resumed = chat().out("Rivers", "").with(budgets).json();
    assert_eq!(
        (
            &resumed["max_tokens"],
            &resumed["max_completion_tokens"],
            &resumed["n_predict"]
        ),
        (&json!(6), &json!(1), &json!(2))
    );
    let appended = chat().out("Rivers", "").with(budgets).flavour(Flavour::None);
    assert_eq!(appended.plan(), Ok(Plan::Append));
    assert_eq!(appended.json()["max_tokens"], 6);
    assert_eq!(chat().held("", "Hm").with(budgets).json()["max_tokens"], 10);
    let thought = chat().out("", "Hm").fault(Channel::Reasoning).with(budgets);
    assert_eq!(thought.json()["max_tokens"], 6);
    for name in ["max_tokens", "max_completion_tokens", "n_predict"] {
        let spent = |left: u64| chat().out("Rivers", "").with(&format!(r#""{name}":{left}"#));
        assert_eq!(spent(4).plan(), Err(NoTokensLeft));
        assert_eq!(spent(3).plan(), Err(NoTokensLeft));
        assert_eq!(spent(5).json()[name], 1);
    }
    for unbound in ["-1", "0", "null", "2.5", "\"9\"", "-0.0", "1e300"] {
        let case = chat()
            .out("Rivers", "")
            .with(&format!(r#""n_predict":{unbound}"#));
        assert!(
            case.body().contains(&format!(r#""n_predict":{unbound},"#)),
            "{unbound}"
        );
    }
}

#[test]
fn text_that_is_out_is_resumed_where_the_upstream_can() {
    use Flavour as F;
    let plain = chat;
    let schema = || chat().with(r#""response_format":{"type":"json_object"}"#);
    let grammar = || chat().with(r#""grammar":"root ::= x""#);
    type Plans = [Result<Plan, NotInjectable>; 3];
    let (redo, resume, append) = (Ok(Plan::Redo), Ok(Plan::Resume), Ok(Plan::Append));
    let no = Err(Constrained);
    let rows: &[(F, Plans, Plans)] = &[
        (F::LlamaServer, [resume, resume, no], [resume, resume, redo]),
        (F::LlamaServerOld, [resume, no, no], [resume, redo, redo]),
        (F::Vllm, [resume, no, no], [resume, redo, redo]),
        (F::Sglang, [resume, no, no], [resume, redo, redo]),
        (F::Ollama, [resume, no, no], [resume, redo, redo]),
        (F::Tabbyapi, [resume, no, no], [resume, redo, redo]),
        (F::LmStudio, [resume, no, no], [resume, redo, redo]),
        (F::None, [append, no, no], [redo, redo, redo]),
    ];
    assert_eq!(rows.len(), F::ALL.len());
    for (flavour, out, held) in rows {
        for (index, make) in [plain as fn() -> Case, schema, grammar].into_iter().enumerate() {
            let case = || make().flavour(*flavour).fault(Channel::Content).corrected();
            assert_eq!(case().out("{\"a", "Hm").plan(), out[index], "{flavour:?} {index}");
            assert_eq!(
                case().held("{\"a", "Hm").plan(),
                held[index],
                "{flavour:?} {index}"
            );
            let spaces = case().out("\n\n", "").held("{\"a", "");
            let spaces = Case {
                released: draft("\n\n", ""),
                ..spaces
            };
            assert_eq!(spaces.plan(), held[index], "{flavour:?} {index}");
        }
    }
}

#[test]
fn a_schema_is_never_appended_even_if_it_would_go_on_behind_a_prefill() {
    let odd = Capabilities {
        prefill: Prefill::No,
        ..Flavour::LlamaServer.into()
    };
    let case = chat().with(r#""json_schema":{}"#).out("{", "");
    assert_eq!(
        Case {
            capabilities: odd,
            ..case
        }
        .plan(),
        Err(Constrained)
    );
}

#[test]
fn a_thought_is_closed_when_it_is_complete_or_at_fault() {
    let faults = [Channel::Content, Channel::ToolArguments(0), Channel::Reasoning];
    for fault in faults {
        let closed = chat().out("", "Hm. \n").held("\n ", "Hm. So \n").fault(fault);
        let ask = closed.ask().unwrap();
        assert_eq!((ask.plan, ask.keeps_sound), (Plan::Resume, true), "{fault:?}");
        assert_eq!(ask.joint.reasoning, Shown::Dropped);
        assert_eq!((ask.joint.echo, ask.joint.spaced.as_str()), (None, "\n "));
        let message = json!({"role": "assistant", "content": "\n", "reasoning_content": "Hm. So"});
        assert_eq!(closed.json()["messages"][1], message);
        for open in [
            chat().held("", "").fault(fault),
            chat().held("", " \n").fault(fault),
            chat().held("", "Hm").fault(fault).flavour(Flavour::Vllm),
            chat()
                .held("", "Hm")
                .fault(fault)
                .with(r#""grammar":"root ::= x""#),
        ] {
            let ask = open.ask().unwrap();
            assert_eq!((ask.plan, ask.keeps_sound), (Plan::Redo, false), "{fault:?}");
        }
    }
    // It broke off while it was thinking: what it would have thought is not known.
    assert_eq!(chat().out("", "Hm").plan(), Ok(Plan::Redo));
    // A thought that comes with content is at fault, but the content is sound.
    let both = chat().out("Yes", "Hm").fault(Channel::Reasoning);
    assert_eq!(both.json()["messages"][1]["content"], "Yes");
}

#[test]
fn thinking_is_switched_off_only_for_a_redo_of_a_faulty_thought() {
    let case = || {
        chat()
            .flavour(Flavour::Vllm)
            .out("", "Hm")
            .fault(Channel::Reasoning)
    };
    assert_eq!(
        case().json()["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
    let kept = case().with(r#""chat_template_kwargs":{"a":1.0,"enable_thinking":true,"b":[ ]}"#);
    assert!(
        kept.body()
            .contains(r#""chat_template_kwargs":{"a":1.0,"enable_thinking":false,"b":[ ]}"#)
    );
    let null = case().with(r#""chat_template_kwargs":null"#);
    assert_eq!(
        null.json()["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
    assert_eq!(
        case().with(r#""chat_template_kwargs":"x""#).plan(),
        Err(Unreadable)
    );
    let ollama = case()
        .flavour(Flavour::Ollama)
        .with(r#""reasoning_effort":"high""#);
    assert_eq!(ollama.json()["reasoning_effort"], "none");
    let unknown = case().flavour(Flavour::LmStudio);
    assert_eq!(unknown.body(), unknown.body);
    let content = case().fault(Channel::Content);
    assert_eq!(content.body(), content.body);
}

#[test]
fn a_legacy_prompt_is_continued_as_text() {
    let ask = legacy().out("a t\"ime", "").ask().unwrap();
    assert_eq!(ask.body, r#"{"prompt":"Once \u00fcpona t\"ime","max_tokens":5}"#);
    assert_eq!((ask.plan, ask.keeps_sound), (Plan::Resume, true));
    assert_eq!(
        legacy().out("a", "").flavour(Flavour::None).plan(),
        Ok(Plan::Resume)
    );
    assert_eq!(legacy().body(), legacy().body);
    assert_eq!(legacy().corrected().plan(), Err(NoTurns));
    for prompt in ["[1,2]", r#"["a"]"#, "null", "{}"] {
        let case = Case {
            body: format!(r#"{{"prompt":{prompt}}}"#),
            ..legacy()
        };
        assert_eq!(case.plan(), Err(Unreadable), "{prompt}");
    }
    for member in [r#""echo":true"#, r#""suffix":" end""#] {
        assert_eq!(
            legacy().with(member).out("a", "").plan(),
            Err(Unreadable),
            "{member}"
        );
        assert_eq!(
            legacy().with(member).held("a", "").plan(),
            Ok(Plan::Redo),
            "{member}"
        );
    }
    for member in [r#""echo":false"#, r#""suffix":null"#, r#""suffix":"""#] {
        assert_eq!(
            legacy().with(member).out("a", "").plan(),
            Ok(Plan::Resume),
            "{member}"
        );
    }
    let schema = || legacy().with(r#""json_schema":{}"#);
    assert_eq!(schema().out("{", "").plan(), Err(Constrained));
    assert_eq!(schema().held("{", "").plan(), Ok(Plan::Redo));
    let spent = Draft {
        tokens: 9,
        ..draft("a", "")
    };
    assert_eq!(
        Case {
            sound: spent,
            ..legacy()
        }
        .plan(),
        Err(NoTokensLeft)
    );
}
