//! Escapes of characters beyond U+FFFF come in pairs. Half a pair is valid JSON, but no text that UTF-8 can hold.

use std::borrow::Cow;

/// Length of `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// The JSON text with every lone half of a pair replaced by the escape of U+FFFD, as decoders do that do not refuse it.
pub(super) fn paired(json: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut done, mut at) = (0, 0);
    // Outside strings there are no backslashes in JSON, and in a text that is none it does not matter.
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        at += found;
        let lone = match unit(json, at) {
            Some(0xd800..=0xdbff) if matches!(unit(json, at + ESCAPE_BYTES), Some(0xdc00..=0xdfff)) => {
                at += 2 * ESCAPE_BYTES;
                continue;
            }
            Some(0xd800..=0xdfff) => true,
            Some(_) => false,
            None => {
                // A backslash and the byte it escapes.
                at = (at + 2).min(json.len());
                continue;
            }
        };
        if lone {
            out.push_str(&json[done..at]);
            out.push_str("\\ufffd");
            done = at + ESCAPE_BYTES;
        }
        at += ESCAPE_BYTES;
    }
    if done == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[done..]);
    Cow::Owned(out)
}

/// The UTF-16 unit whose escape stands at byte `at`.
fn unit(json: &str, at: usize) -> Option<u32> {
    let digits = json.as_bytes().get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_stay_and_halves_go() {
        for (json, wanted) in [
            (r#""\ud83e\udd80 \u00e9""#, r#""\ud83e\udd80 \u00e9""#),
            (r#""\ud83e""#, r#""\ufffd""#),
            (r#""\udd80x\ud83e""#, r#""\ufffdx\ufffd""#),
            (r#""\ud83e\ud83e\udd80""#, r#""\ufffd\ud83e\udd80""#),
            (r#""\\ud83e""#, r#""\\ud83e""#),
            (r#""\ud8"#, r#""\ud8"#),
            ("\"\\", "\"\\"),
            ("\"\\é\\u", "\"\\é\\u"),
        ] {
            assert_eq!(paired(json), wanted);
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_can_be_held(pieces in prop::collection::vec(prop::sample::select(vec![
            "\\ud83e", "\\uDD80", "\\\\", "a", "é", "\\n", "\\u0041",
        ]), 0..12)) {
            let json = format!("\"{}\"", pieces.concat());
            let once = paired(&json);
            prop_assert!(serde_json::from_str::<String>(&once).is_ok());
            prop_assert_eq!(serde_json::from_str::<String>(&json).is_ok(), matches!(once, Cow::Borrowed(_)));
            prop_assert_eq!(&paired(&once), &once);
        }
    }
}
