use super::*;
use crate::event::{Channel, FinishReason, LaneId};
use crate::json::mend::careless::{careless, dice, value};
use crate::request::RequestFacts;
use proptest::prelude::*;

const STOP: LaneEnd = LaneEnd::Finished(FinishReason::Stop);

fn rule(fence: Fence, tools: bool) -> BrokenJson {
    let request = RequestFacts {
        json: true,
        tools,
        ..RequestFacts::default()
    };
    let settings = Settings {
        fence,
        ..Settings::default()
    };
    BrokenJson::new(
        &settings,
        &LaneContext {
            lane: LaneId::first(Channel::Content),
            request: &request,
        },
    )
}

/// Feeds the pieces, then ends the lane. Whatever is to be mended must not have been free to leave before.
fn run<'a>(mut rule: BrokenJson, pieces: impl IntoIterator<Item = &'a str>, end: LaneEnd) -> Vec<Raised> {
    let (mut at, mut raised, mut released) = (0, Vec::new(), 0);
    for piece in pieces {
        let before = raised.len();
        rule.feed(at, piece, &mut raised);
        assert_held(&raised[before..], released);
        at += piece.len() as u64;
        released = rule.held_from().unwrap_or(at).max(released);
    }
    let before = raised.len();
    rule.end(at, end, &mut raised);
    assert_held(&raised[before..], released);
    raised
}

#[track_caller]
fn assert_held(raised: &[Raised], released: u64) {
    for found in raised {
        if let Some(Mend::Replace { span, .. }) = &found.mend {
            assert!(span.start >= released, "{found:?} comes too late: {released}");
            assert!(span.start <= found.sound_to || found.code == Code::TruncatedJson);
        }
    }
}

/// The text with all mends made.
fn mended(text: &str, raised: &[Raised]) -> String {
    let mut out = text.to_owned();
    for found in raised.iter().rev() {
        if let Some(Mend::Replace { span, text }) = &found.mend {
            out.replace_range(span.start as usize..span.end as usize, text);
        }
    }
    out
}

fn replace(span: std::ops::Range<u64>, text: &str) -> Option<Mend> {
    Some(Mend::Replace {
        span,
        text: text.to_owned(),
    })
}

fn one(fence: Fence, text: &str, end: LaneEnd) -> Option<Raised> {
    let mut raised = run(rule(fence, false), [text], end);
    assert!(raised.len() <= 1, "{raised:?}");
    raised.pop()
}

#[test]
fn the_fault_lies_at_the_impossible_scalar() {
    for (text, span, detail) in [
        (
            "{\"a\":1,}",
            7..8,
            "a trailing comma: found '}' at byte 7, after a comma in an object, 1 bracket deep",
        ),
        (
            "{\"é\":é}",
            6..8,
            "no value where one is needed: found 'é' at byte 6, after a colon, 1 bracket deep",
        ),
        (
            "😀",
            0..4,
            "text that is not JSON: found '😀' at byte 0, before the value",
        ),
        (
            "[\"\\😀\"]",
            3..7,
            "an escape that JSON does not have: found '😀' at byte 3, inside an escape of a string, 1 bracket deep",
        ),
        (
            "```json\n{}\n```",
            0..1,
            "a backtick, as of a Markdown fence: found '`' at byte 0, before the value",
        ),
        (
            "{} x",
            3..4,
            "text after the end of the value: found 'x' at byte 3, after the value",
        ),
    ] {
        let raised = one(Fence::Forbid, text, STOP).unwrap();
        assert_eq!(
            (raised.code, raised.offset, raised.span),
            (Code::BrokenJson, span.end, span),
            "{text}"
        );
        assert_eq!(raised.detail, detail, "{text}");
    }
}

#[test]
fn certain_mends_are_offered_and_the_rule_reads_on() {
    let text = "{\"a\n\":[1 ,\n],\"b\":\"\u{1}\",}";
    let raised = run(rule(Fence::Forbid, false), [text], STOP);
    let found: Vec<_> = raised
        .iter()
        .map(|r| (r.offset, r.span.clone(), r.sound_to, r.mend.clone()))
        .collect();
    assert_eq!(
        found,
        [
            (4, 3..4, 3, replace(3..4, "\\n")),
            (12, 11..12, 9, replace(9..10, "")),
            (19, 18..19, 18, replace(18..19, "\\u0001")),
            (22, 21..22, 20, replace(20..21, "")),
        ]
    );
    assert_eq!(
        raised[1].detail,
        "a trailing comma: found ']' at byte 11, after a comma in an array, 2 brackets deep"
    );
    assert_eq!(mended(text, &raised), "{\"a\\n\":[1 \n],\"b\":\"\\u0001\"}");

    // A fault without a mend is the last one.
    let raised = run(rule(Fence::Forbid, false), ["[\"\t\",]", "x", "\n,]"], STOP);
    let found: Vec<_> = raised.iter().map(|r| (r.span.start, r.mend.is_some())).collect();
    assert_eq!(found, [(2, true), (5, true), (6, false)]);

    let fenced = "```json\n[1,]\n```\n";
    let raised = run(rule(Fence::Allow, false), [fenced], STOP);
    assert_eq!(mended(fenced, &raised), "```json\n[1]\n```\n");
    assert_eq!(raised.len(), 1);
}

#[test]
fn mends_have_a_bound() {
    let text = format!("[\"{}\"]", "\n".repeat(1000));
    let raised = run(rule(Fence::Forbid, false), [text.as_str()], STOP);
    assert_eq!(raised.len(), MENDS_MAX as usize + 1);
    assert!(raised[..MENDS_MAX as usize].iter().all(|r| r.mend.is_some()));
    assert_eq!(raised[MENDS_MAX as usize].mend, None);
}

#[test]
fn nothing_but_a_comma_is_held() {
    for (text, held) in [
        ("{\"a\": 1 ", None),
        ("{\"a\": 1 ,", Some(8)),
        ("{\"a\": 1 , \n", Some(8)),
        ("{\"a\": 1 , \"", None),
        ("[\"a,", None),
        ("[1,x", None),
        ("[1,,", None),
        ("[1],", None),
    ] {
        for fence in [Fence::Forbid, Fence::Allow] {
            let mut rule = rule(fence, false);
            rule.feed(0, text, &mut Vec::new());
            assert_eq!(rule.held_from(), held, "{text:?}");
        }
    }
}

#[test]
fn missing_closers_are_a_mend_at_the_end() {
    let length = LaneEnd::Finished(FinishReason::Length);
    for (text, end, mend) in [
        ("[{\"a\":\"b\"", STOP, replace(9..9, "}]")),
        ("[{\"a\":\"b\"", length, replace(9..9, "}]")),
        ("[{\"a\":\"b\", ", STOP, replace(9..11, "}]")),
        ("[{\"a\":\"b\", ", length, None),
        ("[{", STOP, None),
        ("[12", STOP, replace(3..3, "]")),
        ("[12", length, None),
        ("[\"", STOP, None),
        ("tr", length, replace(2..2, "ue")),
    ] {
        let raised = one(Fence::Forbid, text, end).unwrap();
        assert_eq!(
            (raised.code, raised.mend),
            (Code::TruncatedJson, mend),
            "{text:?}"
        );
        assert_eq!(raised.sound_to, text.len() as u64);
    }
    // A client that stops the model at the closing fence never sees it, so only the value is closed.
    let raised = one(Fence::Allow, "```json\n[true\n", STOP).unwrap();
    assert_eq!(raised.mend, replace(14..14, "]"));

    // What comes after the end comes after the closers.
    let mut rule = rule(Fence::Forbid, false);
    let mut raised = Vec::new();
    rule.feed(0, "[true", &mut raised);
    rule.end(5, STOP, &mut raised);
    rule.feed(5, "]", &mut raised);
    rule.end(6, STOP, &mut raised);
    let codes: Vec<_> = raised.iter().map(|r| r.code).collect();
    assert_eq!(codes, [Code::TruncatedJson, Code::BrokenJson]);
}

#[test]
fn the_depth_limit_is_the_settings() {
    let request = RequestFacts::default();
    let context = LaneContext {
        lane: LaneId::first(Channel::Content),
        request: &request,
    };
    let settings = Settings {
        depth_max: 2,
        ..Settings::default()
    };
    let raised = run(BrokenJson::new(&settings, &context), ["[[", "[]]]"], STOP);
    assert_eq!(raised[0].span, 2..3);
    assert!(
        raised[0].detail.starts_with("brackets nested deeper than 2"),
        "{}",
        raised[0].detail
    );
    assert_eq!(raised.len(), 1);
}

#[test]
fn an_end_inside_the_value_is_truncation_and_never_both() {
    let length = LaneEnd::Finished(FinishReason::Length);
    let raised = one(Fence::Forbid, " {\"a\":[\"b", length).unwrap();
    assert_eq!(
        (raised.code, raised.offset, raised.span),
        (Code::TruncatedJson, 9, 1..9)
    );
    assert_eq!(
        raised.detail,
        "the answer ended inside a string, 2 brackets deep (finish_reason length)"
    );

    assert_eq!(
        one(Fence::Forbid, "{\"a\":}", length).unwrap().code,
        Code::BrokenJson
    );
    assert_eq!(
        one(Fence::Forbid, "  ", STOP).unwrap().detail,
        "the answer ended without a JSON value (finish_reason stop)"
    );
    assert_eq!(one(Fence::Forbid, "-", STOP).unwrap().code, Code::TruncatedJson);
    for whole in ["{}", "12", " [1] \n", "\"x\"", "null"] {
        assert_eq!(one(Fence::Forbid, whole, STOP), None, "{whole}");
        assert_eq!(one(Fence::Allow, whole, STOP), None, "{whole}");
    }
    for end in [
        LaneEnd::Lost,
        LaneEnd::Finished(FinishReason::ToolCalls),
        LaneEnd::Finished(FinishReason::ContentFilter),
    ] {
        assert_eq!(one(Fence::Forbid, "", end), None);
        assert_eq!(one(Fence::Forbid, "{", end), None);
    }
}

#[test]
fn an_answer_of_tool_calls_alone_owes_no_content() {
    assert_eq!(run(rule(Fence::Forbid, true), ["", "\n"], STOP), []);
    assert_eq!(run(rule(Fence::Allow, true), [" "], STOP), []);
    assert_eq!(run(rule(Fence::Forbid, true), ["{"], STOP).len(), 1);
    assert_eq!(run(rule(Fence::Allow, true), ["```json\n"], STOP).len(), 1);
}

#[test]
fn fences_are_taken_where_allowed() {
    for text in [
        "```json\n{\"a\":1}\n```",
        "\n ```\n[1]```\n\n",
        "``` json \r\n{}\r\n```  ",
        "````json5\n{}\n````",
        "```\n12```",
        "```\n12\n````",
        "{\"a\":\"```\"}",
        // A client may have stopped the model at the closing fence.
        "```json\n{}",
        "```json\n{}\n``",
    ] {
        assert_eq!(one(Fence::Allow, text, STOP), None, "{text:?}");
    }
    for (text, from, what) in [
        ("``{}", 2, "fewer than three backticks before the value"),
        (
            "```{}```",
            3,
            "more than one word on the line of the opening fence",
        ),
        (
            "```json is\n{}",
            8,
            "more than one word on the line of the opening fence",
        ),
        ("```\n{}``\n", 8, "a closing fence shorter than the opening one"),
        (
            "````\n{}\n```\n",
            11,
            "a closing fence shorter than the opening one",
        ),
        ("```\n{}\n```\nDone.", 11, "text after the closing fence"),
        ("```\n{}\n```é", 10, "text after the closing fence"),
        ("```\n{} x", 7, "text after the end of the value"),
        ("```\n```", 4, "a backtick, as of a Markdown fence"),
        ("{}\n```", 3, "text after the end of the value"),
        ("Here: ```\n{}\n```", 0, "text that is not JSON"),
    ] {
        let raised = one(Fence::Allow, text, STOP).unwrap();
        assert_eq!(
            (raised.code, raised.span.start),
            (Code::BrokenJson, from),
            "{text:?}"
        );
        assert!(
            raised.detail.starts_with(&format!("{what}: found")),
            "{text:?}: {}",
            raised.detail
        );
    }
    for (text, span) in [
        ("```json", 0..7),
        ("```\n", 0..4),
        ("``", 0..2),
        ("```\n {\"a\"", 5..9),
    ] {
        let raised = one(Fence::Allow, text, STOP).unwrap();
        assert_eq!(
            (raised.code, raised.span),
            (Code::TruncatedJson, span),
            "{text:?}"
        );
    }
}

/// Cuts a text at the scalars where `cuts` says so.
fn pieces<'a>(text: &'a str, cuts: &[bool]) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for (count, (index, _)) in text.char_indices().enumerate() {
        if cuts[count % cuts.len()] {
            pieces.push(&text[from..index]);
            from = index;
        }
    }
    pieces.push(&text[from..]);
    pieces
}

proptest! {
    #[test]
    fn any_split_gives_the_same_findings(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "1", "é", "😀", "\\", "u00", " ", "\n", "`", "```", "```json\n", "null", "-",
        ]), 0..14),
        cuts in prop::collection::vec(any::<bool>(), 64),
        fence in prop::sample::select(vec![Fence::Forbid, Fence::Allow]),
    ) {
        let text = tokens.concat();
        let whole = run(rule(fence, false), [text.as_str()], STOP);
        let pieces = pieces(&text, &cuts);
        prop_assert_eq!(run(rule(fence, false), pieces, STOP), whole);
    }

    #[test]
    fn mends_give_what_was_meant(
        value in value(),
        dice in dice(),
        cuts in prop::collection::vec(any::<bool>(), 64),
        closers in 0usize..8,
    ) {
        let text = careless(&value, &dice);
        // Cuts closing brackets away, and the commas and white space between them.
        let mut kept = text.as_str();
        for _ in 0..closers {
            match kept.strip_suffix([']', '}', ',', ' ', '\n']) {
                Some(rest) => kept = rest,
                None => break,
            }
        }
        // A bracket without anything in it is not closed.
        prop_assume!(!kept.trim_end().ends_with(['[', '{']));
        let raised = run(rule(Fence::Forbid, false), pieces(kept, &cuts), STOP);
        prop_assume!(raised.len() < MENDS_MAX as usize);
        prop_assert_eq!(&raised, &run(rule(Fence::Forbid, false), [kept], STOP));
        prop_assert!(raised.is_sorted_by_key(|r| r.offset));
        let mended = mended(kept, &raised);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&mended).ok(), Some(value), "{:?}", mended);
    }
}
