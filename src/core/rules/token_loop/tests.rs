mod mends;
mod quiet;

use super::*;
use crate::event::LaneId;
use crate::request::RequestFacts;
use proptest::prelude::*;
use std::fmt::Write as _;

fn lane(channel: Channel, asked: Option<u32>, settings: &Settings) -> TokenLoop {
    let request = RequestFacts {
        repeats_asked: asked,
        ..RequestFacts::default()
    };
    TokenLoop::new(
        settings,
        &LaneContext {
            lane: LaneId::first(channel),
            request: &request,
        },
    )
}

fn finish(mut rule: TokenLoop, pieces: &[&str]) -> Vec<Raised> {
    let (mut raised, mut at) = (vec![], 0);
    for piece in pieces {
        rule.feed(at, piece, &mut raised);
        at += piece.len() as u64;
    }
    rule.end(at, LaneEnd::Lost, &mut raised);
    raised
}

fn content(text: &str) -> Vec<Raised> {
    finish(lane(Channel::Content, None, &Settings::default()), &[text])
}

/// Words that do not repeat: the digits of a counter spelled in letters, with their own length.
fn prose(words: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut text = String::new();
    for _ in 0..words {
        for _ in 0..2 + (state >> 60) % 7 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push(char::from(b'a' + ((state >> 33) % 26) as u8));
        }
        text.push(' ');
    }
    text
}

/// A text made of one line per number.
fn lines(count: u32, line: impl Fn(u32) -> String) -> String {
    (1..=count).fold(String::new(), |mut text, n| {
        let _always = writeln!(text, "{}", line(n));
        text
    })
}

#[track_caller]
fn quiet(text: &str) {
    assert_eq!(
        content(text),
        vec![],
        "misfire in {:?}…",
        text.chars().take(80).collect::<String>()
    );
}

#[track_caller]
fn only(text: &str) -> Raised {
    let mut raised = content(text);
    assert_eq!(
        raised.len(),
        1,
        "want one finding in {:?}…",
        text.chars().take(80).collect::<String>()
    );
    raised.remove(0)
}

#[test]
fn a_sentence_is_a_loop_at_the_end_of_its_fourth_round() {
    let before = prose(60, 1) + "#";
    let block = "and then the fox looked at the moon for a while. It said: ";
    let found = only(&format!("{before}{}", block.repeat(9)));
    let start = before.len() as u64;
    let end = start + 4 * block.len() as u64;
    assert_eq!((found.offset, found.span), (end, start..end));
    assert_eq!(
        found.detail,
        format!("a block of {} characters came 4 times in a row", block.len())
    );
    quiet(&format!("{before}{}{}", block.repeat(3), prose(60, 2)));
}

#[test]
fn periods_up_to_thousands_of_characters_are_seen() {
    for words in [30, 100, 300, 640] {
        let (before, block) = (prose(50, 3) + "#", prose(words, 4));
        let found = only(&format!("{before}{}", block.repeat(5)));
        let start = before.len() as u64;
        assert_eq!(
            (found.span.start, found.offset),
            (start, start + 4 * block.len() as u64),
            "{} bytes",
            block.len()
        );
    }
}

#[test]
fn the_longest_period_is_the_limit_and_no_longer() {
    let longest: String = prose(2000, 5)
        .chars()
        .take(crate::limits::LOOP_PERIOD_MAX)
        .collect();
    assert_eq!(only(&longest.repeat(5)).offset, 4 * longest.len() as u64);
    let longer: String = prose(2000, 5)
        .chars()
        .take(crate::limits::LOOP_PERIOD_MAX + 1)
        .collect();
    quiet(&longer.repeat(5));
}

#[test]
fn a_reasoning_block_of_92_lines_is_caught() {
    let block = lines(92, |n| prose(4 + n as usize % 5, u64::from(n)));
    let found = finish(
        lane(Channel::Reasoning, None, &Settings::default()),
        &[&block.repeat(32)],
    );
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].offset, 4 * block.len() as u64);
}

#[test]
fn short_blocks_need_more_rounds() {
    for (block, rounds) in [
        ("a", 300),
        ("ab", 150),
        ("ha ", 80),
        ("Pattern ", 20),
        ("!", 600),
        ("哈", 300),
        ("😀", 600),
    ] {
        let before = prose(40, 6) + "#";
        let found = only(&format!("{before}{}", block.repeat(700)));
        let want = before.len() + block.len() * rounds;
        assert_eq!(found.offset, want as u64, "{block:?}: {}", found.detail);
        quiet(&format!("{before}{}{}", block.repeat(rounds - 1), prose(40, 7)));
    }
}

#[test]
fn a_loop_of_digits_is_caught() {
    let found = only(&format!("1 divided by 3 is 0.{}", "3".repeat(3000)));
    assert!(found.offset < 2100, "{found:?}");
}

#[test]
fn a_loop_inside_a_loop_is_caught() {
    let block = format!(
        "{}a work of art, a work of art, a work of art. {}",
        prose(20, 8),
        prose(10, 9)
    );
    let before = prose(30, 10) + "#";
    assert_eq!(
        only(&format!("{before}{}", block.repeat(6))).offset,
        (before.len() + 4 * block.len()) as u64
    );
}

#[test]
fn counters_do_not_hide_a_loop() {
    let found = only(&lines(400, |n| format!("item {n} is like the one before")));
    assert!(
        found.detail.ends_with("only its numbers changing"),
        "{}",
        found.detail
    );
    assert!(found.offset < 6000);
    assert_eq!(found.span.start, 0);
    let long = lines(90, |n| {
        format!(
            "Milestone {n}: {}",
            "The team has to finish the scope of the plan in time. ".repeat(2)
        )
    });
    assert!(only(&long).offset < 6000);
    let off = Settings {
        counters: false,
        ..Settings::default()
    };
    assert_eq!(finish(lane(Channel::Content, None, &off), &[&long]), vec![]);
}

#[test]
fn white_space_floods_are_caught() {
    for (flood, at) in [
        ("\n", 80),
        (" ", 400),
        ("\t", 400),
        (" \n", 160),
        ("\u{200B}", 400),
        ("\r\n", 160),
    ] {
        let found = only(&format!("{{\"a\": 1,{}", flood.repeat(1000)));
        assert_eq!(found.span.start, 8, "{flood:?}");
        let end = 8 + flood.chars().cycle().take(at).map(char::len_utf8).sum::<usize>();
        assert_eq!(found.offset, end as u64, "{flood:?}: {}", found.detail);
        quiet(&format!(
            "{{\"a\": 1,{}1}}",
            flood.repeat(at / flood.chars().count() - 1)
        ));
    }
}

#[test]
fn what_the_user_asked_for_is_no_loop() {
    let text = "I must not talk in class. ".repeat(40);
    assert_eq!(content(&text).len(), 1);
    let with = |asked, text: &str| finish(lane(Channel::Content, Some(asked), &Settings::default()), &[text]);
    assert_eq!(with(40, &text), vec![]);
    assert_eq!(with(40, &"I must not talk in class. ".repeat(42)), vec![]);
    assert_eq!(
        with(40, &"I must not talk in class. ".repeat(60))[0].offset,
        43 * 26
    );
    assert_eq!(with(u32::MAX, &"I must not talk in class. ".repeat(9000)), vec![]);
    assert_eq!(
        with(u32::MAX, &"I must not talk in class. ".repeat(10_100)).len(),
        1
    );
    assert_eq!(
        with(u32::MAX, &"\n".repeat(500)).len(),
        1,
        "a flood is never asked for"
    );
}

#[test]
fn it_raises_once() {
    let text = format!(
        "{}{}",
        "one two three four five six seven eight nine ten. ".repeat(50),
        " ".repeat(5000)
    );
    assert_eq!(content(&text).len(), 1);
}

#[test]
fn settings_can_be_stricter_and_looser() {
    let block = "and then the fox looked at the moon for a while. It said: ";
    let run =
        |settings: Settings| finish(lane(Channel::Content, None, &settings), &[&block.repeat(30)])[0].offset;
    assert_eq!(
        run(Settings {
            repeats_min: 3,
            ..Settings::default()
        }),
        3 * block.len() as u64
    );
    assert_eq!(
        run(Settings {
            repeats_min: 0,
            ..Settings::default()
        }),
        3 * block.len() as u64
    );
    assert_eq!(
        run(Settings {
            repeats_min: 20,
            ..Settings::default()
        }),
        20 * block.len() as u64
    );
    assert_eq!(
        run(Settings {
            chars_min: 1000,
            ..Settings::default()
        }),
        1000
    );
}

#[test]
fn code_loops_are_caught_all_the_same() {
    only(&format!("```html\n{}", "      <td></td>\n".repeat(400)));
    only(&format!(
        "```rust\n{}",
        "    let value = compute(value, 0);\n    check(value);\n".repeat(60)
    ));
    let arguments = format!("{{\"content\": \"{}", "\\n".repeat(4000));
    assert_eq!(
        finish(
            lane(Channel::ToolArguments(0), None, &Settings::default()),
            &[&arguments]
        )
        .len(),
        1
    );
    only(&"| --- ".repeat(400));
    only(&"|      |      |      |\n".repeat(400));
    only(&lines(60, |_| "- Be kind to all the people".into()));
}

#[test]
fn an_idle_lane_is_small() {
    let mut rule = lane(Channel::Content, None, &Settings::default());
    let mut raised = vec![];
    rule.feed(0, &prose(30, 13), &mut raised);
    assert!(rule.memory_bytes() < 2048, "{}", rule.memory_bytes());
    rule.feed(0, &prose(30_000, 14), &mut raised);
    assert!(rule.memory_bytes() < 32 * 1024, "{}", rule.memory_bytes());
    assert_eq!(raised, vec![]);
}

impl TokenLoop {
    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.history.heap_bytes() + self.search.heap_bytes()
    }
}

/// Texts that loop, nearly loop, count, or do nothing of the kind.
fn text() -> impl Strategy<Value = String> {
    let block = prop_oneof![
        "[a-c]{1,3}",
        "[a-z ]{10,80}",
        "[0-9]{1,12}[a-z:\n]{1,9}",
        "[あ-ん😀é]{1,30}",
        "[ \n\t]{1,4}",
        "[|\\-=_\n]{1,12}",
        "```[a-z\n]{0,20}",
    ];
    proptest::collection::vec((block, 1usize..300), 1..6).prop_map(|parts| {
        parts
            .into_iter()
            .map(|(block, times)| block.repeat(times))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_split_gives_the_same_findings(text in text(), cuts in proptest::collection::vec(1usize..200, 1..20)) {
        let whole = content(&text);
        let mut pieces = vec![];
        let mut rest = text.as_str();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let at = rest.char_indices().nth(*cut).map_or(rest.len(), |(i, _)| i);
            pieces.push(&rest[..at]);
            rest = &rest[at..];
        }
        let cut = finish(lane(Channel::Content, None, &Settings::default()), &pieces);
        prop_assert_eq!(&cut, &whole);
        for found in whole {
            prop_assert!(found.span.start < found.span.end && found.span.end == found.offset);
            prop_assert!(text.is_char_boundary(found.span.start as usize) && text.is_char_boundary(found.offset as usize));
        }
    }

    #[test]
    fn what_comes_later_changes_nothing(text in text(), more in text()) {
        if let Some(found) = content(&text).first() {
            let all = content(&format!("{text}{more}"));
            prop_assert_eq!(all.first(), Some(found));
        }
    }

    #[test]
    fn a_raised_span_really_repeats(before in "[a-z ,.]{0,200}", block in "[a-z ]{41,400}", rounds in 4usize..8) {
        let text = format!("{before}#{}", block.repeat(rounds));
        let found = content(&text);
        prop_assert_eq!(found.len(), 1);
        prop_assert!(found[0].offset <= (before.len() + 1 + 4 * block.len()) as u64);
        let span = &text[found[0].span.start as usize..found[0].span.end as usize];
        prop_assert_eq!(&span[block.len()..], &span[..span.len() - block.len()]);
    }

    #[test]
    fn prose_is_quiet(seed in any::<u64>(), words in 1usize..4000) {
        prop_assert_eq!(content(&prose(words, seed)), vec![]);
    }
}
