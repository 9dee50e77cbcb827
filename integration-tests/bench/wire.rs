//! Reading an answer incrementally: the chunked body of HTTP/1.1 and the events in it.
//!
//! The reader is strict on purpose. It is also the check that every stream of a measurement arrived whole.

use memchr::memchr;

use crate::failure::{Failure, failure};

const TOKEN: &[u8] = b"data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"";
const ROLE: &[u8] = b"data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":";
const FINISH: &[u8] = b"data: {\"choices\":[{\"finish_reason\":\"stop\"";
const DONE: &[u8] = b"data: [DONE]";
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The events of one answer, fed as bytes in any split.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    /// Content tokens seen so far.
    pub(crate) tokens: u32,
    roles: u32,
    finished: bool,
    done: bool,
    last_sent_ns: u64,
}

impl Events {
    /// Takes the next bytes of the body and calls `token` with the send time of each content token completed by them.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        token: &mut impl FnMut(Option<u64>),
    ) -> Result<(), Failure> {
        while let Some(at) = memchr(b'\n', bytes) {
            if self.line.is_empty() {
                self.take_line(&bytes[..at], token)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..at]);
                self.take_line(&line, token)?;
                line.clear();
                self.line = line;
            }
            bytes = &bytes[at + 1..];
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], token: &mut impl FnMut(Option<u64>)) -> Result<(), Failure> {
        if line.starts_with(TOKEN) && !self.finished {
            let sent_ns = stamp(line)?;
            if sent_ns.is_some_and(|sent_ns| sent_ns < self.last_sent_ns) {
                return failure("tokens arrived out of order");
            }
            self.last_sent_ns = sent_ns.unwrap_or(self.last_sent_ns);
            self.tokens += 1;
            token(sent_ns);
        } else if line.starts_with(ROLE) && self.roles == 0 && self.tokens == 0 {
            self.roles = 1;
        } else if line.starts_with(FINISH) && !self.finished {
            self.finished = true;
        } else if line.starts_with(DONE) && self.finished && !self.done {
            self.done = true;
        } else if !line.is_empty() && !line.starts_with(b":") {
            return failure(format!(
                "unexpected line after {} tokens: {}",
                self.tokens,
                excerpt(line)
            ));
        }
        Ok(())
    }

    /// Checks that the body, which has ended, held a whole answer of `tokens` tokens.
    pub(crate) fn check_whole(&self, tokens: u32) -> Result<(), Failure> {
        if self.tokens == tokens && self.roles == 1 && self.finished && self.done && self.line.is_empty() {
            return Ok(());
        }
        failure(format!(
            "the stream ended with {} of {tokens} tokens, {} role deltas, finish: {}, [DONE]: {}",
            self.tokens, self.roles, self.finished, self.done
        ))
    }
}

/// The send time at the end of a token's line, `…,"t":123}`; `None` for the tokens between that carry none.
fn stamp(line: &[u8]) -> Result<Option<u64>, Failure> {
    let digits_end = line.len().saturating_sub(1);
    if line.last() != Some(&b'}') {
        return failure(format!("a token that does not end: {}", excerpt(line)));
    }
    let digits = line[..digits_end]
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (before, number) = line[..digits_end].split_at(digits_end - digits);
    if digits == 0 || !before.ends_with(b"\"t\":") {
        return Ok(None);
    }
    Ok(Some(
        number
            .iter()
            .fold(0, |value, digit| value * 10 + u64::from(digit - b'0')),
    ))
}

fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Size { value: usize, extension: bool },
    Data { left: usize },
    DataEnd,
    Trailer { line: usize },
    End,
}

/// One HTTP/1.1 answer with a chunked event stream as its body.
#[derive(Debug)]
pub(crate) struct Answer {
    place: Place,
    head: Vec<u8>,
    /// The body's events.
    pub(crate) events: Events,
    /// Whether the server closes the connection after this answer.
    pub(crate) closes: bool,
}

impl Answer {
    /// An answer of which nothing has been read.
    pub(crate) fn new() -> Self {
        Self {
            place: Place::Head,
            head: Vec::new(),
            events: Events::default(),
            closes: false,
        }
    }

    /// Whether the body's end was read.
    pub(crate) fn ended(&self) -> bool {
        self.place == Place::End
    }

    /// Takes the next bytes from the socket; `token` as in [`Events::feed`].
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        token: &mut impl FnMut(Option<u64>),
    ) -> Result<(), Failure> {
        while let Some(&first) = bytes.first() {
            match self.place {
                Place::Head => bytes = self.take_head(bytes)?,
                Place::Data { left } => {
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    self.events.feed(data, token)?;
                    let left = left - data.len();
                    self.place = if left == 0 {
                        Place::DataEnd
                    } else {
                        Place::Data { left }
                    };
                    bytes = rest;
                }
                Place::End => return failure(format!("bytes after the answer's end: {}", excerpt(bytes))),
                place => {
                    self.place = after_framing_byte(place, first)?;
                    bytes = &bytes[1..];
                }
            }
        }
        Ok(())
    }

    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4) else {
            return if before > HEAD_BYTES_MAX {
                failure("the answer's head does not end")
            } else {
                Ok(&[])
            };
        };
        let head = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") || !head.contains("\r\ntransfer-encoding: chunked\r\n") {
            return failure(format!(
                "expected a 200 with a chunked body, got: {}",
                excerpt(&self.head)
            ));
        }
        self.closes = head.contains("\r\nconnection: close\r\n");
        self.place = Place::Size {
            value: 0,
            extension: false,
        };
        Ok(&bytes[end - before..])
    }
}

/// The step of the chunked framing for one byte that is not data.
fn after_framing_byte(place: Place, byte: u8) -> Result<Place, Failure> {
    Ok(match (place, byte) {
        (Place::Size { value: 0, .. }, b'\n') => Place::Trailer { line: 0 },
        (Place::Size { value, .. }, b'\n') => Place::Data { left: value },
        (Place::Size { value, .. }, b';') => Place::Size {
            value,
            extension: true,
        },
        (Place::Size { extension: true, .. }, _) | (Place::Size { .. }, b'\r') => place,
        (Place::Size { value, .. }, digit) => match (digit as char).to_digit(16) {
            Some(digit) => Place::Size {
                value: value.saturating_mul(16) + digit as usize,
                extension: false,
            },
            None => return failure(format!("broken chunk size, byte {byte:#04x}")),
        },
        (Place::DataEnd, b'\n') => Place::Size {
            value: 0,
            extension: false,
        },
        (Place::DataEnd, b'\r') => place,
        (Place::Trailer { line: 0 }, b'\n') => Place::End,
        (Place::Trailer { .. }, b'\n') => Place::Trailer { line: 0 },
        (Place::Trailer { .. }, b'\r') => place,
        (Place::Trailer { line }, _) => Place::Trailer { line: line + 1 },
        _ => return failure(format!("broken chunked body, byte {byte:#04x}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(data: &str) -> String {
        format!("{:x}\r\n{data}\r\n", data.len())
    }

    fn answer(sent: &[u64]) -> String {
        let prefix = |start: &[u8]| String::from_utf8_lossy(start).into_owned();
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        text += &chunk(&format!("{}\"assistant\"}}}}],\"t\":1}}\n\n", prefix(ROLE)));
        for sent in sent {
            text += &chunk(&format!("{} a\"}}}}],\"t\":{sent}}}\n\n", prefix(TOKEN)));
        }
        text += &chunk(&format!("{},\"t\":9}}\n\n", prefix(FINISH)));
        text + &chunk("data: [DONE]\n\n") + "0\r\n\r\n"
    }

    fn read(parts: &[&[u8]], tokens: u32) -> Result<Vec<u64>, Failure> {
        let mut answer = Answer::new();
        let mut sent = Vec::new();
        for part in parts {
            answer.feed(part, &mut |ns| sent.extend(ns))?;
        }
        answer.events.check_whole(tokens)?;
        assert!(answer.ended(), "all events were read, but not the body's end");
        Ok(sent)
    }

    #[test]
    fn every_split_gives_the_same_tokens() {
        let text = answer(&[5, 6, 7]);
        for at in 0..=text.len() {
            let (before, after) = text.as_bytes().split_at(at);
            assert_eq!(
                read(&[before, after], 3).unwrap(),
                [5, 6, 7],
                "split at byte {at}"
            );
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes, 3).unwrap(), [5, 6, 7]);
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        let text = answer(&[5, 6, 7]);
        assert!(read(&[text.as_bytes()], 4).is_err(), "a token is missing");
        assert!(
            read(&[answer(&[5, 7, 6]).as_bytes()], 3).is_err(),
            "tokens in another order"
        );
        assert!(
            read(&[text.replace("data: [DONE]", ":ata: [DONE]").as_bytes()], 3).is_err(),
            "no [DONE]"
        );
        let error = text.replacen(
            "{\"choices\":[{\"finish_reason\":\"stop\"",
            "{\"error\":{\"message\":\"no fault in it",
            1,
        );
        let error = read(&[error.as_bytes()], 3).unwrap_err().to_string();
        assert!(
            error.contains("unexpected line after 3 tokens: data: {\"error\""),
            "{error}"
        );
        assert!(
            read(&[text.as_bytes(), b"HTTP/1.1"], 3).is_err(),
            "bytes after the end"
        );
        let refused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        assert!(
            read(&[refused.as_bytes()], 3)
                .unwrap_err()
                .to_string()
                .contains("503")
        );
    }
}
