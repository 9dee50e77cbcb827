//! Finds the ends of SSE frames in a byte stream without copying or changing a byte.
//!
//! A frame is everything up to and including the blank line that ends an event, comments and all. Line ends are LF,
//! CR or CRLF, also mixed. The framer only counts; the bytes stay where they are, in the ring.
//!
//! `eventsource-stream` cannot be fed raw reads: its buffer is unbounded, a large event in small reads costs
//! quadratic time, and an event without its blank line vanishes. Hence this capped scanner in front of it.

/// The current frame is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one SSE event is longer than {bytes_max} bytes")]
pub struct FrameTooLarge {
    /// The limit, in bytes.
    pub bytes_max: usize,
}

/// Incremental scanner for frame ends. Offsets are bytes since the start of the stream.
#[derive(Debug, Clone)]
pub struct Framer {
    scanned: u64,
    frame_start: u64,
    line_start: u64,
    /// The last byte seen was a CR that ended a line: an LF right after it belongs to the same line end.
    after_cr: bool,
    frame_bytes_max: usize,
}

impl Framer {
    /// A framer at offset 0 that refuses frames longer than `frame_bytes_max` bytes.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            scanned: 0,
            frame_start: 0,
            line_start: 0,
            after_cr: false,
            frame_bytes_max,
        }
    }

    /// Scans the next bytes and appends the offset of every frame end found in them to `ends`.
    ///
    /// A CR that ends a blank line ends the frame at once, so that a token is never late; an LF that arrives with the
    /// next read completes that line end and is reported as a frame of its own, one byte long and without content.
    ///
    /// # Errors
    /// [`FrameTooLarge`] when a frame passes the cap. Ends found before it are in `ends`.
    pub fn scan(&mut self, bytes: &[u8], ends: &mut Vec<u64>) -> Result<(), FrameTooLarge> {
        let base = self.scanned;
        let mut pos = 0;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            if bytes[0] == b'\n' {
                pos = 1;
                self.line_start += 1;
                if self.frame_start + 1 == self.line_start {
                    self.frame_start = self.line_start;
                    ends.push(self.line_start);
                }
            }
        }
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &bytes[pos..]) {
            let at = pos + found;
            let blank = base + at as u64 == self.line_start;
            pos = at + 1;
            if bytes[at] == b'\r' {
                match bytes.get(pos) {
                    Some(b'\n') => pos += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.line_start = base + pos as u64;
            if blank {
                self.check(self.line_start)?;
                self.frame_start = self.line_start;
                ends.push(self.line_start);
            }
        }
        self.scanned = base + bytes.len() as u64;
        self.check(self.scanned)
    }

    fn check(&self, end: u64) -> Result<(), FrameTooLarge> {
        if end - self.frame_start > self.frame_bytes_max as u64 {
            return Err(FrameTooLarge {
                bytes_max: self.frame_bytes_max,
            });
        }
        Ok(())
    }

    /// Start of the frame that is not finished yet; equal to [`Self::scanned`] when there is none.
    #[must_use]
    pub fn frame_start(&self) -> u64 {
        self.frame_start
    }

    /// Bytes scanned so far.
    #[must_use]
    pub fn scanned(&self) -> u64 {
        self.scanned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames of `bytes` fed in `pieces`, and the unfinished tail.
    fn frames(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let all = pieces.concat();
        let mut framer = Framer::new(1 << 20);
        let mut ends = Vec::new();
        for piece in pieces {
            framer.scan(piece, &mut ends).unwrap();
        }
        let mut start = 0;
        let mut out = Vec::new();
        for end in ends {
            out.push(all[start..end as usize].to_vec());
            start = end as usize;
        }
        assert_eq!(framer.frame_start(), start as u64);
        (out, all[start..].to_vec())
    }

    #[test]
    fn line_ends_of_every_kind_end_frames() {
        for (text, want) in [
            ("data: a\n\ndata: b\n\n", vec!["data: a\n\n", "data: b\n\n"]),
            (
                "data: a\r\n\r\ndata: b\r\n\r\n",
                vec!["data: a\r\n\r\n", "data: b\r\n\r\n"],
            ),
            ("data: a\r\rdata: b\r\r", vec!["data: a\r\r", "data: b\r\r"]),
            (
                ": ping\n\nevent: x\ndata: 1\n\n",
                vec![": ping\n\n", "event: x\ndata: 1\n\n"],
            ),
            (
                "data: a\r\n\ndata: b\n\r\n",
                vec!["data: a\r\n\n", "data: b\n\r\n"],
            ),
            ("\n\n", vec!["\n", "\n"]),
        ] {
            let (got, tail) = frames(&[text.as_bytes()]);
            assert_eq!(
                got,
                want.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>(),
                "{text:?}"
            );
            assert!(tail.is_empty());
        }
    }

    #[test]
    fn an_unfinished_tail_is_kept() {
        let (got, tail) = frames(&[b"data: a\n\ndata: [DONE]"]);
        assert_eq!((got.len(), tail.as_slice()), (1, b"data: [DONE]".as_slice()));
    }

    #[test]
    fn a_late_lf_of_a_crlf_is_a_frame_without_content() {
        let (got, _) = frames(&[b"data: a\r\n\r", b"\ndata: b\n\n"]);
        assert_eq!(
            got,
            [b"data: a\r\n\r".to_vec(), b"\n".to_vec(), b"data: b\n\n".to_vec()]
        );
    }

    #[test]
    fn the_cap_holds_for_finished_and_unfinished_frames() {
        let mut framer = Framer::new(16);
        let mut ends = Vec::new();
        assert_eq!(framer.scan(b"data: ok\n\n", &mut ends), Ok(()));
        assert_eq!(
            framer.scan(b"data: 0123456789\n\n", &mut ends),
            Err(FrameTooLarge { bytes_max: 16 })
        );
        assert_eq!(ends, [10]);
        let mut framer = Framer::new(16);
        assert!((0..17).any(|_| framer.scan(b"x", &mut ends).is_err()));
    }

    fn sse_like() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![
                Just(b'\n'),
                Just(b'\r'),
                Just(b'd'),
                Just(b':'),
                Just(b' '),
                any::<u8>()
            ],
            0..200,
        )
    }

    proptest! {
        /// Where the stream is cut makes no difference but for the LF that may stand alone after a CR.
        #[test]
        fn any_split_gives_the_same_frames(bytes in sse_like(), cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts {
                pieces.push(&bytes[start..cut]);
                start = cut;
            }
            pieces.push(&bytes[start..]);
            let join = |frames: Vec<Vec<u8>>| {
                let mut out: Vec<Vec<u8>> = Vec::new();
                for frame in frames {
                    match out.last_mut() {
                        Some(last) if frame == b"\n" && last.ends_with(b"\r") => last.push(b'\n'),
                        _ => out.push(frame),
                    }
                }
                out
            };
            let (whole, whole_tail) = frames(&[&bytes]);
            let (split, split_tail) = frames(&pieces);
            prop_assert_eq!(join(whole), join(split));
            prop_assert_eq!(whole_tail, split_tail);
        }
    }
}
