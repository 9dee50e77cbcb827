//! Bytes on their way to the client.

use crate::limits::OUTPUT_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// What was released and not taken yet. Its size is asked for on every poll, so it is counted, not summed.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outgoing {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a piece.
    pub(super) fn push_back(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// The next bytes, at most [`OUTPUT_BYTES_MAX`] where they come in several pieces: what was released together leaves
    /// in one write. A piece by itself is not copied.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let taken = match self.pieces.front() {
            Some(second) if first.len() + second.len() <= OUTPUT_BYTES_MAX => self.join(&first),
            _ => first,
        };
        self.bytes -= taken.len();
        Some(taken)
    }

    fn join(&mut self, first: &Bytes) -> Bytes {
        let mut joined = BytesMut::with_capacity(self.bytes.min(OUTPUT_BYTES_MAX));
        joined.extend_from_slice(first);
        while let Some(next) = self
            .pieces
            .pop_front_if(|next| joined.len() + next.len() <= OUTPUT_BYTES_MAX)
        {
            joined.extend_from_slice(&next);
        }
        joined.freeze()
    }
}

impl Extend<Bytes> for Outgoing {
    fn extend<T: IntoIterator<Item = Bytes>>(&mut self, pieces: T) {
        pieces.into_iter().for_each(|piece| self.push_back(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_together_within_the_bound_and_are_counted() {
        let mut out = Outgoing::default();
        assert_eq!((out.bytes(), out.take()), (0, None));
        let half = Bytes::from(vec![b'x'; OUTPUT_BYTES_MAX / 2]);
        let large = Bytes::from(vec![b'y'; OUTPUT_BYTES_MAX * 2]);
        out.extend([half.clone(), half.clone(), half.clone(), large.clone()]);
        let mut left = out.bytes();
        for want in [OUTPUT_BYTES_MAX, half.len(), large.len()] {
            let taken = out.take().unwrap();
            left -= taken.len();
            assert_eq!((taken.len(), out.bytes()), (want, left));
        }
        assert_eq!((out.bytes(), out.take()), (0, None));
        out.push_back(large.clone());
        assert_eq!(out.take().unwrap().as_ptr(), large.as_ptr(), "not copied");
    }
}
