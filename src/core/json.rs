//! A strict, incremental JSON automaton: it reads bytes as they come and stops at the first byte after which no
//! continuation could be valid JSON any more.
//!
//! The grammar is RFC 8259: one value of any kind, white space around it, nothing else. It is checked byte by byte
//! with one state, one bit per open bracket and no look-ahead, so the text never has to be kept. Two things are
//! deliberately outside the grammar and therefore accepted: lone surrogate escapes (`"\ud800"`) and repeated keys.
//! What can be mended with certainty is the business of [`mend`].

pub mod mend;
mod reason;

pub use reason::Reason;

/// The first byte after which the text cannot become JSON any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Impossible {
    /// Index of that byte in the slice that was fed; 0 when the automaton had failed before.
    pub at: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// The three bare words of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    True,
    False,
    Null,
}

impl Word {
    const fn spelling(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Start,
    /// After `[`.
    ArrayFirst,
    /// After a comma in an array.
    ArrayNext,
    /// After `{`.
    ObjectFirst,
    /// After a comma in an object.
    ObjectNext,
    /// After a key.
    Colon,
    /// After a colon.
    MemberValue,
    /// After a value inside brackets.
    AfterValue,
    /// The value is over.
    Closed,
    Text,
    Escape,
    /// Inside `\uXXXX`; carries how many digits are still due.
    Hex(u8),
    /// Inside a bare word; carries how many of its bytes were read.
    Word(Word, u8),
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// The automaton. Cheap to clone; without brackets it owns no heap memory.
#[derive(Debug, Clone)]
pub struct Automaton {
    state: State,
    /// The string being read is a key. Only meaningful in the string states.
    key: bool,
    depth: usize,
    depth_max: usize,
    /// One bit per open bracket, innermost last: 1 for an object, 0 for an array.
    brackets: Vec<u64>,
    failed: Option<Reason>,
}

impl Automaton {
    /// An automaton that has read nothing. `depth_max` is the number of brackets that may be open at once.
    #[must_use]
    pub const fn new(depth_max: usize) -> Self {
        Self {
            state: State::Start,
            key: false,
            depth: 0,
            depth_max,
            brackets: Vec::new(),
            failed: None,
        }
    }

    /// Reads on. The cost is constant per byte, and a fraction of that inside strings.
    ///
    /// # Errors
    /// The first impossible byte. From then on every call fails with the same reason and index 0, while
    /// [`Self::depth`] and [`Self::place`] keep describing the place before that byte.
    // A token has a few bytes: a call would cost as much as reading them.
    #[inline(always)]
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Impossible> {
        if let Some(reason) = self.failed {
            return Err(Impossible { at: 0, reason });
        }
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Text {
                at += plain_text_len(&bytes[at..]);
            }
            let Some(&byte) = bytes.get(at) else { break };
            if let Err(reason) = self.step(byte) {
                self.failed = Some(reason);
                return Err(Impossible { at, reason });
            }
            at += 1;
        }
        Ok(())
    }

    /// Whether a whole value was read. A bare number counts as whole as soon as it could end there.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        use State::{Closed, ExponentDigits, Fraction, Integer, Zero};
        self.failed.is_none()
            && self.depth == 0
            && matches!(self.state, Closed | Zero | Integer | Fraction | ExponentDigits)
    }

    /// Whether nothing but white space was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.failed.is_none() && matches!(self.state, State::Start)
    }

    /// Whether the value is over and only white space may follow. Unlike [`Self::is_complete`] this is false for a
    /// bare number that further digits could continue.
    #[must_use]
    pub const fn closed(&self) -> bool {
        self.failed.is_none() && matches!(self.state, State::Closed)
    }

    /// How many brackets are open.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Where the automaton stands, in words that fit after "ended" or "found": `inside a string`, `after a comma in
    /// an object`.
    #[must_use]
    pub fn place(&self) -> &'static str {
        match self.state {
            State::Start => "before the value",
            State::ArrayFirst => "after an opening [",
            State::ArrayNext => "after a comma in an array",
            State::ObjectFirst => "after an opening {",
            State::ObjectNext => "after a comma in an object",
            State::Colon => "after a key",
            State::MemberValue => "after a colon",
            State::AfterValue if self.in_object() => "after a member of an object",
            State::AfterValue => "after an element of an array",
            State::Closed => "after the value",
            State::Text | State::Escape | State::Hex(_) if self.key => "inside a key",
            State::Text => "inside a string",
            State::Escape | State::Hex(_) => "inside an escape of a string",
            State::Word(..) => "inside a word",
            State::Minus
            | State::Zero
            | State::Integer
            | State::Point
            | State::Fraction
            | State::Exponent
            | State::ExponentSign
            | State::ExponentDigits => "inside a number",
        }
    }

    /// [`Self::place`] and how many brackets are open there: `inside a string, 2 brackets deep`.
    #[must_use]
    pub fn standing(&self) -> String {
        match (self.place(), self.depth) {
            (place, 0) => place.to_owned(),
            (place, 1) => format!("{place}, 1 bracket deep"),
            (place, depth) => format!("{place}, {depth} brackets deep"),
        }
    }

    /// One byte. Changes nothing when the byte is impossible.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<(), Reason> {
        match self.state {
            State::Text => self.text(byte),
            State::Start => self.value(byte, Reason::NotAValue),
            State::MemberValue => self.value(byte, Reason::MissingValue),
            State::ArrayNext if byte == b']' => Err(Reason::TrailingComma),
            State::ArrayNext => self.value(byte, Reason::MissingValue),
            State::ArrayFirst if byte == b']' => self.close(),
            State::ArrayFirst => self.value(byte, Reason::MissingValue),
            State::ObjectFirst if byte == b'}' => self.close(),
            State::ObjectFirst => self.key(byte),
            State::ObjectNext if byte == b'}' => Err(Reason::TrailingComma),
            State::ObjectNext => self.key(byte),
            State::Colon if byte == b':' => self.to(State::MemberValue),
            State::Colon if is_space(byte) => Ok(()),
            State::Colon => Err(Reason::MissingColon),
            State::AfterValue | State::Closed => self.after_value(byte),
            State::Escape | State::Hex(_) => self.escape(byte),
            State::Word(word, read) => self.word(word, read, byte),
            State::Minus
            | State::Zero
            | State::Integer
            | State::Point
            | State::Fraction
            | State::Exponent
            | State::ExponentSign
            | State::ExponentDigits => self.number(byte),
        }
    }

    #[inline]
    fn to(&mut self, state: State) -> Result<(), Reason> {
        self.state = state;
        Ok(())
    }

    #[inline]
    fn text(&mut self, byte: u8) -> Result<(), Reason> {
        match byte {
            b'"' if self.key => self.to(State::Colon),
            b'"' => self.value_over(),
            b'\\' => self.to(State::Escape),
            0..0x20 => Err(Reason::ControlCharacter(byte)),
            _ => Ok(()),
        }
    }

    fn escape(&mut self, byte: u8) -> Result<(), Reason> {
        match (self.state, byte) {
            (State::Hex(1), _) if byte.is_ascii_hexdigit() => self.to(State::Text),
            (State::Hex(due), _) if byte.is_ascii_hexdigit() => self.to(State::Hex(due - 1)),
            (State::Hex(_), _) => Err(Reason::ShortUnicodeEscape),
            (_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.to(State::Text),
            (_, b'u') => self.to(State::Hex(4)),
            _ => Err(Reason::UnknownEscape),
        }
    }

    /// The first byte of a value, or white space before it. `otherwise` is the reason when it is neither.
    #[inline]
    fn value(&mut self, byte: u8, otherwise: Reason) -> Result<(), Reason> {
        match byte {
            b'"' => {
                self.key = false;
                self.to(State::Text)
            }
            b'{' | b'[' => self.open(byte == b'{'),
            b'-' => self.to(State::Minus),
            b'0' => self.to(State::Zero),
            b'1'..=b'9' => self.to(State::Integer),
            b't' => self.to(State::Word(Word::True, 1)),
            b'f' => self.to(State::Word(Word::False, 1)),
            b'n' => self.to(State::Word(Word::Null, 1)),
            _ if is_space(byte) => Ok(()),
            b'\'' => Err(Reason::SingleQuote),
            b'`' => Err(Reason::Backtick),
            b'/' | b'#' => Err(Reason::Comment),
            _ => Err(otherwise),
        }
    }

    fn key(&mut self, byte: u8) -> Result<(), Reason> {
        match byte {
            b'"' => {
                self.key = true;
                self.to(State::Text)
            }
            _ if is_space(byte) => Ok(()),
            b'\'' => Err(Reason::SingleQuote),
            b'/' | b'#' => Err(Reason::Comment),
            b']' => Err(Reason::WrongBracket),
            _ => Err(Reason::MissingKey),
        }
    }

    #[inline]
    fn after_value(&mut self, byte: u8) -> Result<(), Reason> {
        if is_space(byte) {
            return Ok(());
        }
        if self.depth == 0 {
            return Err(Reason::TextAfterValue);
        }
        let object = self.in_object();
        match byte {
            b',' if object => self.to(State::ObjectNext),
            b',' => self.to(State::ArrayNext),
            b'}' | b']' if object == (byte == b'}') => self.close(),
            b'}' | b']' => Err(Reason::WrongBracket),
            b'/' | b'#' => Err(Reason::Comment),
            _ => Err(Reason::MissingComma),
        }
    }

    fn word(&mut self, word: Word, read: u8, byte: u8) -> Result<(), Reason> {
        let spelling = word.spelling();
        if spelling.get(usize::from(read)) != Some(&byte) {
            return Err(Reason::UnknownWord);
        }
        if usize::from(read) + 1 == spelling.len() {
            self.value_over()
        } else {
            self.to(State::Word(word, read + 1))
        }
    }

    fn number(&mut self, byte: u8) -> Result<(), Reason> {
        use State::{Exponent, ExponentDigits, ExponentSign, Fraction, Integer, Minus, Point, Zero};
        match (self.state, byte) {
            (Integer | Fraction | ExponentDigits, b'0'..=b'9') => Ok(()),
            (Minus, b'0') => self.to(Zero),
            (Minus, b'1'..=b'9') => self.to(Integer),
            (Zero, b'0'..=b'9') => Err(Reason::LeadingZero),
            (Zero | Integer, b'.') => self.to(Point),
            (Point, b'0'..=b'9') => self.to(Fraction),
            (Zero | Integer | Fraction, b'e' | b'E') => self.to(Exponent),
            (Exponent, b'+' | b'-') => self.to(ExponentSign),
            (Exponent | ExponentSign, b'0'..=b'9') => self.to(ExponentDigits),
            (Minus | Point | Exponent | ExponentSign, _) => Err(Reason::MissingDigit),
            // A number has no end mark of its own: the byte after it belongs to what surrounds it.
            _ => {
                let number = self.state;
                self.value_over()?;
                self.after_value(byte).inspect_err(|_| self.state = number)
            }
        }
    }

    #[inline]
    fn value_over(&mut self) -> Result<(), Reason> {
        self.to(if self.depth == 0 {
            State::Closed
        } else {
            State::AfterValue
        })
    }

    fn open(&mut self, object: bool) -> Result<(), Reason> {
        if self.depth >= self.depth_max {
            return Err(Reason::TooDeep(self.depth_max));
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.brackets.len() {
            self.brackets.push(0);
        }
        self.brackets[word] = (self.brackets[word] & !(1 << bit)) | (u64::from(object) << bit);
        self.depth += 1;
        self.to(if object {
            State::ObjectFirst
        } else {
            State::ArrayFirst
        })
    }

    #[inline]
    fn close(&mut self) -> Result<(), Reason> {
        self.depth -= 1;
        self.value_over()
    }

    #[inline]
    fn in_object(&self) -> bool {
        self.depth.checked_sub(1).is_some_and(|top| self.is_object(top))
    }

    /// Whether the open bracket of this level, the outermost being 0, is an object's.
    #[inline]
    fn is_object(&self, level: usize) -> bool {
        self.brackets[level / 64] >> (level % 64) & 1 == 1
    }
}

/// Checks a whole text, such as a request's body.
///
/// # Errors
/// The byte offset of the first fault, or the text's length where it ends too early, and a sentence fragment that
/// says what is wrong there. Bytes that are not UTF-8 are a fault too.
pub fn check(bytes: &[u8], depth_max: usize) -> Result<(), (usize, String)> {
    let mut automaton = Automaton::new(depth_max);
    let fault = automaton.feed(bytes).err();
    let valid = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
    match fault {
        Some(fault) if fault.at <= valid => Err((fault.at, format!("{fault} ({})", automaton.standing()))),
        _ if valid < bytes.len() => Err((valid, "bytes that are not UTF-8".to_owned())),
        _ if automaton.is_complete() => Ok(()),
        _ if automaton.is_empty() => Err((bytes.len(), "there is no value".to_owned())),
        _ => Err((bytes.len(), format!("the text ends {}", automaton.standing()))),
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How many bytes at the start of `bytes` need no look inside a string: all but `"`, `\` and control characters.
///
/// Eight bytes at a time with the classic "has a byte less than n" arithmetic on a word. Its borrows run upward
/// only, so the lowest marked byte of a little-endian word is always a true hit.
fn plain_text_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word & HIGHS;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let marks = below(word, 0x20)
            | below(word ^ (ONES * u64::from(b'"')), 1)
            | below(word ^ (ONES * u64::from(b'\\')), 1);
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let plain = tail
        .iter()
        .take_while(|b| !matches!(b, 0..0x20 | b'"' | b'\\'))
        .count();
    words.len() * 8 + plain
}

#[cfg(test)]
mod tests;
