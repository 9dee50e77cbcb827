//! JSON values whose pieces come one after the other.
//!
//! The pieces are joined as JSON text, what stands between the quotes or the brackets: nothing is unescaped and written
//! again, no element is parsed, and the cost is that of copying the answer once.

/// A text or a list as it grows.
#[derive(Debug, Default)]
pub(super) enum Joined {
    /// No piece has come.
    #[default]
    Absent,
    /// The member was there, and said nothing.
    Null,
    /// What stands between the quotes of all pieces.
    Text(String),
    /// What stands between the brackets of all pieces.
    List(String),
}

impl Joined {
    /// Appends a piece, the text of a JSON value. Null is no piece, but a member that was only ever null is one that the
    /// answer has. `false` when the value is neither a string nor a list, or not of the kind of those before it.
    pub(super) fn push(&mut self, json: &str) -> bool {
        if json == "null" {
            if matches!(self, Self::Absent) {
                *self = Self::Null;
            }
            return true;
        }
        let within = |open, close| json.strip_prefix(open)?.strip_suffix(close);
        if let Some(piece) = within('"', '"') {
            match self {
                Self::Text(text) => text.push_str(piece),
                Self::Absent | Self::Null => *self = Self::Text(piece.to_owned()),
                Self::List(_) => return false,
            }
            return true;
        }
        let Some(piece) = within('[', ']').map(str::trim_ascii) else {
            return false;
        };
        match self {
            Self::List(list) => {
                if !list.is_empty() && !piece.is_empty() {
                    list.push(',');
                }
                list.push_str(piece);
            }
            Self::Absent | Self::Null => *self = Self::List(piece.to_owned()),
            Self::Text(_) => return false,
        }
        true
    }

    /// Appends a piece of a text.
    pub(super) fn push_text(&mut self, json: &str) -> bool {
        !json.starts_with('[') && self.push(json)
    }

    /// The value's JSON text, if the member ever came.
    pub(super) fn to_json(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Null => Some("null".to_owned()),
            Self::Text(text) => Some(["\"", text, "\""].concat()),
            Self::List(list) => Some(["[", list, "]"].concat()),
        }
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Absent | Self::Null => 0,
            Self::Text(text) | Self::List(text) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: &[&str]) -> Option<String> {
        let mut joined = Joined::default();
        assert!(pieces.iter().all(|piece| joined.push(piece)), "{pieces:?}");
        joined.to_json()
    }

    #[test]
    fn pieces_are_joined_as_they_were_written() {
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["null", "null"]).as_deref(), Some("null"));
        assert_eq!(
            joined(&["null", r#""a\n""#, "null", r#""""#, r#""\u00e9\"é""#]).as_deref(),
            Some(r#""a\n\u00e9\"é""#)
        );
        // Half of a character in one piece, half in the next.
        assert_eq!(
            joined(&[r#""\ud83d""#, r#""\ude00""#]).as_deref(),
            Some(r#""\ud83d\ude00""#)
        );
        assert_eq!(
            joined(&["[1, 2]", "[ ]", "[]", "[[3]]"]).as_deref(),
            Some("[1, 2,[3]]")
        );
    }

    #[test]
    fn kinds_do_not_mix() {
        for (first, second) in [("\"a\"", "[1]"), ("[1]", "\"a\""), ("null", "5"), ("\"a\"", "{}")] {
            let mut joined = Joined::default();
            assert!(joined.push(first));
            assert!(!joined.push(second), "{first} {second}");
        }
        assert!(!Joined::default().push_text("[1]"));
    }
}
