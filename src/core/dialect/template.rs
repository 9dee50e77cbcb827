//! The shape that the last frame had, kept to read the next one without parsing it.
//!
//! In a token stream nearly every frame equals the one before it but for one string. When a frame is the same bytes
//! as a frame that was parsed, except for what stands between the quotes of its only text, and what stands there needs
//! no unescaping, then parsing it would give the same facts with the new text. The comparison is two `memcmp`s.

use crate::event::{Delta, FrameFacts, LaneId};
use std::borrow::Cow;

/// Longest frame that is remembered, in bytes. Frames with logprobs or timings differ anyway.
const TEMPLATE_BYTES_MAX: usize = 1024;

/// What is known of the last frame that carried exactly one plain text and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Template {
    /// The frame up to the text's opening quote, then from its closing quote on.
    frame: Vec<u8>,
    prefix_len: usize,
    lane: Option<LaneId>,
    /// `FrameFacts::progress` of the frame.
    progress: bool,
}

impl Template {
    /// The lane, the text and whether the frame is progress of its own, if `frame` differs from the remembered one only
    /// in its text.
    #[must_use]
    pub fn read<'a>(&self, frame: &'a [u8]) -> Option<FrameFacts<'a>> {
        let lane = self.lane?;
        let (prefix, suffix) = self.frame.split_at(self.prefix_len);
        let text = frame.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let plain = !text.is_empty() && text.iter().all(|b| !matches!(b, 0..=0x1f | b'"' | b'\\'));
        if !plain {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let deltas = vec![Delta {
            lane,
            text: Cow::Borrowed(text),
        }];
        Some(FrameFacts {
            deltas,
            progress: self.progress,
            ..FrameFacts::default()
        })
    }

    /// Remembers `frame`, if its facts are one text that stands in it as it is.
    pub fn learn(&mut self, frame: &[u8], facts: &FrameFacts<'_>) {
        let [
            Delta {
                lane,
                text: Cow::Borrowed(text),
            },
        ] = facts.deltas.as_slice()
        else {
            return;
        };
        let alone = facts.finishes.is_empty()
            && facts.names.is_empty()
            && facts.error.is_none()
            && facts.silent_error.is_none()
            && !facts.done;
        if !alone || text.is_empty() || frame.len() > TEMPLATE_BYTES_MAX {
            return;
        }
        // A borrowed text is a part of the frame's own memory; its address says where it stands.
        let start = (text.as_ptr() as usize).wrapping_sub(frame.as_ptr() as usize);
        let end = start.wrapping_add(text.len());
        let quoted = start >= 1 && frame.get(start - 1) == Some(&b'"') && frame.get(end) == Some(&b'"');
        if !quoted || frame.get(start..end) != Some(text.as_bytes()) {
            return;
        }
        self.frame.clear();
        self.frame.extend_from_slice(&frame[..start]);
        self.frame.extend_from_slice(&frame[end..]);
        self.prefix_len = start;
        self.lane = Some(*lane);
        self.progress = facts.progress;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;
    use proptest::prelude::*;

    fn learned(frame: &[u8]) -> Template {
        let mut template = Template::default();
        template.learn(frame, &Dialect::Chat.frame(frame).unwrap());
        template
    }

    #[test]
    fn the_next_token_is_read_without_parsing() {
        let frame = |text: &str| {
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}],\"id\":\"x\"}}\n\n"
            )
        };
        let template = learned(frame("The").as_bytes());
        let next = frame(" way é");
        let facts = template.read(next.as_bytes()).unwrap();
        assert_eq!(facts.deltas[0].text, " way é");
        for other in [
            frame("a\\n"),
            frame("a\"b"),
            frame(""),
            frame("a").replace("\"x\"", "\"y\""),
            frame("a").replace("\n\n", "\r\n\r\n"),
        ] {
            assert_eq!(template.read(other.as_bytes()), None, "{other}");
        }
        assert_eq!(template.read(b""), None);
    }

    #[test]
    fn frames_with_more_than_a_text_are_not_remembered() {
        for frame in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning\":\"b\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\u0041\"}}]}\n\n",
            "data: {\"choices\":[],\"usage\":{}}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"error\":\"x\"}\n\n",
        ] {
            assert!(learned(frame.as_bytes()).lane.is_none(), "{frame}");
        }
    }

    /// A chunk with its members in any order, some of them nested texts that look like the template's.
    fn frame() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["content", "reasoning_content", "refusal"]);
        let text = prop_oneof![
            "[a-z ]{1,4}",
            ".{0,4}",
            Just("\"".to_owned()),
            Just("é".to_owned())
        ];
        let extra = prop::sample::select(vec![
            "",
            ",\"id\":\"a\"",
            ",\"x\":{\"content\":\"a\"}",
            ",\"usage\":{}",
        ]);
        (key, text, extra, any::<bool>()).prop_map(|(key, text, extra, role)| {
            let role = if role { "\"role\":\"assistant\"," } else { "" };
            let text = serde_json::to_string(&text).unwrap();
            format!("data: {{\"choices\":[{{\"delta\":{{{role}\"{key}\":{text}}}}}]{extra}}}\n\n")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// Whatever the template reads, the parser reads the same.
        #[test]
        fn the_template_agrees_with_the_parser(first in frame(), second in frame()) {
            let template = learned(first.as_bytes());
            if let Some(facts) = template.read(second.as_bytes()) {
                let parsed = Dialect::Chat.frame(second.as_bytes()).unwrap();
                prop_assert_eq!(facts, FrameFacts { model: None, ..parsed });
            }
        }

        /// The same when only the text changes, to anything.
        #[test]
        fn any_text_in_the_same_frame_agrees(text in ".{0,6}", raw in prop::collection::vec(any::<u8>(), 0..6)) {
            let head = b"data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"".to_vec();
            let tail = b"\"}}]}\n\n";
            let template = learned(&[&head[..], b"x", tail].concat());
            for middle in [text.as_bytes(), &raw] {
                let frame = [&head[..], middle, tail].concat();
                if let Some(facts) = template.read(&frame) {
                    let parsed = Dialect::Chat.frame(&frame).unwrap();
                    prop_assert_eq!(facts, FrameFacts { model: None, ..parsed });
                }
            }
        }
    }
}
