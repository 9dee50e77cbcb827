use super::careless::{careless, dice, value};
use super::*;
use proptest::prelude::*;
use serde_json::Value;

const DEPTH: usize = 512;

/// All mends of a text that comes in pieces and then ends, and the first fault without one.
fn run(pieces: &[&str], reason: FinishReason) -> (Vec<Patch>, Option<Fault>) {
    let (mut mender, mut at, mut patches) = (Mender::new(DEPTH), 0, Vec::new());
    for piece in pieces {
        if let Err(fault) = mender.feed_all(at, piece.as_bytes(), |patch| patches.push(patch)) {
            assert_eq!(mender.end(at, reason), None, "what is lost has no end");
            return (patches, Some(fault));
        }
        at += piece.len() as u64;
    }
    patches.extend(mender.end(at, reason));
    (patches, None)
}

fn apply(text: &str, patches: &[Patch]) -> String {
    let mut out = text.to_owned();
    for patch in patches.iter().rev() {
        out.replace_range(patch.span.start as usize..patch.span.end as usize, &patch.text);
    }
    out
}

fn patch(span: Range<u64>, text: &str) -> Patch {
    Patch {
        span,
        text: text.to_owned(),
    }
}

#[test]
fn control_characters_become_their_escapes() {
    for (control, escaped) in [
        ('\n', "\\n"),
        ('\r', "\\r"),
        ('\t', "\\t"),
        ('\u{8}', "\\b"),
        ('\u{c}', "\\f"),
        ('\0', "\\u0000"),
        ('\u{1b}', "\\u001b"),
        ('\u{1f}', "\\u001f"),
    ] {
        let text = format!("{{\"a{control}\": \"é{control}\"}}");
        let wanted = text.replace(control, escaped);
        assert_eq!(whole(&text, DEPTH).as_deref(), Some(wanted.as_str()), "{text:?}");
        let value: Value = serde_json::from_str(&wanted).unwrap();
        assert_eq!(value[format!("a{control}")], format!("é{control}"));
    }
}

#[test]
fn every_mend_names_the_bytes_of_the_text_as_it_was_written() {
    let text = "{\"a\": \"b\nc\" , \n}";
    assert_eq!(
        run(&[text], FinishReason::Stop).0,
        [patch(8..9, "\\n"), patch(12..13, "")]
    );
    assert_eq!(whole(text, DEPTH).as_deref(), Some("{\"a\": \"b\\nc\"  \n}"));
    assert_eq!(
        run(&["[[1", ",", " ", "]", ",", "] "], FinishReason::Stop).0,
        [patch(3..4, ""), patch(6..7, "")]
    );
    assert_eq!(
        run(&["[{\"a\":[1 ", ", ", "\n"], FinishReason::Stop).0,
        [patch(9..12, "]}]")]
    );
}

#[test]
fn a_fault_with_a_mend_says_what_was_wrong_and_where() {
    let mut mender = Mender::new(DEPTH);
    let fault = mender.feed(10, b"[1,]").unwrap_err();
    assert_eq!((fault.at, fault.reason), (13, Reason::TrailingComma));
    assert_eq!(fault.standing, "after a comma in an array, 1 bracket deep");
    assert_eq!(fault.patch, Some(patch(12..13, "")));
    assert!(mender.automaton().is_complete());
    assert_eq!(mender.feed(14, b" "), Ok(()));
    let fault = mender.feed(15, b" x").unwrap_err();
    assert_eq!(
        (fault.at, fault.reason, fault.patch),
        (16, Reason::TextAfterValue, None)
    );
    let again = mender.feed(17, b"}").unwrap_err();
    assert_eq!((again.at, again.reason), (17, Reason::TextAfterValue));
}

#[test]
fn what_is_no_slip_is_not_mended() {
    for text in [
        "",
        " ",
        "[1,,]",
        "[,]",
        "[,",
        "{,}",
        "[1}",
        "[1,}",
        "{\"a\":1,]",
        "{\"a\"}",
        "{'a':1}",
        "[1 2]",
        "[01]",
        "[\"\\x\"]",
        "[\"\\\n\"]",
        "[\"\\u00\n0\"]",
        "[1]]",
        "{} {}",
        "[True]",
        "\u{b}[]",
        "[\u{0}]",
        "[1,\u{c}]",
    ] {
        assert_eq!(whole(text, DEPTH), None, "{text:?}");
        assert_eq!(mended(text, DEPTH, FinishReason::Stop), None, "{text:?}");
    }
    assert_eq!(whole("[[[]]]", 2), None, "the depth is limited");
}

#[test]
fn ends_are_mended_where_no_value_is_missing() {
    use FinishReason::{ContentFilter, Length, Other, Stop, ToolCalls};
    const ALL: &[FinishReason] = &[Stop, ToolCalls, Length, Other, ContentFilter];
    let cases: &[(&str, &str, &[FinishReason])] = &[
        ("{\"a\":\"b\"", "}", ALL),
        ("[{\"a\":[\"b\"]", "}]", ALL),
        ("[\"b\" ", "]", ALL),
        ("tru", "e", ALL),
        ("[n", "ull]", ALL),
        ("{\"a\":fals", "e}", ALL),
        ("[true", "]", ALL),
        ("[12", "]", &[Stop, ToolCalls]),
        ("[0", "]", &[Stop, ToolCalls]),
        ("[1.5", "]", &[Stop, ToolCalls]),
        ("[1e5", "]", &[Stop, ToolCalls]),
        ("[12 ", "]", ALL),
        ("{", "", &[]),
        ("{\"a\":[ ", "", &[]),
        ("{\"a", "", &[]),
        ("{\"a\"", "", &[]),
        ("{\"a\":", "", &[]),
        ("{\"a\":\"b", "", &[]),
        ("{\"a\":\"b\\", "", &[]),
        ("[-", "", &[]),
        ("[1.", "", &[]),
        ("[1e", "", &[]),
        ("[1e+", "", &[]),
        ("-", "", &[]),
        ("\"b", "", &[]),
        (" ", "", &[]),
    ];
    for (text, added, certain) in cases {
        for reason in ALL {
            let at = text.len() as u64;
            let wanted = certain.contains(reason).then(|| patch(at..at, added));
            let (patches, fault) = run(&[text], *reason);
            assert_eq!(fault, None);
            assert_eq!(patches.first(), wanted.as_ref(), "{text:?} {reason:?}");
            let mended = mended(text, DEPTH, *reason);
            assert_eq!(
                mended.as_deref(),
                wanted.map(|patch| text.to_string() + &patch.text).as_deref()
            );
        }
    }
    // A comma that waits goes with all that follows it, unless something was cut away behind it.
    for (reason, whole) in [
        (Stop, Some("{\"a\":1}")),
        (Other, Some("{\"a\":1}")),
        (Length, None),
        (ContentFilter, None),
    ] {
        assert_eq!(mended("{\"a\":1, \n", DEPTH, reason).as_deref(), whole);
    }
}

#[test]
fn after_the_end_only_white_space_is_possible() {
    let mut mender = Mender::new(DEPTH);
    mender.feed(0, b"[[1").unwrap();
    assert_eq!(mender.end(3, FinishReason::Stop), Some(patch(3..3, "]]")));
    assert!(mender.automaton().is_complete());
    assert_eq!(mender.end(3, FinishReason::Stop), None);
    assert_eq!(mender.feed(3, b"\n"), Ok(()));
    assert_eq!(mender.feed(4, b"]").unwrap_err().reason, Reason::TextAfterValue);
}

#[test]
fn what_is_whole_stays_as_it_is() {
    for text in ["{}", " [1, 2] \n", "12", "\"a\"", "null"] {
        assert!(
            matches!(mended(text, DEPTH, FinishReason::Length), Some(Cow::Borrowed(same)) if same == text)
        );
        assert_eq!(whole(text, DEPTH).as_deref(), Some(text));
    }
}

#[test]
fn a_comma_is_held_until_something_follows() {
    for (text, held) in [
        ("[1", None),
        ("[1,", Some(2)),
        ("[1 ,  ", Some(3)),
        ("[1,2", None),
        ("[1,]", None),
        ("{\"a\":1,\n", Some(6)),
        ("{\"a\":1,\"", None),
        ("{\"a\":\"b,", None),
        ("[1,,", None),
    ] {
        let mut cut = Mender::new(DEPTH);
        let mut whole = Mender::new(DEPTH);
        let _unmended = whole.feed_all(7, text.as_bytes(), |_| {});
        for (at, byte) in (7..).zip(text.bytes()) {
            let _unmended = cut.feed_all(at, &[byte], |_| {});
        }
        let held = held.map(|at: u64| at + 7);
        if text != "[1,," {
            assert_eq!((whole.held_from(), cut.held_from()), (held, held), "{text:?}");
        }
    }
}

/// Takes away the closing brackets at the end, with the commas and the white space between them.
fn unclosed(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_ascii_whitespace() || matches!(c, ']' | '}' | ','))
}

proptest! {
    #[test]
    fn careless_json_is_mended_to_what_was_meant(value in value(), dice in dice()) {
        let text = careless(&value, &dice);
        let mended = whole(&text, DEPTH);
        prop_assert!(mended.is_some(), "{text:?}");
        prop_assert_eq!(serde_json::from_str::<Value>(&mended.unwrap()).unwrap(), value, "{:?}", text);
    }

    #[test]
    fn missing_closers_are_added(value in value(), dice in dice()) {
        let value = Value::from(vec![value]);
        let text = careless(&value, &dice);
        let cut = unclosed(&text);
        // A bracket without anything in it is not closed.
        prop_assume!(!cut.trim_end().ends_with(['[', '{']));
        let mended = mended(cut, DEPTH, FinishReason::Stop);
        prop_assert!(mended.is_some(), "{cut:?}");
        prop_assert_eq!(serde_json::from_str::<Value>(&mended.unwrap()).unwrap(), value, "{:?}", cut);
    }

    #[test]
    fn any_cut_is_mended_to_valid_json_or_not_at_all(
        value in value(),
        dice in dice(),
        cut in any::<prop::sample::Index>(),
        reason in prop::sample::select(vec![FinishReason::Stop, FinishReason::Length]),
    ) {
        let text = careless(&value, &dice);
        let ends: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        let cut = &text[..ends[cut.index(ends.len())]];
        if let Some(mended) = mended(cut, DEPTH, reason) {
            prop_assert!(serde_json::from_str::<Value>(&mended).is_ok(), "{cut:?} became {mended:?}");
        }
    }

    #[test]
    fn any_split_gives_the_same_mends(
        text in prop_oneof![
            (value(), dice()).prop_map(|(value, dice)| careless(&value, &dice)),
            "[{}\\[\\]:,\"\\\\ \nat1]{0,24}",
        ],
        cuts in prop::collection::vec(any::<bool>(), 1..64),
        keep in any::<prop::sample::Index>(),
    ) {
        let ends: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        let text = &text[..ends[keep.index(ends.len())]];
        let mut pieces = Vec::new();
        let mut from = 0;
        for (count, (index, _)) in text.char_indices().enumerate() {
            if cuts[count % cuts.len()] {
                pieces.push(&text[from..index]);
                from = index;
            }
        }
        pieces.push(&text[from..]);
        let (patches, fault) = run(&[text], FinishReason::Stop);
        prop_assert_eq!(&run(&pieces, FinishReason::Stop), &(patches.clone(), fault.clone()));
        // Mending in place and mending the whole text are the same thing.
        let mended = mended(text, DEPTH, FinishReason::Stop).map(Cow::into_owned);
        let applied = apply(text, &patches);
        let valid = fault.is_none() && serde_json::from_str::<serde::de::IgnoredAny>(&applied).is_ok();
        prop_assert_eq!(mended, valid.then_some(applied));
    }
}
