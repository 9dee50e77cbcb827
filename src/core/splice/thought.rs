//! The reasoning of a later answer: how much of it the client has already, or must not see.

use crate::continuation::Shown;

/// What happens to the reasoning that comes next.
#[derive(Debug)]
pub(super) enum Thought {
    /// It is shown.
    Passes,
    /// It is the text that the client has, so far: that much of it has come.
    Repeats { text: String, come: usize },
    /// It is not shown.
    Hides,
}

impl Thought {
    pub(super) fn new(shown: Shown) -> Self {
        match shown {
            Shown::Same(text) if !text.is_empty() => Self::Repeats { text, come: 0 },
            Shown::New | Shown::Same(_) => Self::Passes,
            Shown::Dropped => Self::Hides,
        }
    }

    /// Whether the reasoning that comes next may not be shown.
    pub(super) fn hides(&self) -> bool {
        !matches!(self, Self::Passes)
    }

    /// Takes the next piece and says how many bytes of its front are not shown.
    pub(super) fn feed(&mut self, piece: &str) -> usize {
        match self {
            Self::Passes => 0,
            Self::Hides => piece.len(),
            Self::Repeats { text, come } => {
                let rest = text.get(*come..).unwrap_or_default();
                let hidden = rest.len().min(piece.len());
                if piece.starts_with(rest) {
                    *self = Self::Passes;
                } else if rest.starts_with(piece) {
                    *come += hidden;
                } else {
                    // Another thought. The client has the beginning of the first one, which no part of this one continues.
                    *self = Self::Hides;
                    return piece.len();
                }
                hidden
            }
        }
    }
}
