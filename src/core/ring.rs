//! The ring: the bytes of one upstream answer between being written and being released.
//!
//! Cursors are byte offsets since the start of the stream and satisfy `written ≥ ruled ≥ released`. Bytes are kept in the
//! chunks they came in; releasing hands the same memory on, so a byte that is not held is never copied.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bounded store of one stream's bytes with its cursors.
#[derive(Debug, Default)]
pub struct Ring {
    chunks: VecDeque<Bytes>,
    written: u64,
    ruled: u64,
    released: u64,
}

impl Ring {
    /// Appends what the upstream sent.
    pub fn write(&mut self, chunk: Bytes) {
        self.written += chunk.len() as u64;
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Offset after the last byte received.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Offset after the last byte the rules have seen.
    #[must_use]
    pub fn ruled(&self) -> u64 {
        self.ruled
    }

    /// Offset after the last byte handed out.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released
    }

    /// Bytes held at the moment.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.written - self.released
    }

    /// The rules have seen everything before `to`. Never moves back, never past what was written.
    pub fn mark_ruled(&mut self, to: u64) {
        debug_assert!(to <= self.written);
        self.ruled = self.ruled.max(to.min(self.written));
    }

    /// The bytes of `start..end`: the chunk's own memory when one chunk holds them all, else a copy.
    #[must_use]
    pub fn bytes(&self, start: u64, end: u64) -> Bytes {
        // What is asked for is the newest frame, while what is held lies before it: search from the back.
        let mut base = self.written;
        let mut first = self.chunks.len();
        for (index, chunk) in self.chunks.iter().enumerate().rev() {
            first = index;
            base -= chunk.len() as u64;
            if base <= start {
                break;
            }
        }
        let mut parts = BytesMut::new();
        for chunk in self.chunks.range(first..) {
            let next = base + chunk.len() as u64;
            let from = start.saturating_sub(base) as usize;
            let to = end.saturating_sub(base).min(chunk.len() as u64) as usize;
            if base <= start && end <= next {
                return chunk.slice(from..to);
            }
            parts.extend_from_slice(&chunk[from.min(to)..to]);
            if next >= end {
                break;
            }
            base = next;
        }
        parts.freeze()
    }

    /// Hands out everything before `to` that was not handed out yet, in the chunks it came in. `to` is capped at the
    /// ruled cursor: this is where "released ≤ ruled" holds by construction.
    pub fn release(&mut self, to: u64, out: &mut impl Extend<Bytes>) {
        let to = to.min(self.ruled);
        while self.released < to {
            let Some(front) = self.chunks.front_mut() else {
                break;
            };
            let wanted = (to - self.released).min(front.len() as u64) as usize;
            let part = if wanted == front.len() {
                self.chunks.pop_front().unwrap_or_default()
            } else {
                front.split_to(wanted)
            };
            self.released += part.len() as u64;
            out.extend([part]);
        }
    }

    /// Passes over everything before `to` that was not handed out yet: something else went out in its place. `to` is
    /// capped at the ruled cursor, as for [`Self::release`].
    pub fn skip(&mut self, to: u64) {
        self.release(to, &mut Vec::new());
    }

    /// Forgets everything from `to` on, as if it had never been written. What was handed out stays handed out.
    pub fn truncate(&mut self, to: u64) {
        let to = to.max(self.released);
        while self.written > to {
            let surplus = self.written - to;
            let Some(back) = self.chunks.back_mut() else {
                break;
            };
            let keep = (back.len() as u64).saturating_sub(surplus);
            self.written -= back.len() as u64 - keep;
            if keep == 0 {
                self.chunks.pop_back();
            } else {
                back.truncate(keep as usize);
            }
        }
        self.ruled = self.ruled.min(self.written);
    }

    /// Forgets everything that was not released: the stream is over, and these bytes will never leave.
    pub fn discard(&mut self) {
        self.chunks.clear();
        self.released = self.released.min(self.ruled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_chunks_leave_without_a_copy() {
        let mut ring = Ring::default();
        let chunk = Bytes::from(vec![b'x'; 64]);
        let memory = chunk.as_ptr();
        ring.write(chunk);
        ring.mark_ruled(64);
        let mut out = VecDeque::new();
        ring.release(64, &mut out);
        assert_eq!(out[0].as_ptr(), memory);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn nothing_leaves_before_it_is_ruled() {
        let mut ring = Ring::default();
        ring.write(Bytes::from_static(b"abcdef"));
        ring.mark_ruled(2);
        let mut out = VecDeque::new();
        ring.release(6, &mut out);
        assert_eq!(out.iter().map(|b| b.len()).sum::<usize>(), 2);
    }

    #[test]
    fn what_is_truncated_was_never_written() {
        let mut ring = Ring::default();
        for chunk in ["abc", "def", "gh"] {
            ring.write(Bytes::from(chunk));
        }
        ring.mark_ruled(8);
        let mut out = VecDeque::new();
        ring.release(2, &mut out);
        ring.truncate(5);
        ring.write(Bytes::from_static(b"XY"));
        ring.mark_ruled(7);
        assert_eq!((ring.written(), &ring.bytes(3, 7)[..]), (7, &b"deXY"[..]));
        ring.skip(4);
        ring.truncate(0);
        assert_eq!((ring.written(), ring.ruled(), ring.released()), (4, 4, 4));
    }

    proptest! {
        #[test]
        fn cursors_are_ordered_and_bytes_are_kept(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..12),
            steps in proptest::collection::vec((0u64..200, 0u64..200), 0..12),
        ) {
            let all: Vec<u8> = chunks.concat();
            let mut ring = Ring::default();
            let mut out = VecDeque::new();
            let mut steps = steps.into_iter();
            for chunk in chunks {
                ring.write(Bytes::from(chunk));
                if let Some((ruled, released)) = steps.next() {
                    ring.mark_ruled(ruled.min(ring.written()));
                    let (a, b) = (ring.released(), ring.written());
                    prop_assert_eq!(&ring.bytes(a, b)[..], &all[a as usize..b as usize]);
                    ring.release(released, &mut out);
                }
                prop_assert!(ring.written() >= ring.ruled() && ring.ruled() >= ring.released());
            }
            let got: Vec<u8> = out.iter().flat_map(|b| b.to_vec()).collect();
            prop_assert_eq!(&got[..], &all[..ring.released() as usize]);
        }
    }
}
