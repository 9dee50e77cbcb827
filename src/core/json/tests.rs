use super::*;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use std::path::PathBuf;

const DEPTH: usize = 512;

fn fault(text: &[u8]) -> Option<(usize, Reason)> {
    Automaton::new(DEPTH).feed(text).err().map(|i| (i.at, i.reason))
}

fn read(text: &str) -> Automaton {
    let mut automaton = Automaton::new(DEPTH);
    automaton.feed(text.as_bytes()).unwrap();
    automaton
}

/// The shortest text that turns what the automaton has read into a whole value.
fn completion(automaton: &Automaton) -> String {
    let needs_value = |a: &Automaton| if a.in_object() { "\"k\":0" } else { "0" };
    let mut text = match automaton.state {
        State::Start | State::MemberValue | State::Minus | State::Point => "0".to_owned(),
        State::Exponent | State::ExponentSign => "0".to_owned(),
        State::ArrayNext | State::ObjectNext => needs_value(automaton).to_owned(),
        State::Colon => ":0".to_owned(),
        State::Text => "\"".to_owned(),
        State::Escape => "n\"".to_owned(),
        State::Hex(due) => format!("{}\"", "0".repeat(usize::from(due))),
        State::Word(word, read) => String::from_utf8(word.spelling()[usize::from(read)..].to_vec()).unwrap(),
        _ => String::new(),
    };
    if automaton.key && matches!(automaton.state, State::Text | State::Escape | State::Hex(_)) {
        text.push_str(":0");
    }
    for level in (0..automaton.depth).rev() {
        text.push(if automaton.brackets[level / 64] >> (level % 64) & 1 == 1 {
            '}'
        } else {
            ']'
        });
    }
    text
}

/// `serde_json`'s word on a text, without building values: only the grammar counts.
fn parses(text: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<IgnoredAny>(text).map(|_| ())
}

/// Checks every prefix against `serde_json`: alive means that a completion parses, dead means that `serde_json` calls
/// the prefix wrong rather than unfinished.
fn assert_exact(text: &[u8]) {
    let mut automaton = Automaton::new(DEPTH);
    for at in 0..text.len() {
        let fed = automaton.feed(&text[at..=at]);
        let prefix = &text[..=at];
        let shown = String::from_utf8_lossy(prefix);
        match fed {
            Ok(()) => {
                let whole = [prefix, completion(&automaton).as_bytes()].concat();
                let shown = String::from_utf8_lossy(&whole);
                assert!(
                    parses(&whole).is_ok(),
                    "{shown:?} was thought possible: {:?}",
                    parses(&whole)
                );
                assert_eq!(automaton.is_complete(), parses(prefix).is_ok(), "{shown:?}");
            }
            Err(Impossible { reason, .. }) => {
                // `serde_json` reads the four digits of an escape at once, so it needs to see four bytes.
                let seen = if reason == Reason::ShortUnicodeEscape {
                    [prefix, b"000"].concat()
                } else {
                    prefix.to_vec()
                };
                let error = parses(&seen).expect_err("an impossible prefix parsed");
                assert!(error.is_syntax(), "{shown:?} is not impossible: {error}");
                assert_eq!(
                    fault(text),
                    Some((at, reason)),
                    "one slice and single bytes must agree"
                );
                return;
            }
        }
    }
    assert_eq!(fault(text), None);
}

fn suite() -> Option<PathBuf> {
    let root = std::env::var_os("AEGIS_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let dir = root.join("jsontestsuite/test_parsing");
    if !dir.is_dir() {
        eprintln!(
            "skipped: {} is absent; AEGIS_SHARED_DATA can name another place",
            dir.display()
        );
        return None;
    }
    Some(dir)
}

#[test]
fn json_test_suite_is_met() {
    let Some(dir) = suite() else { return };
    let (mut good, mut bad) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read(&path).unwrap();
        match name.as_bytes()[0] {
            b'y' => {
                good += 1;
                assert_eq!(check(&text, DEPTH), Ok(()), "{name}");
            }
            b'n' => {
                bad += 1;
                assert!(check(&text, DEPTH).is_err(), "{name} passed");
            }
            _ => continue,
        }
        // The two files of 100,000 brackets hit the depth limit, which is not the grammar's.
        if std::str::from_utf8(&text).is_ok() && text.len() < 4096 {
            assert_exact(&text);
        }
    }
    assert!(
        good >= 95 && bad >= 187,
        "the suite is incomplete: {good} good, {bad} bad files"
    );
}

#[test]
fn the_first_impossible_byte_and_its_reason() {
    for (text, at, reason) in [
        ("Sure! {}", 0, Reason::NotAValue),
        ("```json\n{}\n```", 0, Reason::Backtick),
        ("{\"a\":1,}", 7, Reason::TrailingComma),
        ("[1,]", 3, Reason::TrailingComma),
        ("[,1]", 1, Reason::MissingValue),
        ("{\"a\":}", 5, Reason::MissingValue),
        ("{a:1}", 1, Reason::MissingKey),
        ("{'a':1}", 1, Reason::SingleQuote),
        ("{\"a\" 1}", 5, Reason::MissingColon),
        ("{\"a\":1 \"b\":2}", 7, Reason::MissingComma),
        ("[1}", 2, Reason::WrongBracket),
        ("{\"a\":[]]", 7, Reason::WrongBracket),
        ("[1, // one\n2]", 4, Reason::Comment),
        ("[\"a\nb\"]", 3, Reason::ControlCharacter(b'\n')),
        ("\"0123456789abcdef\u{1f}\"", 17, Reason::ControlCharacter(0x1f)),
        ("[\"\\x\"]", 3, Reason::UnknownEscape),
        ("\"\\u00g0\"", 5, Reason::ShortUnicodeEscape),
        ("[01]", 2, Reason::LeadingZero),
        ("[-]", 2, Reason::MissingDigit),
        ("1.e3", 2, Reason::MissingDigit),
        ("[True]", 1, Reason::MissingValue),
        ("[nul]", 4, Reason::UnknownWord),
        ("{} {}", 3, Reason::TextAfterValue),
        ("1 2", 2, Reason::TextAfterValue),
        ("\u{feff}{}", 0, Reason::NotAValue),
    ] {
        assert_eq!(fault(text.as_bytes()), Some((at, reason)), "{text:?}");
        assert_exact(text.as_bytes());
    }
}

#[test]
fn depth_is_limited_at_the_bracket_that_exceeds_it() {
    for depth in [0, 1, 2, 63, 64, 65, 129] {
        let mut automaton = Automaton::new(depth);
        automaton.feed("[".repeat(depth).as_bytes()).unwrap();
        assert_eq!(automaton.depth(), depth);
        assert_eq!(
            automaton.feed(b"["),
            Err(Impossible {
                at: 0,
                reason: Reason::TooDeep(depth)
            })
        );
        let mut whole = Automaton::new(depth);
        whole
            .feed(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes())
            .unwrap();
        assert_eq!(whole.is_complete(), depth > 0);
    }
}

#[test]
fn where_it_stands() {
    for (text, complete, closed, place) in [
        ("", false, false, "before the value"),
        (" \n", false, false, "before the value"),
        ("{", false, false, "after an opening {"),
        ("{\"a", false, false, "inside a key"),
        ("{\"a\"", false, false, "after a key"),
        ("{\"a\":", false, false, "after a colon"),
        ("{\"a\":\"b\\", false, false, "inside an escape of a string"),
        ("{\"a\":1,", false, false, "after a comma in an object"),
        ("{\"a\":1", false, false, "inside a number"),
        ("{\"a\":1 ", false, false, "after a member of an object"),
        ("[true", false, false, "after an element of an array"),
        ("{}", true, true, "after the value"),
        ("12", true, false, "inside a number"),
        ("-", false, false, "inside a number"),
        ("12 ", true, true, "after the value"),
    ] {
        let automaton = read(text);
        assert_eq!(
            (automaton.is_complete(), automaton.closed(), automaton.place()),
            (complete, closed, place),
            "{text:?}"
        );
        assert_eq!(automaton.is_empty(), text.trim().is_empty(), "{text:?}");
    }
}

#[test]
fn a_failed_automaton_stays_failed_and_remembers_the_place() {
    let mut automaton = Automaton::new(DEPTH);
    let first = automaton.feed(b"{\"a\":[1,]").unwrap_err();
    assert_eq!((first.at, first.reason), (8, Reason::TrailingComma));
    assert_eq!(
        (automaton.depth(), automaton.place()),
        (2, "after a comma in an array")
    );
    assert_eq!(
        automaton.feed(b"2]}"),
        Err(Impossible {
            at: 0,
            reason: Reason::TrailingComma
        })
    );
    assert!(!automaton.is_complete() && !automaton.closed() && !automaton.is_empty());
}

#[test]
fn whole_texts_are_checked_to_their_end() {
    assert_eq!(check(b" {\"a\":[1,2.5e3,\"x\\u00e9\"]} \n", DEPTH), Ok(()));
    for (text, at, wanted) in [
        (&b""[..], 0, "there is no value"),
        (b"{\"a\":\"b", 7, "the text ends inside a string, 1 bracket deep"),
        (b"[[tru", 5, "the text ends inside a word, 2 brackets deep"),
        (b"-", 1, "the text ends inside a number"),
        (
            b"[1,]",
            3,
            "a trailing comma (after a comma in an array, 1 bracket deep)",
        ),
        (b"[\"\xff\"]", 2, "bytes that are not UTF-8"),
        (b"[\"\xff\",]", 2, "bytes that are not UTF-8"),
        (b"[\"\xe2\x82", 2, "bytes that are not UTF-8"),
        (
            b"[,\"\xff\"]",
            1,
            "no value where one is needed (after an opening [, 1 bracket deep)",
        ),
    ] {
        assert_eq!(check(text, DEPTH), Err((at, wanted.to_owned())), "{text:?}");
    }
}

/// JSON of every kind, with white space in odd places.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        "\"([a-zé😀 ]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,12}\"",
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let space = "[ \n\t\r]{0,2}";
        let element = (space, inner.clone(), space).prop_map(|(a, v, b)| format!("{a}{v}{b}"));
        let member = (space, "\"[a-z\\\\n]{0,3}\"", space, inner, space)
            .prop_map(|(a, k, b, v, c)| format!("{a}{}{b}:{v}{c}", k.replace('\\', "")));
        prop_oneof![
            prop::collection::vec(element, 0..4).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|v| format!("{{{}}}", v.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn valid_json_passes(text in json()) {
        prop_assert!(check(text.as_bytes(), DEPTH).is_ok(), "{text:?}");
        assert_exact(text.as_bytes());
    }

    #[test]
    fn mutated_json_fails_at_the_first_impossible_byte(
        text in json(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            prop::sample::select(b"{}[],:\"\\ \n/'-+.eE0123u".to_vec()),
            any::<u8>(),
        ], 0..3u8), 1..4),
    ) {
        let mut bytes = text.into_bytes();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len() + 1);
            match kind {
                0 => bytes.insert(at, byte),
                _ if at == bytes.len() => bytes.push(byte),
                1 => bytes[at] = byte,
                _ => { bytes.remove(at); }
            }
        }
        assert_exact(&bytes);
    }

    #[test]
    fn the_plain_run_ends_at_the_first_special_byte(bytes in prop::collection::vec(prop_oneof![
        8 => 0x20..=0xffu8, 1 => any::<u8>(), 1 => prop::sample::select(b"\"\\\x1f\x20\x7f\x80\xa2\xdc".to_vec()),
    ], 0..64)) {
        let wanted = bytes.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\').unwrap_or(bytes.len());
        prop_assert_eq!(plain_text_len(&bytes), wanted);
    }
}
