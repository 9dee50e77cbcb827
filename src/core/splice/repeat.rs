//! How much of the beginning of a continuation repeats the text that it continues.

use crate::limits::{OVERLAP_BYTES_MAX, OVERLAP_LETTERS_MIN};

/// Reads the beginning of a continuation until it is certain how much of it is a repeat.
#[derive(Debug)]
pub(super) struct Repeat {
    /// The whole text that may come again.
    echo: String,
    /// How much of it has come. All that has come, while `echoing`.
    come: usize,
    echoing: bool,
    overlap: Overlap,
}

impl Repeat {
    /// `None` when nothing can be repeated. A text that comes again whole is looked for first, an overlap when it does not.
    pub(super) fn new(echo: Option<String>, overlap: Option<&str>) -> Option<Self> {
        let echo = echo.unwrap_or_default();
        let overlap = Overlap::new(overlap.unwrap_or_default());
        let echoing = !echo.is_empty();
        (echoing || !overlap.open.is_empty()).then_some(Self {
            echo,
            come: 0,
            echoing,
            overlap,
        })
    }

    /// All text that has come, while it is the beginning of a text that may come again whole.
    pub(super) fn echoed(&self) -> Option<&str> {
        self.echo.get(..self.come).filter(|_| self.echoing)
    }

    /// The first bytes of a text of which that much has come as an echo.
    pub(super) fn beginning(&self, bytes: usize) -> &str {
        self.echo.get(..bytes).unwrap_or_default()
    }

    /// Takes the next piece of the continuation. How many bytes of all that came are a repeat, once that is certain.
    pub(super) fn feed(&mut self, piece: &str) -> Option<usize> {
        if self.echoing {
            let rest = self.echo.get(self.come..).unwrap_or_default();
            if piece.starts_with(rest) {
                return Some(self.echo.len());
            }
            if rest.starts_with(piece) {
                self.come += piece.len();
                return None;
            }
            self.stop_echoing();
        }
        self.overlap.feed(piece);
        self.overlap.open.is_empty().then_some(self.overlap.best)
    }

    /// No more comes. How many bytes of all that came are a repeat: a part of an echo is a real answer, and only an
    /// overlap that came whole is one.
    pub(super) fn end(&mut self) -> usize {
        if self.echoing {
            self.stop_echoing();
        }
        self.overlap.best
    }

    fn stop_echoing(&mut self) {
        self.echoing = false;
        self.overlap.feed(self.echo.get(..self.come).unwrap_or_default());
    }
}

/// Looks for the longest end of a text with which another begins.
#[derive(Debug)]
struct Overlap {
    text: String,
    /// Where the ends begin that all that was read is the beginning of.
    open: Vec<usize>,
    read: usize,
    /// The longest end that came whole, in bytes.
    best: usize,
}

impl Overlap {
    fn new(text: &str) -> Self {
        let from = text.ceil_char_boundary(text.len().saturating_sub(OVERLAP_BYTES_MAX));
        let text = text.get(from..).unwrap_or_default().to_owned();
        Self {
            open: ends(&text),
            text,
            read: 0,
            best: 0,
        }
    }

    fn feed(&mut self, piece: &str) {
        let Self {
            text,
            open,
            read,
            best,
        } = self;
        open.retain(|start| {
            let rest = text.get(start + *read..).unwrap_or_default();
            if piece.starts_with(rest) {
                *best = (*best).max(text.len() - start);
                return false;
            }
            rest.starts_with(piece)
        });
        self.read += piece.len();
    }
}

/// Where the ends of a text begin that are long enough to be no chance, and do not begin inside a word.
///
/// Signs and spaces do not count: indentation, closing brackets and the rules of a table follow each other in any text.
/// Two short words or one long one do not. The whole text is long enough in any case.
fn ends(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut letters = 0;
    let mut chars = text.char_indices().rev().peekable();
    while let Some((at, char)) = chars.next() {
        if char.is_alphanumeric() {
            letters += char.len_utf8();
        }
        let inside = chars.peek().is_some_and(|(_, before)| in_one_word(*before, char));
        if at == 0 || letters >= OVERLAP_LETTERS_MIN && !inside {
            starts.push(at);
        }
    }
    starts
}

/// Whether no word ends between two characters. Scripts that write no spaces have a border everywhere.
fn in_one_word(before: char, after: char) -> bool {
    /// The first of them is Thai; those behind it that do write spaces lose nothing but a little caution.
    const UNSPACED_FROM: char = '\u{0E00}';
    let letter = |char: char| char.is_alphanumeric() && char < UNSPACED_FROM;
    letter(before) && letter(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds pieces; what was certain, and after how many pieces.
    fn fed(repeat: &mut Repeat, pieces: &[&str]) -> (usize, usize) {
        for (number, piece) in pieces.iter().enumerate() {
            if let Some(bytes) = repeat.feed(piece) {
                return (bytes, number + 1);
            }
        }
        (repeat.end(), pieces.len() + 1)
    }

    fn echo(text: &str, pieces: &[&str]) -> (usize, usize) {
        fed(&mut Repeat::new(Some(text.to_owned()), None).unwrap(), pieces)
    }

    fn overlap(text: &str, pieces: &[&str]) -> (usize, usize) {
        fed(&mut Repeat::new(None, Some(text)).unwrap(), pieces)
    }

    #[test]
    fn nothing_to_repeat_needs_no_reader() {
        assert!(Repeat::new(None, None).is_none());
        assert!(Repeat::new(Some(String::new()), Some("")).is_none());
    }

    #[test]
    fn an_echo_is_certain_when_it_is_whole_or_differs() {
        assert_eq!(echo("The river", &["The", " river", " flows"]), (9, 2));
        assert_eq!(echo("The river", &["The river flows"]), (9, 1));
        assert_eq!(echo("The river", &["The", " road"]), (0, 2));
        assert_eq!(echo("The river", &["Flows"]), (0, 1));
        assert_eq!(
            echo("The river", &["The", " riv"]),
            (0, 3),
            "an answer of its own"
        );
    }

    #[test]
    fn an_overlap_is_the_longest_end_that_came_whole() {
        let text = "It rises in the hills and flows to the sea";
        assert_eq!(overlap(text, &["flows to", " the sea", ", where"]), (16, 2));
        assert_eq!(overlap(text, &[" and flows to the sea."]), (21, 1));
        assert_eq!(
            overlap(text, &["the sea is"]),
            (0, 1),
            "six letters may be chance"
        );
        assert_eq!(
            overlap(text, &["ills and flows to the sea"]),
            (0, 1),
            "inside a word"
        );
        assert_eq!(overlap(text, &["flows to", " a lake"]), (0, 2));
        assert_eq!(overlap(text, &["flows", " to"]), (0, 3), "not certain to the end");
        assert_eq!(overlap("Hi", &["Hi", " there"]), (2, 1), "the whole text");
        assert_eq!(
            overlap("    }\n    }\n", &["    }\n"]),
            (0, 2),
            "indentation is no repeat"
        );
        assert_eq!(
            overlap("河流从山上流下来，最后", &["流下来，最后", "入海"]),
            (18, 1)
        );
    }

    #[test]
    fn a_shorter_overlap_counts_when_a_longer_one_fails() {
        // "yes sir yes sir " may go on to be twelve words more; it does not.
        let text = "now sir yes sir yes sir ";
        assert_eq!(overlap(text, &["sir yes sir ", "no"]), ("sir yes sir ".len(), 2));
        let both = &mut Repeat::new(Some(text.to_owned()), Some(text)).unwrap();
        assert_eq!(fed(both, &["sir yes", " sir ", "no"]), ("sir yes sir ".len(), 3));
    }

    #[test]
    fn an_echo_that_differs_may_still_overlap() {
        let text = "one two three, one two three";
        let both = || Repeat::new(Some(text.to_owned()), Some(text)).unwrap();
        assert_eq!(fed(&mut both(), &["one two", " three", " four"]), (13, 3));
        assert_eq!(
            fed(&mut both(), &["one two", " three"]),
            (13, 3),
            "at the end too"
        );
        assert_eq!(
            fed(&mut both(), &["one two three, one two three", "x"]),
            (text.len(), 1)
        );
    }

    /// What the overlap is by its definition.
    fn longest(text: &str, continuation: &str) -> usize {
        let ends = ends(text).into_iter().map(|at| &text[at..]);
        ends.filter(|end| continuation.starts_with(end))
            .map(str::len)
            .max()
            .unwrap_or(0)
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "(ab |cde |ü){0,12}",
            "[a-c ]{0,40}",
            "(the river flows |🚀 |\n){0,6}"
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// However the continuation comes, the overlap is the one of the definition.
        #[test]
        fn any_split_gives_the_longest_overlap(text in texts(), keep in 0usize..60, rest in texts(), cuts in prop::collection::vec(1usize..7, 1..20)) {
            let start = text.floor_char_boundary(text.len().saturating_sub(keep));
            let continuation = format!("{}{rest}", &text[start..]);
            let Some(mut repeat) = Repeat::new(None, Some(&text)) else { return Ok(()) };
            let mut pieces = Vec::new();
            let (mut left, mut cuts) = (continuation.as_str(), cuts.iter().cycle());
            while !left.is_empty() {
                let (piece, behind) = left.split_at(left.ceil_char_boundary(*cuts.next().unwrap()));
                pieces.push(piece);
                left = behind;
            }
            prop_assert_eq!(fed(&mut repeat, &pieces).0, longest(&text, &continuation));
        }
    }
}
