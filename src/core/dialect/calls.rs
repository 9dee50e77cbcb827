//! Which call a piece of `tool_calls` belongs to.
//!
//! A call is known by its `index`. Some servers (Ollama for one) send several calls whole, one after the other, all with
//! index 0 or with none, and tell them apart by their `id`: a name with another id under a known index begins another call.
//! An id alone does not: older vLLM makes up a new one for every piece.

use crate::limits::LANES_MAX;

/// Longest id that is remembered, in bytes. What is longer is compared by its beginning.
const ID_BYTES_MAX: usize = 128;

/// The calls of one answer so far.
#[derive(Debug, Clone, Default)]
pub struct Calls(Vec<Call>);

#[derive(Debug, Clone)]
struct Call {
    choice: u32,
    /// As the server wrote it.
    index: u32,
    id: String,
    /// The number under which Aegis knows it.
    number: u32,
}

/// How a piece names its call.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The choice it is in.
    pub choice: u32,
    /// Its index, or its position where it has none.
    pub index: u32,
    /// Its id; empty where it has none.
    pub id: &'a str,
    /// It names the function.
    pub named: bool,
}

impl Calls {
    /// The number of the call that a piece belongs to: its index, as long as indices tell calls apart.
    pub fn number(&mut self, piece: Piece<'_>) -> u32 {
        let id = &piece.id[..piece.id.floor_char_boundary(ID_BYTES_MAX)];
        let same = |call: &Call| call.choice == piece.choice && call.index == piece.index;
        let mut known = self.0.iter_mut().rev().filter(|call| same(call));
        if let Some(newest) = known.next() {
            if !piece.named || id.is_empty() || newest.id == id {
                return newest.number;
            }
            if newest.id.is_empty() {
                id.clone_into(&mut newest.id);
                return newest.number;
            }
            if let Some(earlier) = known.find(|call| call.id == id) {
                return earlier.number;
            }
        }
        let taken = |number: u32| {
            self.0
                .iter()
                .any(|c| c.choice == piece.choice && c.number == number)
        };
        let number = if taken(piece.index) {
            let numbers = self
                .0
                .iter()
                .filter(|call| call.choice == piece.choice)
                .map(|call| call.number);
            numbers.max().unwrap_or(0).saturating_add(1)
        } else {
            piece.index
        };
        if self.0.len() < LANES_MAX {
            self.0.push(Call {
                choice: piece.choice,
                index: piece.index,
                id: id.to_owned(),
                number,
            });
        }
        number
    }
}

impl Calls {
    /// Whether the server's frames know a call by its number, so that one can be changed in them.
    #[must_use]
    pub fn keeps_index(&self, choice: u32, number: u32) -> bool {
        let mut calls = self.0.iter();
        !calls.any(|call| call.choice == choice && call.number == number && call.index != number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(pieces: &[(u32, &str, bool)]) -> Vec<u32> {
        let mut calls = Calls::default();
        let number = |(index, id, named): &(u32, &str, bool)| {
            calls.number(Piece {
                choice: 0,
                index: *index,
                id,
                named: *named,
            })
        };
        pieces.iter().map(number).collect()
    }

    #[test]
    fn indices_tell_calls_apart() {
        let pieces = [
            (0, "a", true),
            (0, "", false),
            (1, "b", true),
            (0, "", false),
            (1, "", true),
        ];
        assert_eq!(numbers(&pieces), [0, 0, 1, 0, 1]);
    }

    #[test]
    fn another_id_with_a_name_is_another_call() {
        let pieces = [
            (0, "a", true),
            (0, "b", true),
            (0, "b", false),
            (1, "c", true),
            (0, "a", true),
        ];
        assert_eq!(numbers(&pieces), [0, 1, 1, 2, 0]);
    }

    #[test]
    fn an_id_alone_is_none() {
        assert_eq!(
            numbers(&[(0, "a", true), (0, "x", false), (0, "y", false)]),
            [0, 0, 0]
        );
        assert_eq!(
            numbers(&[(0, "", true), (0, "late", true), (0, "late", true)]),
            [0, 0, 0]
        );
    }

    #[test]
    fn choices_count_for_themselves_and_memory_is_bounded() {
        let mut calls = Calls::default();
        for n in 0..10 * LANES_MAX as u32 {
            let id = format!("{n}{}", "é".repeat(200));
            let piece = Piece {
                choice: n % 2,
                index: 0,
                id: &id,
                named: true,
            };
            calls.number(piece);
        }
        assert_eq!(calls.0.len(), LANES_MAX);
        assert!(calls.0.iter().all(|call| call.id.len() <= ID_BYTES_MAX));
    }
}
