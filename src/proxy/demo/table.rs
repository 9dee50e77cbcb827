//! The tour's table: four columns in 100 characters, wrapped cells, loops shown as a count.

use std::fmt::Write as _;

/// Characters of a line.
pub(super) const WIDTH: usize = 100;

/// Characters of each column; two blanks stand between columns.
const COLUMNS: [usize; 4] = [19, 27, 27, 21];

/// Longest repeated block that [`shorten`] recognises, in characters.
const BLOCK_MAX: usize = 200;

/// Repeats and characters that make a loop; less is style.
const REPEATS_MIN: usize = 3;
const LOOP_MIN: usize = 40;

/// The look of one piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Code,
}

/// Whether styles become escape sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Palette {
    pub(super) colours: bool,
}

impl Palette {
    /// Colours only where stdout is a terminal that can show them and nobody objects (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        use std::io::IsTerminal;
        let set = |key: &str| std::env::var_os(key).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Self {
            colours: std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// `text` in `style`.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.colours => return text.to_owned(),
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Code => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// One cell: paragraphs, each wrapped on its own.
pub(super) type Cell = Vec<(Style, String)>;

/// The lines of one row, none wider than [`WIDTH`].
pub(super) fn row(cells: &[Cell; 4], palette: Palette) -> String {
    let wrapped: Vec<Vec<(Style, String)>> = cells
        .iter()
        .zip(COLUMNS)
        .map(|(cell, width)| {
            let lines = |(style, text): &(Style, String)| {
                wrap(text, width)
                    .into_iter()
                    .map(|line| (*style, line))
                    .collect::<Vec<_>>()
            };
            cell.iter().flat_map(lines).collect()
        })
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = String::new();
    for line in 0..height {
        let mut owed = 0;
        for (column, cell) in wrapped.iter().enumerate() {
            if let Some((style, text)) = cell.get(line).filter(|(_, text)| !text.is_empty()) {
                let _infallible = write!(out, "{:owed$}{}", "", palette.paint(*style, text));
                owed = COLUMNS[column] - text.chars().count() + 2;
            } else {
                owed += COLUMNS[column] + 2;
            }
        }
        out.push('\n');
    }
    out
}

/// The line under the table's head.
pub(super) fn rule() -> String {
    COLUMNS.map(|width| "─".repeat(width)).join("  ") + "\n"
}

/// Breaks `text` at blanks into lines of at most `width` characters; a longer word is broken where the line ends.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() <= width {
            line.push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        used += word.len();
        line.extend(word);
    }
    if used > 0 {
        lines.push(line);
    }
    lines
}

/// `text` in at most about `most` characters: a loop as its block and a count, else beginning and end. Control
/// characters become blanks, so that a model's text cannot steer the terminal.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let text: Vec<char> = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if let Some(Repeats { start, period, count }) = repeats(&text) {
        let part = |part: &[char], most| middle(part.iter().collect::<String>().trim(), most);
        let block = part(&text[start..start + period], most / 2);
        let rest = &text[start + count * period..];
        // A round that is not over is part of the loop.
        let rest = if text[start..].starts_with(rest) {
            &[]
        } else {
            rest
        };
        let parts = [
            part(&text[..start], most / 2),
            format!("[{block}] × {count}"),
            part(rest, most / 2),
        ];
        return parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
    }
    middle(text.iter().collect::<String>().trim(), most)
}

/// Beginning and end of `text` with `…` between where it is longer than `most` characters.
fn middle(text: &str, most: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= most {
        return text.to_owned();
    }
    let tail = most / 3;
    let head: String = characters[..most - tail].iter().collect();
    let end: String = characters[characters.len() - tail..].iter().collect();
    // A word cut in two reads as a fault of the model's; without a blank there are no words.
    let head = head.rsplit_once(' ').map_or(head.as_str(), |(whole, _)| whole);
    let end = end.split_once(' ').map_or(end.as_str(), |(_, whole)| whole);
    format!("{} … {}", head.trim_end(), end.trim_start())
}

/// A block that comes again and again, in characters.
struct Repeats {
    start: usize,
    period: usize,
    count: usize,
}

/// The repetition with the shortest period.
fn repeats(text: &[char]) -> Option<Repeats> {
    (1..=BLOCK_MAX.min(text.len() / REPEATS_MIN)).find_map(|period| {
        let mut end = period;
        while end < text.len() {
            let same = (end..text.len())
                .take_while(|&i| text[i] == text[i - period])
                .count();
            let length = period + same;
            if length >= REPEATS_MIN * period && length >= LOOP_MIN {
                let start = aligned(text, end - period, period);
                let count = (end + same - start) / period;
                return Some(Repeats { start, period, count });
            }
            end += same + 1;
        }
        None
    })
}

/// The first place at or after `start`, within one period, where a sentence begins, or else a word: the same loop, but its
/// block reads better.
fn aligned(text: &[char], start: usize, period: usize) -> usize {
    let blank = |i: &usize| text[*i] == ' ';
    let sentence = |i: &usize| blank(i) && *i > 0 && ".!?".contains(text[*i - 1]);
    let block = start..start + period;
    block
        .clone()
        .find(sentence)
        .or_else(|| block.clone().find(blank))
        .unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Palette = Palette { colours: false };

    #[test]
    fn a_row_keeps_its_columns() {
        let cell = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| (Style::Plain, (*t).to_owned()))
                .collect::<Cell>()
        };
        let cells = [
            cell(&["demo-loop", "in circles"]),
            cell(&["one two three four five six seven eight"]),
            cell(&[]),
            cell(&["A201_token_loop", "0.71 s, direct 2.50 s"]),
        ];
        let expected = "\
demo-loop            one two three four five six                               A201_token_loop
in circles           seven eight                                               0.71 s, direct 2.50 s
";
        assert_eq!(row(&cells, PLAIN), expected);
        assert_eq!(rule().trim_end().chars().count(), WIDTH);
    }

    #[test]
    fn no_line_is_wider_than_the_table() {
        let long: Cell = vec![(
            Style::Plain,
            "uninterruptible".repeat(9) + " ünd süß " + &"x ".repeat(90),
        )];
        let text = row(&[long.clone(), long.clone(), long.clone(), long], PLAIN);
        assert!(text.lines().count() > 8);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn colours_add_escapes_and_nothing_else() {
        let cells = [
            vec![(Style::Good, "a".to_owned())],
            vec![(Style::Bad, "b".to_owned())],
            vec![],
            vec![],
        ];
        let coloured = row(&cells, Palette { colours: true });
        assert!(coloured.starts_with("\x1b[32ma\x1b[0m"));
        let bare = coloured
            .replace("\x1b[32m", "")
            .replace("\x1b[1;31m", "")
            .replace("\x1b[0m", "");
        assert_eq!(bare, row(&cells, PLAIN));
    }

    #[test]
    fn loops_are_counted() {
        let text = format!("Let me see.{}", " I should check again.".repeat(7));
        assert_eq!(shorten(&text, 80), "Let me see. [I should check again.] × 7");
        let broken_off = format!("{text} I should");
        assert_eq!(shorten(&broken_off, 80), shorten(&text, 80));
        let gone_on = format!("{text} Salt is salt, and that is all there is to say.");
        assert_eq!(
            shorten(&gone_on, 80),
            "Let me see. [I should check again.] × 7 Salt is salt, and that is … is to say."
        );
        assert_eq!(shorten("a\x1b[31mb\nc", 20), "a [31mb c");
        assert_eq!(shorten(&"word ".repeat(2), 40), "word word");
        let prose = super::super::prose::answer("Why is the sea salty?", 0);
        let short = shorten(&prose, 60);
        assert!(short.contains(" … ") && short.chars().count() <= 64, "{short}");
    }
}
