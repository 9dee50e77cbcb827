//! Changes the text inside one frame and nothing else.

use super::chunk::Chunk;
use crate::dialect::Dialect;
use crate::event::LaneId;
use bytes::Bytes;
use std::ops::Range;

/// The frame with bytes `range` of the text of `lane` replaced by `with`. All other members keep their order and values;
/// comments in the frame are lost. Of two spellings of reasoning the other one changes too where it says the same.
///
/// `None` when the frame has no such text, has it in several pieces, or when `range` does not lie in it.
#[must_use]
pub fn replace(
    dialect: Dialect,
    frame: &[u8],
    lane: LaneId,
    range: Range<usize>,
    with: &str,
) -> Option<Bytes> {
    let mut chunk = Chunk::read(dialect, frame)?;
    if chunk.texts(lane, &mut |_| None) != 1 {
        return None;
    }
    chunk.texts(lane, &mut |text| {
        let (before, after) = (text.get(..range.start)?, text.get(range.end..)?);
        (range.start <= range.end).then(|| [before, with, after].concat())
    });
    chunk.changed().then(|| chunk.write())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Channel;
    use proptest::prelude::*;

    fn edited(frame: &str, channel: Channel, range: Range<usize>, with: &str) -> Option<String> {
        let lane = LaneId::first(channel);
        let bytes = replace(Dialect::Chat, frame.as_bytes(), lane, range, with)?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn only_the_text_changes() {
        let frame = "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\\"é🚀b\",\"x\":18446744073709551615},\
            \"finish_reason\":null}],\"created\":1795474795,\"timings\":{\"ms\":0.16555555555555557,\"n\": 1e2}}\n\n";
        assert_eq!(
            edited(frame, Channel::Content, 2..8, "\n\u{1}").unwrap(),
            "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\\"\\n\\u0001b\",\"x\":18446744073709551615},\
             \"finish_reason\":null}],\"created\":1795474795,\"timings\":{\"ms\":0.16555555555555557,\"n\": 1e2}}\n\n"
        );
        assert!(
            edited(frame, Channel::Content, 9..9, "!")
                .unwrap()
                .contains("b!\"")
        );
        for range in [3..4, 8..10, 10..10] {
            assert_eq!(
                edited(frame, Channel::Content, range.clone(), ""),
                None,
                "{range:?}"
            );
        }
        for channel in [Channel::Reasoning, Channel::Refusal, Channel::ToolArguments(0)] {
            assert_eq!(edited(frame, channel, 0..0, "x"), None);
        }
    }

    #[test]
    fn frames_of_every_shape() {
        let frame = ": note\r\nevent: chunk\r\ndata: {\"choices\":[\r\ndata: {\"delta\":{\"content\":\"ab\"}}],\r\ndata: \"x\":[1,\r\ndata: 2]}\r\n\r\n";
        assert_eq!(
            edited(frame, Channel::Content, 1..2, "").unwrap(),
            "event: chunk\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"x\":[1, 2]}\n\n"
        );
        for frame in [
            ":\n\n",
            "data: [DONE]\n\n",
            "data: {\"choices\":[]}\n\n",
            "data: 1\n\n",
            "error: {}\n\n",
        ] {
            assert_eq!(edited(frame, Channel::Content, 0..0, "x"), None, "{frame}");
        }
    }

    #[test]
    fn the_lane_chooses_the_text() {
        let frame = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"one\"}},{\"index\":0,\"delta\":{\"refusal\":\"no\",\"content\":\"null\"}}]}\n\n";
        assert!(
            edited(frame, Channel::Content, 0..4, "N")
                .unwrap()
                .contains("\"content\":\"N\"")
        );
        assert!(
            edited(frame, Channel::Refusal, 0..1, "N")
                .unwrap()
                .contains("\"refusal\":\"No\"")
        );
        let lane = LaneId {
            choice: 1,
            channel: Channel::Content,
        };
        let one = replace(Dialect::Chat, frame.as_bytes(), lane, 0..1, "O").unwrap();
        assert!(String::from_utf8_lossy(&one).contains("\"content\":\"One\""));
    }

    #[test]
    fn both_spellings_of_reasoning_change_where_they_are_equal() {
        let both = |a: &str, b: &str| {
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"reasoning_content\":{a},\"reasoning\":{b}}}}}]}}\n\n"
            )
        };
        let change = |a, b| edited(&both(a, b), Channel::Reasoning, 0..1, "X").unwrap();
        assert_eq!(change("\"ab\"", "\"ab\""), both("\"Xb\"", "\"Xb\""));
        assert_eq!(change("\"ab\"", "\"cd\""), both("\"Xb\"", "\"cd\""));
        assert_eq!(change("\"\"", "\"cd\""), both("\"\"", "\"Xd\""));
        assert_eq!(change("null", "\"cd\""), both("null", "\"Xd\""));
    }

    #[test]
    fn calls_are_found_by_index_and_by_position() {
        let calls = |calls: &str| format!("data: {{\"choices\":[{{\"delta\":{{{calls}}}}}]}}\n\n");
        let of = |text: &str, call, range| edited(&calls(text), Channel::ToolArguments(call), range, "Z");
        let indexed = "\"tool_calls\":[{\"index\":2,\"function\":{\"arguments\":\"two\"}},{\"index\":1,\"function\":{\"name\":\"f\"}}]";
        assert!(
            of(indexed, 2, 0..3)
                .unwrap()
                .contains("\"arguments\":\"Z\"}},{\"index\":1")
        );
        assert!(
            of(indexed, 1, 0..0)
                .unwrap()
                .contains("{\"name\":\"f\",\"arguments\":\"Z\"}")
        );
        assert_eq!(of(indexed, 0, 0..0), None);
        let plain =
            "\"tool_calls\":[{\"function\":{\"arguments\":\"a\"}},{\"function\":{\"arguments\":\"b\"}}]";
        assert!(
            of(plain, 1, 0..1)
                .unwrap()
                .contains("\"arguments\":\"a\"}},{\"function\":{\"arguments\":\"Z\"")
        );
        let legacy = "\"function_call\":{\"name\":\"f\",\"arguments\":\"a\"}";
        assert!(of(legacy, 0, 0..1).unwrap().contains("\"arguments\":\"Z\""));
        assert_eq!(of(legacy, 1, 0..0), None);
        let twice = "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"a\"}},{\"index\":0,\"function\":{\"arguments\":\"b\"}}]";
        assert_eq!(
            of(twice, 0, 0..1),
            None,
            "which of the two is meant cannot be told"
        );
    }

    #[test]
    fn completions_and_the_servers_own_format() {
        let lane = LaneId::first(Channel::Content);
        let of = |frame: &str| {
            let bytes = replace(Dialect::Completions, frame.as_bytes(), lane, 1..2, "x")?;
            Some(String::from_utf8(bytes.to_vec()).unwrap())
        };
        let legacy = "data: {\"choices\":[{\"text\":\"ab\",\"index\":0,\"logprobs\":null}],\"id\":\"c\"}\n\n";
        assert_eq!(of(legacy).unwrap(), legacy.replace("ab", "ax"));
        let native = "data: {\"index\":0,\"content\":\"ab\",\"tokens\":[272],\"stop\":false}\n\n";
        assert_eq!(of(native).unwrap(), native.replace("ab", "ax"));
        assert_eq!(of("data: {\"index\":1,\"content\":\"ab\"}\n\n"), None);
    }

    proptest! {
        /// The frame reads as it would have with the other text in it, and as nothing else.
        #[test]
        fn what_is_read_is_what_was_put_there(text in ".{0,8}", with in ".{0,4}", from in 0usize..9, len in 0usize..9) {
            let frame = |text: &str| {
                let text = serde_json::Value::from(text);
                format!("data: {{\"id\":\"i\",\"choices\":[{{\"delta\":{{\"content\":{text}}}}}],\"n\":[1,null]}}\n\n")
            };
            let range = from..from + len;
            let got = edited(&frame(&text), Channel::Content, range.clone(), &with);
            let want = text.get(range.clone()).map(|_| {
                let mut text = text.clone();
                text.replace_range(range, &with);
                frame(&text)
            });
            prop_assert_eq!(got, want);
        }
    }
}
