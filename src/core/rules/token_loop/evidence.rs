//! How many repeats are enough, by the kind of text that repeats.
//!
//! A sentence that comes four times in a row is a loop; four equal table rows, forty dashes or eight closing tags are
//! not. So the period is looked at once, when it has come three times, and put into a class.

use super::Settings;
use super::history::{History, chars_of, is_number, scalar_of};

/// What a period is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Texture {
    /// Its length in characters.
    pub chars: u32,
    letters: u32,
    numbers: u32,
    blanks: u32,
    newlines: u32,
    pipes: u32,
    /// Lines that begin with a bullet or a number.
    items: u32,
    /// Signs of markup or code: closing tags, lines that end in `;`, `{` or `}`.
    code: u32,
    /// Characters that running text has little use for.
    marks: u32,
    /// Places to be filled in by the reader: brackets round words, runs of `_`.
    blanks_to_fill: u32,
    /// Marks of a fenced block.
    fences: u32,
}

impl Texture {
    /// Reads the last `period` symbols.
    pub(super) fn read(history: &History, period: u64) -> Self {
        let mut t = Self::default();
        let (mut before, mut earlier) = ('\0', '\0');
        // The character before was the first of its line.
        let mut opens = false;
        // A period has no first line: its end runs into its start, so the line start before it is what ends it.
        let mut at_line_start = scalar_of(history.at(history.count() - 1)) == Some('\n');
        for i in history.count() - period..history.count() {
            let symbol = history.at(i);
            t.chars += chars_of(symbol);
            let c = if is_number(symbol) {
                '0'
            } else {
                scalar_of(symbol).unwrap_or('\u{1F600}')
            };
            match c {
                '0'..='9' => t.numbers += 1,
                '\n' => {
                    t.newlines += 1;
                    t.code += u32::from(matches!(before, ';' | '{' | '}'));
                }
                '|' | '&' | '\t' => t.pipes += 1,
                '/' if before == '<' => t.code += 1,
                '>' if before == '/' => t.code += 1,
                ']' if before.is_alphanumeric() => t.blanks_to_fill += 1,
                '_' if before == '_' && earlier == '_' => t.blanks_to_fill += 1,
                '`' if before == '`' && earlier == '`' => t.fences += 1,
                '{' | '}' | '[' | '<' | '>' | '(' | ')' | '=' | ';' | '$' | '\\' => t.marks += 1,
                _ if is_blank(c) => t.blanks += 1,
                _ if c.is_alphabetic() => t.letters += 1,
                _ => {}
            }
            // A bullet is followed by a blank, a number by a dot; `**bold**` and `---` are neither.
            let item = match before {
                '-' | '*' | '+' => c == ' ',
                '0'..='9' => matches!(c, '.' | ')'),
                '•' | '・' => true,
                _ => false,
            };
            t.items += u32::from(opens && item);
            opens = at_line_start && !is_blank(c);
            at_line_start = c == '\n' || (at_line_start && is_blank(c));
            (earlier, before) = (before, c);
        }
        t.blanks += t.newlines;
        t
    }

    /// Nothing but white space: the flood check sees to it.
    const fn blank(&self) -> bool {
        self.letters == 0 && self.numbers == 0 && self.blanks == self.chars
    }

    /// Code or markup by its place or by its look. A letter in a fenced block is running text all the same.
    const fn is_code(&self, around: Surroundings) -> bool {
        let text = self.fences > 0 || (self.marks == 0 && self.chars >= 100);
        self.code > 0 || (around.code && !text)
    }

    /// Mostly rulers and leaders: forms, frames, tables of contents.
    const fn is_sparse(&self) -> bool {
        self.newlines > 0 && self.letters * 4 < self.chars.saturating_sub(self.blanks)
    }

    /// Short lines with bullets, numbers or gaps to fill in.
    const fn is_list(&self) -> bool {
        self.newlines > 0 && self.chars / self.newlines < 160 && (self.items > 0 || self.blanks_to_fill > 0)
    }
}

/// White space, and the characters that look like nothing.
pub(super) const fn is_blank(c: char) -> bool {
    match c {
        ' ' | '\n' | '\t' | '\r' => true,
        _ if c.is_ascii() => c.is_ascii_whitespace(),
        '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}' | '\u{2800}' | '\u{3164}' => true,
        _ => c.is_whitespace(),
    }
}

/// Where the period was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Inside a fenced block, or in the arguments of a tool call.
    pub code: bool,
    /// Right after a long unbroken string of base64 or hex, and without a blank itself.
    pub blob: bool,
}

/// What must be there before a repetition is a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Whole repeats, the first one included.
    pub repeats: u32,
    /// Characters from the start of the first repeat.
    pub chars: u32,
}

const fn need(repeats: u32, chars: u32) -> Need {
    Need { repeats, chars }
}

/// The evidence wanted when the period repeats exactly. `None`: never a loop.
pub(super) fn exact(t: &Texture, around: Surroundings, settings: &Settings) -> Option<Need> {
    if t.blank() {
        return None;
    }
    let code = t.is_code(around);
    let base = if t.letters == 0 && t.numbers == 0 {
        // Rulers, frames, empty forms and table rows.
        if t.newlines == 0 {
            need(32, 600)
        } else {
            need(48, 3000)
        }
    } else if t.letters <= t.numbers {
        // Vectors, matrices, byte tables.
        match (t.newlines, code) {
            (0, false) => need(32, 2000),
            (0, true) => need(64, 4000),
            _ => need(80, 4000),
        }
    } else if t.is_sparse() {
        if t.chars < 160 {
            need(32, 1600)
        } else {
            need(12, 0)
        }
    } else if around.blob && t.blanks == 0 {
        need(32, 2000)
    } else if code {
        match t.chars {
            0..40 => need(48, 1200),
            40..160 => need(20, 1200),
            160..400 => need(12, 0),
            _ => need(6, 0),
        }
    } else if t.pipes > 0 && t.newlines > 0 {
        match t.chars {
            0..160 => need(24, 800),
            160..400 => need(10, 0),
            _ => need(6, 0),
        }
    } else if t.is_list() {
        match t.chars {
            0..100 => need(10, 400),
            100..400 => need(6, 0),
            _ => need(5, 0),
        }
    } else {
        prose(t, settings.repeats_min)
    };
    Some(need(
        base.repeats.max(settings.repeats_min),
        base.chars.max(settings.chars_min),
    ))
}

/// Running text: the shorter the period, the more repeats. Verse may repeat a line.
const fn prose(t: &Texture, repeats_min: u32) -> Need {
    match t.chars {
        0..3 => need(100, 300),
        3..8 => need(32, 240),
        8..20 => need(10, 160),
        20..40 if t.newlines > 0 => need(8, 200),
        20..40 => need(5, 120),
        40..100 if t.newlines > 0 => need(6, 240),
        _ => need(repeats_min, 160),
    }
}

/// The evidence wanted when the period repeats with other numbers in it. Lists, logs, plans and test tables do that
/// for good reasons, as long as people ask for: a hundred rows, a month of days. `None`: never a loop.
pub(super) fn counting(t: &Texture, around: Surroundings, settings: &Settings) -> Option<Need> {
    if !settings.counters || t.blank() || t.numbers == 0 {
        return None;
    }
    let code = t.is_code(around);
    let base = if t.letters <= t.numbers {
        if code {
            return None;
        }
        need(4000, 20_000)
    } else if code || t.is_sparse() || (t.pipes > 0 && t.newlines > 0) {
        need(520, 12_000)
    } else {
        match t.chars {
            0..100 => need(130, 2000),
            100..400 => need(40, 0),
            _ => need(16, 0),
        }
    };
    Some(need(
        base.repeats.max(settings.repeats_min),
        base.chars.max(settings.chars_min),
    ))
}
