//! A raw HTTP/1.1 client: every byte it sends is the test's, and it reports how an answer ended.

use crate::request::write_payload;
pub use crate::request::{Payload, Request};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// As its framing promised.
    Clean,
    /// The connection closed before the framing's end.
    Truncated,
    /// The connection (or the HTTP/2 stream) was reset.
    Reset,
    /// The client left, as it was told to.
    Left,
    /// No head came before the connection closed.
    NoAnswer,
    /// Nothing more came within the limit.
    TimedOut,
}

/// How the client behaves while it reads.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Closes the connection once this many body bytes have come.
    pub leave_after: Option<usize>,
    /// Sleeps before each read.
    pub pause: Duration,
    /// Longest wait for the whole answer.
    pub limit: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            leave_after: None,
            pause: Duration::ZERO,
            limit: Duration::from_secs(60),
        }
    }
}

/// An answer as it came off the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status, 0 where no head came.
    pub status: u16,
    /// 1xx statuses before it.
    pub interim: Vec<u16>,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// How it ended.
    pub ended: Ended,
    /// When body bytes came and how many there were then in all.
    pub arrivals: Vec<(Duration, usize)>,
}

impl Answer {
    pub(crate) const fn empty() -> Self {
        Self {
            status: 0,
            interim: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
            ended: Ended::NoAnswer,
            arrivals: Vec::new(),
        }
    }

    /// The value of a header, the first where there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is not.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// `error.code` of a JSON answer or of the last error frame of a stream.
    #[must_use]
    pub fn error_code(&self) -> Option<String> {
        let code = |v: &serde_json::Value| v["code"].as_str().map(str::to_owned);
        match serde_json::from_slice::<serde_json::Value>(&self.body) {
            Ok(json) => code(&json["error"]),
            Err(_) => crate::events::read(&self.body).errors.last().and_then(code),
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:?} ended {:?}, {} bytes: ",
            self.status,
            self.interim,
            self.ended,
            self.body.len()
        )?;
        let text = String::from_utf8_lossy(&self.body);
        if text.len() <= 600 {
            return write!(f, "{text:?}");
        }
        let head: String = text.chars().take(300).collect();
        let tail: String = text
            .chars()
            .rev()
            .take(300)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        write!(f, "{head:?} … {tail:?}")
    }
}

/// Sends a request over a new connection and reads the answer to its end.
pub async fn send(addr: SocketAddr, request: &Request, manner: Manner) -> Answer {
    let Ok(stream) = TcpStream::connect(addr).await else {
        return Answer::empty();
    };
    stream.set_nodelay(true).ok();
    let (reader, mut writer) = stream.into_split();
    let mut wire = Wire::new(reader, manner);
    let head_request = request.method == "HEAD";
    let expects = request
        .headers
        .iter()
        .any(|(n, _)| n.eq_ignore_ascii_case("expect"));
    if writer.write_all(request.head(addr).as_bytes()).await.is_err() {
        return wire.answer(head_request).await;
    }
    if expects && matches!(request.payload, Payload::Full(_)) {
        // The body waits for the server's word, as RFC 9110 allows and curl does.
        return wire.answer_after_continue(&mut writer, request).await;
    }
    let mut answer = std::pin::pin!(wire.answer(head_request));
    tokio::select! {
        biased;
        early = &mut answer => return early,
        _sent = write_payload(&mut writer, &request.payload) => {}
    }
    // `writer` stays alive here: dropping it would close the sending half, and a half-close counts as leaving.
    answer.await
}

/// Sends these bytes over a new connection and reads one answer.
pub async fn send_raw(addr: SocketAddr, bytes: &[u8], manner: Manner) -> Answer {
    let Ok(stream) = TcpStream::connect(addr).await else {
        return Answer::empty();
    };
    stream.set_nodelay(true).ok();
    let (reader, mut writer) = stream.into_split();
    let mut wire = Wire::new(reader, manner);
    let mut answer = std::pin::pin!(wire.answer(bytes.starts_with(b"HEAD ")));
    tokio::select! {
        biased;
        early = &mut answer => return early,
        _sent = writer.write_all(bytes) => {}
    }
    answer.await
}

/// Why reading stopped.
enum Stop {
    Eof,
    Reset,
    Left,
    TimedOut,
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Eof => Self::Truncated,
            Stop::Reset => Self::Reset,
            Stop::Left => Self::Left,
            Stop::TimedOut => Self::TimedOut,
        }
    }
}

struct Wire {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    manner: Manner,
    started: Instant,
}

impl Wire {
    fn new(reader: OwnedReadHalf, manner: Manner) -> Self {
        Self {
            reader,
            buffer: Vec::with_capacity(64 * 1024),
            manner,
            started: Instant::now(),
        }
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        tokio::time::sleep(self.manner.pause).await;
        let left = self.manner.limit.saturating_sub(self.started.elapsed());
        if left.is_zero() {
            // A body that never pauses would otherwise never time out: a ready read wins over an elapsed timer.
            return Err(Stop::TimedOut);
        }
        match tokio::time::timeout(left, self.reader.read_buf(&mut self.buffer)).await {
            Err(_) => Err(Stop::TimedOut),
            Ok(Ok(0)) => Err(Stop::Eof),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Stop::Reset),
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, mark) {
                let before = self.buffer[..at].to_vec();
                self.buffer.drain(..at + mark.len());
                return Ok(before);
            }
            self.fill().await?;
        }
    }

    /// Reads one head, final or interim, into the answer.
    async fn head(&mut self, answer: &mut Answer) -> Result<(), Stop> {
        let head = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        answer.status = lines
            .next()
            .and_then(|l| l.split(' ').nth(1))
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        answer.headers = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
            .collect();
        Ok(())
    }

    async fn answer(&mut self, head_request: bool) -> Answer {
        let mut answer = Answer::empty();
        loop {
            match self.head(&mut answer).await {
                Err(Stop::Eof) => return answer,
                Err(stop) => {
                    answer.ended = stop.into();
                    return answer;
                }
                Ok(()) if answer.status / 100 == 1 && answer.status != 101 => {
                    answer.interim.push(answer.status);
                }
                Ok(()) => break,
            }
        }
        answer.ended = if head_request || matches!(answer.status, 101 | 204 | 304) {
            Ended::Clean
        } else {
            match self.body(&mut answer).await {
                Ok(()) => Ended::Clean,
                Err(stop) => stop.into(),
            }
        };
        answer
    }

    async fn answer_after_continue(&mut self, writer: &mut OwnedWriteHalf, request: &Request) -> Answer {
        let mut first = Answer::empty();
        if self.head(&mut first).await.is_err() {
            return first;
        }
        if first.status != 100 {
            first.ended = match self.body(&mut first).await {
                Ok(()) => Ended::Clean,
                Err(stop) => stop.into(),
            };
            return first;
        }
        write_payload(writer, &request.payload).await.ok();
        let mut answer = self.answer(false).await;
        answer.interim.insert(0, 100);
        answer
    }

    async fn body(&mut self, answer: &mut Answer) -> Result<(), Stop> {
        if answer
            .header("transfer-encoding")
            .is_some_and(|v| v.contains("chunked"))
        {
            loop {
                let line = self.until(b"\r\n").await?;
                let size = String::from_utf8_lossy(&line)
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned();
                let size = u64::from_str_radix(&size, 16).map_err(|_| Stop::Reset)?;
                self.copy(size, answer).await?;
                self.until(b"\r\n").await?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        if let Some(length) = answer.header("content-length").and_then(|v| v.parse().ok()) {
            return self.copy(length, answer).await;
        }
        match self.copy(u64::MAX, answer).await {
            Err(Stop::Eof) => Ok(()),
            other => other,
        }
    }

    async fn copy(&mut self, mut n: u64, answer: &mut Answer) -> Result<(), Stop> {
        while n > 0 {
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let now = n.min(self.buffer.len() as u64) as usize;
            answer.body.extend(self.buffer.drain(..now));
            answer.arrivals.push((self.started.elapsed(), answer.body.len()));
            n -= now as u64;
            if self
                .manner
                .leave_after
                .is_some_and(|most| answer.body.len() >= most)
            {
                return Err(Stop::Left);
            }
        }
        Ok(())
    }
}
