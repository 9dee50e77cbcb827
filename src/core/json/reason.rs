//! The reasons the automaton gives.

use std::fmt;

/// Why a byte cannot stand where it stands. Displays as a short phrase without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Neither white space nor the first byte of a value, where the text must begin with one.
    NotAValue,
    /// No value after a colon, a comma or an opening bracket.
    MissingValue,
    /// An object's member does not begin with a quoted key.
    MissingKey,
    /// Something other than a colon follows a key.
    MissingColon,
    /// Neither a comma nor the closing bracket follows a value.
    MissingComma,
    /// `]` closes an object or `}` closes an array.
    WrongBracket,
    /// A comma stands before the closing bracket.
    TrailingComma,
    /// Single quotes instead of double ones.
    SingleQuote,
    /// A backtick, as models put it around JSON.
    Backtick,
    /// A comment (`//`, `/*`, `#`).
    Comment,
    /// A byte below 0x20 inside a string.
    ControlCharacter(u8),
    /// A backslash before a byte that JSON cannot escape.
    UnknownEscape,
    /// Fewer than four hexadecimal digits after `\u`.
    ShortUnicodeEscape,
    /// A number with a zero before its other digits.
    LeadingZero,
    /// A number that lacks a digit.
    MissingDigit,
    /// A word that begins like `true`, `false` or `null` but is none of them.
    UnknownWord,
    /// Anything but white space after the value.
    TextAfterValue,
    /// More open brackets than allowed; carries the limit.
    TooDeep(usize),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAValue => "text that is not JSON",
            Self::MissingValue => "no value where one is needed",
            Self::MissingKey => "no quoted key where one is needed",
            Self::MissingColon => "no colon after a key",
            Self::MissingComma => "no comma between values",
            Self::WrongBracket => "a closing bracket of the wrong kind",
            Self::TrailingComma => "a trailing comma",
            Self::SingleQuote => "a single quote instead of a double quote",
            Self::Backtick => "a backtick, as of a Markdown fence",
            Self::Comment => "a comment",
            Self::ControlCharacter(byte) => {
                return write!(f, "the control character 0x{byte:02x} inside a string");
            }
            Self::UnknownEscape => "an escape that JSON does not have",
            Self::ShortUnicodeEscape => "a \\u escape without four hexadecimal digits",
            Self::LeadingZero => "a number with a leading zero",
            Self::MissingDigit => "a number that lacks a digit",
            Self::UnknownWord => "a word other than true, false and null",
            Self::TextAfterValue => "text after the end of the value",
            Self::TooDeep(limit) => return write!(f, "brackets nested deeper than {limit}"),
        })
    }
}
