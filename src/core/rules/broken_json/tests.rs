use super::*;
use crate::event::{Channel, FinishReason, LaneId};
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

/// Feeds the pieces, then ends the lane.
fn run<'a>(mut rule: BrokenJson, pieces: impl IntoIterator<Item = &'a str>, end: LaneEnd) -> Vec<Raised> {
    let (mut at, mut raised) = (0, Vec::new());
    for piece in pieces {
        rule.feed(at, piece, &mut raised);
        assert_eq!(rule.held_from(), None);
        at += piece.len() as u64;
    }
    rule.end(at, end, &mut raised);
    raised
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
        let mut pieces = Vec::new();
        let mut from = 0;
        for (count, (index, _)) in text.char_indices().enumerate() {
            if cuts[count % cuts.len()] {
                pieces.push(&text[from..index]);
                from = index;
            }
        }
        pieces.push(&text[from..]);
        prop_assert_eq!(run(rule(fence, false), pieces, STOP), whole);
    }
}
