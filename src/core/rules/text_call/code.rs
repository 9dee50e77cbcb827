//! Where a text in Markdown shows code: inside a fence, and behind a backtick.

/// Fewest marks in a row that make a fence.
const FENCE_MARKS_MIN: usize = 3;

/// A run of backticks or tildes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    byte: u8,
    count: usize,
}

/// Where in its line the text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Line {
    /// Before anything but white space.
    #[default]
    Start,
    /// In the marks that begin the line.
    Marks(Marks),
    /// Behind enough marks for a fence.
    Behind(Marks),
    /// In a line that is no fence.
    Text,
}

/// Follows a text byte by byte.
#[derive(Debug, Default)]
pub(super) struct Code {
    line: Line,
    /// The fence that is open.
    fence: Option<Marks>,
    /// The last byte was a backtick.
    tick: bool,
}

impl Code {
    /// Whether what comes next is shown as code.
    pub(super) const fn is_code(&self) -> bool {
        self.fence.is_some() || self.tick
    }

    /// Reads on.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            self.step(*byte);
            // The rest of a line of text can open or close nothing.
            bytes = if self.line == Line::Text {
                let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                self.tick = rest[..end].last().map_or(self.tick, |last| *last == b'`');
                &rest[end..]
            } else {
                rest
            };
        }
    }

    fn step(&mut self, byte: u8) {
        self.tick = byte == b'`';
        self.line = match self.line {
            Line::Marks(marks) | Line::Behind(marks)
                if matches!(byte, b'\n' | b'\r') && marks.count >= FENCE_MARKS_MIN =>
            {
                self.fence(marks);
                Line::Start
            }
            _ if matches!(byte, b'\n' | b'\r') => Line::Start,
            Line::Start if matches!(byte, b' ' | b'\t') => Line::Start,
            Line::Start if matches!(byte, b'`' | b'~') => Line::Marks(Marks { byte, count: 1 }),
            Line::Marks(marks) if marks.byte == byte => Line::Marks(Marks {
                count: marks.count + 1,
                ..marks
            }),
            Line::Marks(marks) | Line::Behind(marks)
                if marks.count >= FENCE_MARKS_MIN && self.may_follow(marks, byte) =>
            {
                Line::Behind(marks)
            }
            Line::Start | Line::Marks(_) | Line::Behind(_) | Line::Text => Line::Text,
        };
    }

    /// Whether a line that begins with `marks` may still be a fence after this byte: a closing one ends there, and the
    /// words behind an opening one of backticks have none.
    const fn may_follow(&self, marks: Marks, byte: u8) -> bool {
        if self.fence.is_some() {
            matches!(byte, b' ' | b'\t')
        } else {
            marks.byte != b'`' || byte != b'`'
        }
    }

    /// A line of marks is over.
    const fn fence(&mut self, marks: Marks) {
        self.fence = match self.fence {
            None => Some(marks),
            Some(open) if open.byte == marks.byte && marks.count >= open.count => None,
            open => open,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_code(text: &str) -> bool {
        let (mut whole, mut split) = (Code::default(), Code::default());
        whole.feed(text.as_bytes());
        for byte in text.bytes() {
            split.feed(&[byte]);
        }
        assert_eq!(whole.is_code(), split.is_code(), "{text:?}");
        whole.is_code()
    }

    #[test]
    fn fences_and_backticks_show_code() {
        for text in [
            "```\n",
            "a\n  ```json\nx\n",
            "~~~ `x`\n",
            "````\n```\n",
            "```\n~~~\n",
            "```\n``` x\n",
            "```\r\n",
            "a `",
            "``",
        ] {
            assert!(is_code(text), "{text:?}");
        }
        for text in [
            "",
            "``\n",
            "```\na\n```\n",
            "```\n````  \n",
            "~~~\n~~~\n",
            "a ```\n",
            "```x```\n",
            "`x` ",
            "``` ",
        ] {
            assert!(!is_code(text), "{text:?}");
        }
    }
}
