use super::*;
use crate::event::{Channel, LaneId};
use crate::limits::JSON_DEPTH_MAX;
use crate::request::RequestFacts;
use proptest::prelude::*;
use serde_json::{Value, json};

const FINISHED: LaneEnd = LaneEnd::Finished(FinishReason::Stop);

fn request() -> RequestFacts {
    let parameters = json!({"type":"object","required":["query"],"properties":{"query":{"type":"string"}}});
    let list = json!([{"type":"function","function":{"name":"search","parameters":parameters}}]);
    RequestFacts {
        offered: Arc::new(Tools::read(Some(&list.to_string()), None, None)),
        ..RequestFacts::default()
    }
}

fn rule(request: &RequestFacts) -> TextCall {
    let lane = LaneId::first(Channel::Content);
    TextCall::new(
        &Settings::default(),
        JSON_DEPTH_MAX,
        &LaneContext { lane, request },
    )
}

/// What is raised over `parts`, and how far the text was free to go after each.
fn run(parts: &[&str], end: LaneEnd) -> (Vec<Raised>, Vec<u64>) {
    let (mut rule, mut raised, mut free) = (rule(&request()), Vec::new(), Vec::new());
    let mut at = 0;
    for part in parts {
        rule.feed(at, part, &mut raised);
        at += part.len() as u64;
        free.push(rule.held_from().unwrap_or(at));
    }
    rule.end(at, end, &mut raised);
    (raised, free)
}

fn fault(text: &str) -> Raised {
    let (mut raised, _) = run(&[text], FINISHED);
    assert_eq!(raised.len(), 1, "{text}: {raised:?}");
    raised.remove(0)
}

#[test]
fn valid_calls_and_other_text_are_quiet() {
    for text in [
        "I search.\n<tool_call>\n{\"name\": \"search\", \"arguments\": {\"query\": \"<b> </tool>\"}}\n</tool_call>\n",
        "<tool_call>{\"arguments\":{\"query\":\"\"},\"name\":\"search\"}</tool_call><tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"é\"}}</tool_call>",
        "The <tool_call> tag, <<tool_call>, <tool_call>x</tool_call> and a < b.",
        "<tool_call>\n<function=search>\n<parameter=query>\na\n</parameter>\n</function>\n</tool_call>",
        "</tool_call>{ <tool_cal",
        "Calls are written as `<tool_call>{\"name\": …}</tool_call>`, or ```<tool_call>{}</tool_call>```.",
        "For example:\n\n```xml\n<tool_call>\n{\"name\": \"<name>\"}\n</tool_call>\n```\nThat is all.",
        "  ~~~\n<tool_call>{\n~~~\n",
        "<tool_call>{\"name\":1,\"name\":\"search\",\"arguments\":5,\"arguments\":{\"query\":\"a\"}}</tool_call>",
        "",
    ] {
        let (raised, free) = run(&[text], FINISHED);
        assert_eq!(raised, [], "{text}");
        assert!(free[0] + 9 >= text.len() as u64, "{text}: {free:?}");
    }
}

#[test]
fn an_element_is_held_until_it_is_closed() {
    let parts = [
        "ab <to",
        "ol_call>",
        " \n",
        "{\"name\":\"search\",",
        "\"arguments\":{\"query\":\"<\"}}</tool",
        "_call>",
        "c<",
        "d",
    ];
    let (raised, free) = run(&parts, FINISHED);
    assert_eq!(raised, []);
    assert_eq!(free, [3, 3, 3, 3, 3, 71, 72, 74]);
}

#[test]
fn faults_name_the_whole_element() {
    let before = "é. ";
    for (element, code, detail) in [
        (
            r#"<tool_call>{"name": "search", "arguments": {"query": 'a'}}</tool_call>"#,
            Code::ToolArguments,
            "a tool call in the text is not JSON at its byte 42: a single quote instead of a double quote (after a colon, 2 brackets deep)",
        ),
        (
            r#"<tool_call>{"name": "serch", "arguments": {}}</tool_call>"#,
            Code::UnknownTool,
            r#"the answer calls "serch", which is not offered; there are "search""#,
        ),
        (
            r#"<tool_call>{"name": "search", "arguments": {"query": 5}}</tool_call>"#,
            Code::ToolArguments,
            r#"the arguments of "search": at /query: 5 is not of type "string""#,
        ),
        (
            r#"<tool_call>{"name": "search", "arguments": "{}"}</tool_call>"#,
            Code::ToolArguments,
            r#"the arguments of "search": they are no object"#,
        ),
        (
            r#"<tool_call>{"name": "search"}</tool_call>"#,
            Code::ToolArguments,
            "a tool call in the text is incomplete: it has no arguments",
        ),
        (
            r#"<tool_call>{"name": 5, "arguments": {}}</tool_call>"#,
            Code::ToolArguments,
            "a tool call in the text is incomplete: it has no name",
        ),
        (
            r#"<tool_call>{"name": "search", "arguments": {"query": ""}, "arguments": {"query": 5}}</tool_call>"#,
            Code::ToolArguments,
            r#"the arguments of "search": at /query: 5 is not of type "string""#,
        ),
        (
            r#"<tool_call>{"name": "search", "arguments": {"query": "a </tool_call>"#,
            Code::ToolArguments,
            "a tool call in the text is not JSON at its byte 44: the text ends inside a string, 2 brackets deep",
        ),
    ] {
        let raised = fault(&format!("{before}{element}"));
        let span = 4..4 + element.len() as u64;
        assert_eq!(
            raised,
            Raised::new(code, span.end, span.clone(), detail.to_owned()),
            "{element}"
        );
        assert_eq!(raised.sound_to, 4);
    }
}

#[test]
fn what_follows_a_faulty_element_is_still_checked() {
    let bad = r#"<tool_call>{"name": "x", "arguments": {}}</tool_call>"#;
    let (raised, _) = run(&[&format!("{bad} {bad}")], FINISHED);
    let spans: Vec<_> = raised.iter().map(|r| r.span.clone()).collect();
    assert_eq!(spans, [0..53, 54..107]);
}

#[test]
fn certain_mends_are_offered() {
    for (text, mended) in [
        (
            "a <tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"b\",}} </tool_call> c",
            "a <tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"b\"}} </tool_call> c",
        ),
        (
            "<tool_call>\n{\"name\":\"search\",\"arguments\":{\"query\":\"a\nb\"}\n</tool_call>",
            "<tool_call>\n{\"name\":\"search\",\"arguments\":{\"query\":\"a\\nb\"}}\n</tool_call>",
        ),
        (
            "<tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"a\"}}\n</tool",
            "<tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"a\"}}</tool_call>",
        ),
        (
            "<tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"a\"",
            "<tool_call>{\"name\":\"search\",\"arguments\":{\"query\":\"a\"}}</tool_call>",
        ),
    ] {
        let Some(Mend::Replace { span, text: with }) = fault(text).mend else {
            panic!("{text}")
        };
        let mut made = text.to_owned();
        made.replace_range(span.start as usize..span.end as usize, &with);
        assert_eq!(made, mended);
        assert_eq!(run(&[&made], FINISHED).0, []);
    }
}

#[test]
fn an_element_that_never_closes_is_a_fault() {
    let cut_off = LaneEnd::Finished(FinishReason::Length);
    assert_eq!(run(&["a <tool_call>"], cut_off).0[0].span, 2..13);
    assert_eq!(run(&["The tag is <tool_call>\n"], FINISHED).0, []);
    let raised = fault("a <tool_call> {\"name\":");
    assert_eq!((raised.span, raised.mend), (2..22, None));
    assert_eq!(run(&["a <tool_call> {\"name\":"], LaneEnd::Lost).0, []);
}

#[test]
fn an_element_beyond_the_bound_is_a_fault_and_not_kept() {
    for fill in ["x", "</tool_ca"] {
        let fill = fill.repeat(TOOL_ARGUMENTS_BYTES_MAX / fill.len() + 9);
        let text = format!("<tool_call>{{\"name\":\"{fill}");
        let (raised, free) = run(&[&text, "."], FINISHED);
        assert_eq!(raised.len(), 1);
        let first = 11 + TOOL_ARGUMENTS_BYTES_MAX as u64 + 1;
        assert!(
            (first..first + 12).contains(&raised[0].offset),
            "{}",
            raised[0].offset
        );
        assert_eq!(free, [text.len() as u64, text.len() as u64 + 1]);
    }
}

#[test]
fn a_call_behind_code_is_checked() {
    let call = r#"<tool_call>{"name": "x", "arguments": {}}</tool_call>"#;
    for before in ["```\ncode\n```\n", "`<tool_call>` ", "``` ", "a ```\n"] {
        let text = format!("{before}{call}");
        assert_eq!(fault(&text).span.start, before.len() as u64, "{before}");
    }
}

/// Whether what follows a text is shown as code, by its lines.
fn is_code(text: &str) -> bool {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut fence: Option<&str> = None;
    for line in &lines[..lines.len() - 1] {
        let line = line.trim_start_matches([' ', '\t']);
        let Some(mark) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else {
            continue;
        };
        let rest = line.trim_start_matches(mark);
        let marks = &line[..line.len() - rest.len()];
        fence = match fence {
            _ if marks.len() < 3 => fence,
            None => Some(marks).filter(|_| mark != '`' || !rest.contains('`')),
            Some(open) => Some(open)
                .filter(|open| !marks.starts_with(open) || !rest.trim_start_matches([' ', '\t']).is_empty()),
        };
    }
    fence.is_some() || text.ends_with('`')
}

/// Where the faulty elements of a whole text begin, by a reader of its own.
fn faulty(text: &str, cut_off: bool) -> Vec<u64> {
    let (mut starts, mut at) = (Vec::new(), 0);
    // The text without its elements.
    let (mut outside, mut done) = (String::new(), 0);
    while let Some(found) = text[at..].find("<tool_call>") {
        let start = at + found;
        outside.push_str(&text[done..start]);
        done = start;
        at = start + 11;
        let body = text[at..].trim_start();
        let bare = body.is_empty() && !cut_off;
        if is_code(&outside) || bare || !body.is_empty() && !body.starts_with('{') {
            continue;
        }
        outside.push('x');
        let close = body.find("</tool_call>");
        let fits = close.is_some_and(|close| {
            serde_json::from_str::<Value>(&body[..close])
                .is_ok_and(|call| call["name"] == "search" && call["arguments"]["query"].is_string())
        });
        if !fits {
            starts.push(start as u64);
        }
        at = close.map_or(text.len(), |close| text.len() - body.len() + close + 12);
        done = at;
    }
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn any_split_gives_the_same_findings(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<tool_", "call>", "</", "<", "{", "}}", "\n", "é", "a",
            "{\"name\":\"search\",\"arguments\":{", "\"query\":\"x\"", "\"query\":3", "{\"name\":\"y\",\"arguments\":{", ",", "\"",
            "```", "`", "~~~", "\n```\n", " ",
        ]), 0..14),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        end in prop::sample::select(vec![FINISHED, LaneEnd::Finished(FinishReason::Length), LaneEnd::Lost]),
    ) {
        let text = pieces.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(text.len() + 1)).filter(|i| text.is_char_boundary(*i)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let parts: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        let (whole, _) = run(&[&text], end);
        let (split, free) = run(&parts, end);
        prop_assert_eq!(&split, &whole);
        // Nothing of a fault was free to go before it was raised.
        let mut at = 0;
        for (part, free) in parts.iter().zip(free) {
            at += part.len() as u64;
            for raised in whole.iter().filter(|r| r.offset > at) {
                prop_assert!(free <= raised.span.start.min(at));
            }
        }
        if end != LaneEnd::Lost {
            let starts: Vec<u64> = whole.iter().map(|r| r.span.start).collect();
            prop_assert_eq!(starts, faulty(&text, end != FINISHED));
        }
    }
}
