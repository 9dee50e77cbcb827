//! A window over the last characters of a lane, independent of how the text was cut into chunks.

use std::ops::Range;

/// Keeps at least the last `bytes_max` bytes of a lane (all of it while it is shorter).
#[derive(Debug, Clone, Default)]
pub struct Window {
    text: String,
    /// Lane offset of the first byte of `text`.
    start: u64,
}

impl Window {
    /// Lane offset just after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.text.len() as u64
    }

    /// Appends text and forgets what is no longer needed. Costs O(1) per byte: the front is dropped only when the
    /// window is twice as long as asked.
    pub fn push(&mut self, text: &str, bytes_max: usize) {
        let skipped = tail_start(text, bytes_max);
        if skipped > 0 {
            self.start = self.end() + skipped as u64;
            self.text.clear();
        }
        self.text.push_str(&text[skipped..]);
        if self.text.len() > 2 * bytes_max {
            let drop = tail_start(&self.text, bytes_max);
            self.text.drain(..drop);
            self.start += drop as u64;
        }
    }

    /// The text of `span` as far as the window and the `fresh` text that follows it (not pushed yet) still have it,
    /// at most its last `chars_max` characters. The answer depends only on the lane's text, not on its chunks, as
    /// long as `chars_max` characters fit into the window.
    #[must_use]
    pub fn excerpt(&self, fresh: &str, span: Range<u64>, chars_max: usize) -> String {
        let cut = |text: &str, base: u64| {
            let at = |offset: u64| {
                let mut i = (offset.saturating_sub(base) as usize).min(text.len());
                while !text.is_char_boundary(i) {
                    i -= 1;
                }
                i
            };
            text[at(span.start)..at(span.end).max(at(span.start))].to_owned()
        };
        let mut joined = cut(&self.text, self.start);
        joined.push_str(&cut(fresh, self.end()));
        match joined.char_indices().rev().nth(chars_max.saturating_sub(1)) {
            Some((at, _)) if chars_max > 0 => joined.split_off(at),
            _ if chars_max == 0 => String::new(),
            _ => joined,
        }
    }
}

/// Start of the last `bytes_max` bytes of `text`, moved left to a character's start.
fn tail_start(text: &str, bytes_max: usize) -> usize {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn excerpts_do_not_depend_on_chunks(text in "[a-zé漢🦀 ]{0,200}", cut in 0usize..200, from in 0u64..200) {
            let mut cut = cut.min(text.len());
            while !text.is_char_boundary(cut) { cut -= 1; }
            let span = from.min(text.len() as u64)..text.len() as u64;
            let whole = Window::default().excerpt(&text, span.clone(), 10);
            let mut split = Window::default();
            split.push(&text[..cut], 40);
            prop_assert_eq!(split.end(), cut as u64);
            prop_assert_eq!(split.excerpt(&text[cut..], span, 10), whole);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut window = Window::default();
        for _ in 0..1000 {
            window.push("0123456789", 32);
        }
        assert!(window.text.len() <= 64);
        assert_eq!(window.end(), 10_000);
    }
}
