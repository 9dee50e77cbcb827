mod bfcl;

use super::*;
use crate::decide::OnFailure;
use crate::event::{Channel, LaneId};
use crate::limits::JSON_DEPTH_MAX;
use crate::request::RequestFacts;
use crate::rules::Rulebook;
use crate::sentinel::Sentinel;
use proptest::prelude::*;
use serde_json::{Value, json};

const FINISHED: LaneEnd = LaneEnd::Finished(FinishReason::ToolCalls);
const CUT: LaneEnd = LaneEnd::Finished(FinishReason::Length);

fn offering(list: &Value) -> RequestFacts {
    RequestFacts {
        offered: Arc::new(Tools::read(Some(&list.to_string()), None, None)),
        ..RequestFacts::default()
    }
}

fn search() -> RequestFacts {
    let function = |name: &str, parameters: Value| json!({"type":"function","function":{"name":name,"parameters":parameters}});
    offering(&json!([
        function(
            "search",
            json!({"type":"object","required":["query"],"properties":{
                "query": {"type":"string"}, "limit": {"type":"integer"}, "tags": {"type":"array"}}})
        ),
        function("now", json!({"type":"object","properties":{}})),
    ]))
}

fn rule(settings: Settings, request: &RequestFacts) -> ToolArguments {
    let lane = LaneId::first(Channel::ToolArguments(0));
    ToolArguments::new(&settings, JSON_DEPTH_MAX, &LaneContext { lane, request })
}

/// What the rule raises over `parts`, and the arguments with the mends made.
fn run(mut rule: ToolArguments, name: Option<&str>, parts: &[&str], end: LaneEnd) -> (Vec<Raised>, String) {
    let mut raised = Vec::new();
    if let Some(name) = name {
        rule.named(name, &mut raised);
    }
    let mut at = 0;
    for part in parts {
        rule.feed(at, part, &mut raised);
        at += part.len() as u64;
    }
    rule.end(at, end, &mut raised);
    let mut text = parts.concat();
    for mend in raised.iter().rev().filter_map(|r| r.mend.clone()) {
        let Mend::Replace { span, text: with } = mend else {
            panic!("{mend:?}")
        };
        text.replace_range(span.start as usize..span.end as usize, &with);
    }
    (raised, text)
}

/// The only fault of a call of `search`: whether it was mended, into what, and what it says.
fn fault(arguments: &str, end: LaneEnd) -> (Option<String>, String) {
    let (raised, mended) = run(
        rule(Settings::default(), &search()),
        Some("search"),
        &[arguments],
        end,
    );
    let [raised] = raised.as_slice() else {
        panic!("{arguments}: {raised:?}")
    };
    assert_eq!((raised.code, raised.sound_to), (Code::ToolArguments, 0));
    (raised.mend.is_some().then_some(mended), raised.detail.clone())
}

#[test]
fn good_calls_are_quiet() {
    for (name, arguments) in [
        ("search", r#"{"query": "a"}"#),
        ("search", " {\"query\": \"\\n\", \"limit\": 3, \"more\": null}\n"),
        ("now", "{}"),
    ] {
        for end in [FINISHED, CUT, LaneEnd::Lost] {
            let (raised, _) = run(
                rule(Settings::default(), &search()),
                Some(name),
                &[arguments],
                end,
            );
            assert_eq!(raised, [], "{arguments}");
        }
    }
}

#[test]
fn certain_mends_are_offered() {
    for (arguments, end, mended, detail) in [
        (
            "{\"query\": \"a\tb\"}",
            FINISHED,
            r#"{"query": "a\tb"}"#,
            r#"the arguments of "search": the control character 0x09 inside a string: found '\t' at byte 12, inside a string, 1 bracket deep"#,
        ),
        (
            r#"{"query": "a", }"#,
            FINISHED,
            r#"{"query": "a" }"#,
            r#"the arguments of "search": a trailing comma: found '}' at byte 15, after a comma in an object, 1 bracket deep"#,
        ),
        (
            r#"{"query": "a", "tags": [1, "b""#,
            FINISHED,
            r#"{"query": "a", "tags": [1, "b"]}"#,
            r#"the arguments of "search": they end after an element of an array, 2 brackets deep"#,
        ),
        (
            r#"{"query": "a", "limit": 3"#,
            FINISHED,
            r#"{"query": "a", "limit": 3}"#,
            r#"the arguments of "search": they end inside a number, 1 bracket deep"#,
        ),
    ] {
        assert_eq!(
            fault(arguments, end),
            (Some(mended.to_owned()), detail.to_owned())
        );
    }
}

#[test]
fn slips_without_number_are_one_finding_and_one_mend() {
    let line = "a line\n";
    let text = format!("{{\"query\": \"{}\", }}", line.repeat(500));
    let pieces: Vec<&str> = text.split_inclusive('\n').collect();
    let (raised, mended) = run(
        rule(Settings::default(), &search()),
        Some("search"),
        &pieces,
        FINISHED,
    );
    assert_eq!(raised.len(), 1);
    assert!(
        raised[0].detail.ends_with("; 501 slips in all"),
        "{}",
        raised[0].detail
    );
    let value: Value = serde_json::from_str(&mended).unwrap();
    assert_eq!(value["query"], line.repeat(500));
    // They wait from the first one on.
    let mut rule = rule(Settings::default(), &search());
    rule.feed(0, "{\"query\": \"a\nb", &mut Vec::new());
    assert_eq!(rule.held_from(), Some(12));
}

#[test]
fn a_call_that_was_cut_behind_its_name_is_not_filled_in() {
    let (raised, _) = run(rule(Settings::default(), &search()), Some("now"), &[""], CUT);
    assert_eq!((raised.len(), raised[0].mend.is_none()), (1, true));
}

#[test]
fn what_would_guess_is_not_mended() {
    for (arguments, end, detail) in [
        (r#"{"query": "a"#, CUT, "they end inside a string, 1 bracket deep"),
        (
            r#"{"query": "a", "tags": [1, "b""#,
            CUT,
            "they end after an element of an array, 2 brackets deep",
        ),
        (
            r#"{"query": "a","#,
            CUT,
            "they end after a comma in an object, 1 bracket deep",
        ),
        (
            r#"{"query": "a", "limit": 3"#,
            CUT,
            "they end inside a number, 1 bracket deep",
        ),
        (
            r#"{"limit": 3, "tags": []"#,
            FINISHED,
            r#""query" is a required property"#,
        ),
        (
            r#"{"query": 5}"#,
            FINISHED,
            r#"at /query: 5 is not of type "string""#,
        ),
        ("[1]", FINISHED, "they are no object"),
        ("\"query\"", FINISHED, "they are no object"),
        (
            "",
            FINISHED,
            r#"there are none, and "query" is a required property"#,
        ),
        (
            "query=5",
            FINISHED,
            "text that is not JSON: found 'q' at byte 0, before the value",
        ),
        (
            r#"{"query": 'é'}"#,
            FINISHED,
            "a single quote instead of a double quote: found '\\'' at byte 10, after a colon, 1 bracket deep",
        ),
        (
            r#"{"query": "a"}{"query": "b"}"#,
            FINISHED,
            "text after the end of the value: found '{' at byte 14, after the value",
        ),
    ] {
        let wanted = format!("the arguments of \"search\": {detail}");
        assert_eq!(fault(arguments, end), (None, wanted));
    }
}

#[test]
fn a_fault_is_raised_where_it_is_certain() {
    let mut rule = rule(Settings::default(), &search());
    let mut raised = Vec::new();
    rule.named("search", &mut raised);
    rule.feed(0, "{\"query\":", &mut raised);
    assert_eq!(raised, []);
    rule.feed(9, "élan\"}", &mut raised);
    assert_eq!((raised[0].offset, raised[0].span.clone()), (11, 9..11));
    rule.feed(16, "]]]", &mut raised);
    rule.end(19, FINISHED, &mut raised);
    assert_eq!(raised.len(), 1);
}

#[test]
fn a_lost_lane_and_a_second_end_raise_nothing() {
    let mut rule = rule(Settings::default(), &search());
    let mut raised = Vec::new();
    rule.named("search", &mut raised);
    rule.feed(0, "{\"limit\": true, \"query\": \"\"", &mut raised);
    rule.end(27, LaneEnd::Lost, &mut raised);
    assert_eq!(raised, []);
    rule.end(27, FINISHED, &mut raised);
    rule.end(27, FINISHED, &mut raised);
    assert_eq!(raised.len(), 1, "{raised:?}");
}

#[test]
fn a_tool_that_takes_nothing_may_be_called_with_nothing() {
    let now =
        |request: &RequestFacts, name, text| run(rule(Settings::default(), request), name, &[text], FINISHED);
    for request in [search(), RequestFacts::default()] {
        for text in ["", " \n"] {
            let (raised, mended) = now(&request, Some("now"), text);
            assert_eq!((raised.len(), mended.as_str()), (1, "{}"));
            assert_eq!(raised[0].detail, "the arguments of \"now\": there are none");
        }
        // A call of another type than `function` has neither a name nor arguments.
        assert_eq!(now(&request, None, "").0, []);
    }
}

#[test]
fn unknown_tools_are_named_with_those_that_exist() {
    let (raised, _) = run(
        rule(Settings::default(), &search()),
        Some("serch"),
        &["{\"x\":", "1}"],
        FINISHED,
    );
    let detail = "the answer calls \"serch\", which is not offered; there are \"search\", \"now\"".to_owned();
    assert_eq!(raised, [Raised::new(Code::UnknownTool, 0, 0..0, detail)]);

    let many: Vec<Value> = (0..11)
        .map(|i| json!({"type":"function","function":{"name":format!("{i}{}", "n".repeat(90))}}))
        .collect();
    let (raised, _) = run(
        rule(Settings::default(), &offering(&json!(many))),
        Some("x\ny"),
        &["{}"],
        FINISHED,
    );
    let detail = &raised[0].detail;
    assert!(
        detail.starts_with("the answer calls \"x\\ny\", which") && detail.ends_with("…\" and 3 more"),
        "{detail}"
    );
    assert!(detail.contains("\"7nn") && !detail.contains("\"8nn") && detail.len() < 500);

    let forbidden = RequestFacts {
        offered: Arc::new(Tools::read(
            Some(&json!(many).to_string()),
            None,
            Some("\"none\""),
        )),
        ..RequestFacts::default()
    };
    let (raised, _) = run(
        rule(Settings::default(), &forbidden),
        Some("f"),
        &["{}"],
        FINISHED,
    );
    assert_eq!(
        raised[0].detail,
        "the answer calls \"f\", but the request has tool_choice none"
    );
}

#[test]
fn a_name_that_is_repeated_counts_once() {
    let mut rule = rule(Settings::default(), &search());
    let mut raised = Vec::new();
    for _ in 0..3 {
        rule.named("other", &mut raised);
        rule.feed(0, "", &mut raised);
    }
    assert_eq!(raised.len(), 1);
}

#[test]
fn only_json_is_checked_where_nothing_more_is_known() {
    let without = Settings {
        schema: false,
        ..Settings::default()
    };
    for (settings, request, name) in [
        (Settings::default(), RequestFacts::default(), Some("search")),
        (Settings::default(), search(), None),
        (without, search(), Some("search")),
    ] {
        let (raised, _) = run(rule(settings, &request), name, &[r#"{"query":5}"#], FINISHED);
        assert_eq!(raised, []);
        for broken in ["[]", "{]", "nul", "{\"a"] {
            let (raised, _) = run(rule(settings, &request), name, &[broken], FINISHED);
            assert_eq!(raised.len(), 1, "{broken}");
        }
    }
}

#[test]
fn arguments_beyond_the_bound_are_only_checked_to_be_json() {
    let long = format!(
        "{{\"query\": 5, \"x\": \"{}\"",
        "x".repeat(TOOL_ARGUMENTS_BYTES_MAX)
    );
    let whole = format!("{long}}}");
    for (text, raised) in [(&whole, 0), (&long, 1)] {
        let rule = rule(Settings::default(), &search());
        assert_eq!(run(rule, Some("search"), &[text], FINISHED).0.len(), raised);
    }
}

/// The whole way: from a request's body and what its answer says to findings.
#[test]
fn the_rulebook_watches_calls_and_with_an_option_texts() {
    let body = br#"{"messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":{"required":["x"]}}}]}"#;
    let request = Arc::new(crate::request::read(body, JSON_DEPTH_MAX).unwrap());
    for text_form in [false, true] {
        let mut book = Rulebook::default();
        book.tool_arguments.text_form = text_form;
        let mut sentinel = Sentinel::new(Arc::new(book), Arc::clone(&request), OnFailure::Open);
        let mut findings = Vec::new();
        let call = |index| LaneId::first(Channel::ToolArguments(index));
        sentinel.name(call(0), "f", &mut findings);
        sentinel.feed(call(0), "{}", &mut findings);
        sentinel.name(call(1), "g", &mut findings);
        sentinel.feed(
            LaneId::first(Channel::Content),
            "<tool_call>{}</tool_call>",
            &mut findings,
        );
        sentinel.finish(0, FinishReason::ToolCalls, &mut findings);
        let mut codes: Vec<_> = findings
            .iter()
            .map(|f| (f.lane.unwrap().to_string(), f.code))
            .collect();
        codes.sort();
        let content = ("content".to_owned(), Code::ToolArguments);
        let calls = [
            ("tool_arguments.0".to_owned(), Code::ToolArguments),
            ("tool_arguments.1".to_owned(), Code::ToolArguments),
            ("tool_arguments.1".to_owned(), Code::UnknownTool),
        ];
        let wanted: Vec<_> = text_form.then_some(content).into_iter().chain(calls).collect();
        assert_eq!(codes, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    /// Any split raises the same, and what is left of the call with the mends made and nothing else raised is JSON that
    /// fits.
    #[test]
    fn any_split_gives_the_same_findings(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"query\"", "\"limit\"", "\"", "\"é\"", "7", "-", "true", "nul", " ", "\n", "\\", "x",
        ]), 0..14),
        good in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        end in prop::sample::select(vec![FINISHED, CUT, LaneEnd::Finished(FinishReason::Stop), LaneEnd::Lost]),
    ) {
        let text = if good { format!("{{\"query\":\"a\",\"tags\":[{}", pieces.concat()) } else { pieces.concat() };
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(text.len() + 1)).filter(|i| text.is_char_boundary(*i)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let parts: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        let make = || rule(Settings::default(), &search());
        let (whole, mended) = run(make(), Some("search"), &[&text], end);
        prop_assert_eq!(&run(make(), Some("search"), &parts, end).0, &whole);
        if end != LaneEnd::Lost && whole.iter().all(|r| r.mend.is_some()) {
            let value: Value = serde_json::from_str(&mended).unwrap();
            prop_assert!(value["query"].is_string(), "{mended}");
            prop_assert_eq!(run(make(), Some("search"), &[&mended], end).0, []);
        }
    }
}
