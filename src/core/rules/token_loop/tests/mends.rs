//! How far the text is sound, floods after a whole answer, and going on after a correction.

use super::*;
use crate::request::Constraint;

const FOX: &str = "and then the fox looked at the moon for a while. It said: ";

#[test]
fn a_loop_is_sound_to_the_end_of_its_first_round() {
    for block in [
        FOX,
        "a",
        "ab",
        "ha ",
        "Pattern ",
        "哈",
        "😀",
        "Er sagte: nö, möglichst früh! ",
    ] {
        let before = prose(40, 6) + "#";
        let found = only(&format!("{before}{}", block.repeat(700)));
        let start = before.len() as u64;
        assert_eq!(
            (found.span.start, found.sound_to),
            (start, start + block.len() as u64),
            "{block:?}"
        );
        assert_eq!(found.mend, None);
    }
    let longest: String = prose(2000, 5)
        .chars()
        .take(crate::limits::LOOP_PERIOD_MAX)
        .collect();
    assert_eq!(only(&longest.repeat(5)).sound_to, longest.len() as u64);
}

#[test]
fn a_counting_loop_is_sound_to_the_end_of_its_first_round() {
    for first in [1, 9, 98] {
        let before = format!("{}#\n", prose(40, 6));
        let text = lines(400, |n| format!("item {} is like the one before", n + first - 1));
        let found = only(&format!("{before}{text}"));
        assert!(found.detail.ends_with("only its numbers changing"));
        let first_line = text.find('\n').unwrap() + 1;
        // The line end before the first item belongs to the run, so each round ends before a line end.
        assert_eq!(found.span.start, before.len() as u64 - 1);
        assert_eq!(found.sound_to, (before.len() + first_line) as u64 - 1);
    }
}

/// The mend of the only finding on a lane that is said to be so, and where it is sound.
fn flooded(channel: Channel, request: &RequestFacts, text: &str) -> (u64, Option<Mend>) {
    let context = LaneContext {
        lane: LaneId::first(channel),
        request,
    };
    let raised = finish(TokenLoop::new(&Settings::default(), &context), &[text]);
    assert_eq!(raised.len(), 1, "{text:?}");
    (raised[0].sound_to, raised[0].mend.clone())
}

#[test]
fn a_flood_after_an_answer_ends_it() {
    let flood = "\n".repeat(100);
    let plain = RequestFacts::default();
    let text = format!("That is all.{flood}");
    assert_eq!(
        flooded(Channel::Content, &plain, &text),
        (12, Some(Mend::End { at: 12 }))
    );
    assert_eq!(
        flooded(Channel::Content, &plain, &format!("Thé 12{}", " ".repeat(500))),
        (7, Some(Mend::End { at: 7 }))
    );
    for channel in [Channel::Reasoning, Channel::Refusal, Channel::ToolArguments(0)] {
        assert_eq!(flooded(channel, &plain, &text), (12, None), "{channel:?}");
    }
    assert_eq!(
        flooded(Channel::Content, &plain, &flood),
        (0, None),
        "there is no answer yet"
    );
    let grammar = RequestFacts {
        constraint: Constraint::Grammar,
        ..plain
    };
    assert_eq!(flooded(Channel::Content, &grammar, &text), (12, None));
}

#[test]
fn a_flood_ends_json_only_where_it_is_whole() {
    for (text, whole) in [
        ("{\"a\": 1}", true),
        ("[1 , ]", true),
        ("[\"a\tb\"]", true),
        ("12", true),
        ("{\"a\": 1", false),
        ("{\"a\": 1,", false),
        ("{\"a\": \"b", false),
        ("{\"a\": [1]", false),
        ("That is all.", false),
        ("{} {", false),
    ] {
        let text = format!("{text}{}", "\n \n".repeat(100));
        let at = text.trim_end().len() as u64;
        let wanted = (at, whole.then_some(Mend::End { at }));
        for (json, constraint) in [
            (true, Constraint::None),
            (true, Constraint::Json),
            (false, Constraint::Json),
        ] {
            let request = RequestFacts {
                json,
                constraint,
                ..RequestFacts::default()
            };
            assert_eq!(flooded(Channel::Content, &request, &text), wanted, "{text:?}");
        }
    }
}

#[test]
fn a_lane_that_goes_on_anew_needs_its_evidence_again() {
    let mut rule = lane(Channel::Content, None, &Settings::default());
    let mut raised = vec![];
    let first = format!("#{}", FOX.repeat(3));
    rule.feed(0, &first, &mut raised);
    rule.resumed();
    rule.feed(first.len() as u64, &FOX.repeat(3), &mut raised);
    assert_eq!(raised, vec![]);

    let at = (first.len() + 3 * FOX.len()) as u64;
    rule.feed(at, &FOX.repeat(10), &mut raised);
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].span.start, first.len() as u64);

    // Neither a number nor white space is counted across the joint.
    let at = at + 10 * FOX.len() as u64;
    rule.resumed();
    let text = format!("{}12", prose(50, 1));
    rule.feed(at, &text, &mut raised);
    rule.resumed();
    let from = at + text.len() as u64;
    let text = format!("34#{}", FOX.repeat(5));
    rule.feed(from, &text, &mut raised);
    assert_eq!(raised[1].span.start, from + 3);
    rule.resumed();
    rule.feed(from + text.len() as u64, &"\n".repeat(79), &mut raised);
    rule.resumed();
    rule.feed(from + text.len() as u64 + 79, &"\n".repeat(79), &mut raised);
    assert_eq!(raised.len(), 2);
}

#[test]
fn a_lane_that_goes_on_anew_is_still_inside_its_fence() {
    let code = "    let value = compute(value, 0);\n    check(value);\n";
    let fed = |pieces: &[&str]| {
        let mut rule = lane(Channel::Content, None, &Settings::default());
        let (mut raised, mut at) = (vec![], 0);
        for piece in pieces {
            rule.resumed();
            rule.feed(at, piece, &mut raised);
            at += piece.len() as u64;
        }
        raised.iter().map(|r| r.offset).collect::<Vec<_>>()
    };
    let text = code.repeat(60);
    let fence = "```rust\nfn main() {";
    let offset = fed(&[&format!("{fence}{text}")])[0] - fence.len() as u64;
    assert_eq!(fed(&[fence, &text]), [offset + fence.len() as u64]);
    // Also where the fence came after a finding.
    let before = FOX.repeat(6) + "\n" + fence;
    let found = fed(&[&before, &text]);
    assert_eq!(found[1..], [offset + before.len() as u64]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_sound_is_one_round(text in text()) {
        for found in content(&text) {
            let (start, sound, end) = (found.span.start as usize, found.sound_to as usize, found.offset as usize);
            prop_assert!(text.is_char_boundary(sound));
            if let Some(Mend::End { at }) = found.mend {
                prop_assert_eq!(at as usize, start);
let flood = text[start..end].trim();
 prop_assert!(start > 0 && flood.is_empty());
            }
            if found.detail.contains("times in a row") {
                prop_assert!(start < sound && sound < end, "{found:?}");
                let round = sound - start;
                if !found.detail.ends_with("changing") && start > 0 {
                    // Numbers count as equal where they are as long and their values are alike to the rule.
                    let plain = |s: &str| s.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
                    prop_assert_eq!(plain(&text[start + round..end]), plain(&text[start..end - round]));
                }
            } else {
                prop_assert_eq!(sound, start);
            }
        }
    }
}
