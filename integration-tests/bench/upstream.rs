//! The mock upstream: a process of its own that streams chat chunks in the shape of llama-server, one HTTP chunk and
//! one `write` per token, each stamped with the time at which it was sent.
//!
//! It is deliberately thin, so that the measured time belongs to the proxies: one thread, no HTTP library, chunks put
//! together from prepared pieces. What a stream looks like is asked for by request headers: `x-bench-tokens`,
//! `x-bench-gap-ms`, and `x-bench-hold: 1` (fall silent after the tokens until `GET /release`).

use std::io::Read as _;
use std::io::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::now_ns;
use crate::failure::{At as _, Failure, failure};
use crate::text::Deck;

/// A request may not be larger than this, head and body together: bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// One token in so many carries its send time, the first one too. The others are what a real server sends, byte for
/// byte: frames that differ from the one before in nothing but their text.
const STAMP_EVERY: u32 = 8;
const BEFORE_TEXT: &[u8] =
    b"data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"content\":\"";
const AFTER_TEXT: &[u8] = b"\"}}]";
const ROLE: &[u8] =
    b"data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]";
const FINISH: &[u8] = b"data: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}]";
const LAST: &[u8] = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

/// Listens on a free port of the loopback, prints `upstream listening on ADDR`, and serves until standard input ends:
/// a harness that dies takes its upstream with it.
pub(crate) async fn serve() -> Result<(), Failure> {
    let listener = listen()?;
    let address = listener.local_addr().at("upstream address")?;
    let mut out = std::io::stdout();
    writeln!(out, "upstream listening on {address}").at("upstream's standard output")?;
    out.flush().at("upstream's standard output")?;
    std::thread::spawn(|| {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(i32::from(ended.is_err()));
    });
    let release = watch::Sender::new(0_u64);
    let mut served = 0_u64;
    loop {
        let (socket, _) = listener.accept().await.at("upstream accept")?;
        socket.set_nodelay(true).at("upstream TCP_NODELAY")?;
        served += 1;
        let connection = Connection {
            socket,
            seen: Vec::with_capacity(1024),
            out: Vec::with_capacity(512),
            deck: Deck::new(served),
            number: served,
            release: release.clone(),
        };
        // A connection that fails is the client's to notice: it counts the tokens.
        tokio::spawn(async move { connection.run().await.is_ok() });
    }
}

fn listen() -> Result<TcpListener, Failure> {
    let socket = TcpSocket::new_v4().at("upstream socket")?;
    socket.bind(([127, 0, 0, 1], 0).into()).at("upstream bind")?;
    socket.listen(16_384).at("upstream listen")
}

/// What one request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Stream { tokens: u32, gap: Duration, hold: bool },
    Release,
}

struct Connection {
    socket: TcpStream,
    seen: Vec<u8>,
    out: Vec<u8>,
    deck: Deck,
    number: u64,
    release: watch::Sender<u64>,
}

impl Connection {
    async fn run(mut self) -> Result<(), Failure> {
        while let Some(wanted) = self.request().await? {
            match wanted {
                Wanted::Release => {
                    self.release.send_modify(|count| *count += 1);
                    self.socket
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await
                        .at("upstream write")?;
                }
                Wanted::Stream { tokens, gap, hold } => self.stream(tokens, gap, hold).await?,
            }
        }
        Ok(())
    }

    /// Reads one whole request, or `None` where the peer closed between requests.
    async fn request(&mut self) -> Result<Option<Wanted>, Failure> {
        loop {
            if let Some((length, wanted)) = parse_request(&self.seen)? {
                self.seen.drain(..length);
                return Ok(Some(wanted));
            }
            if self.seen.len() > REQUEST_BYTES_MAX {
                return failure("the request is larger than the mock upstream accepts");
            }
            if self.socket.read_buf(&mut self.seen).await.at("upstream read")? == 0 {
                return Ok(None);
            }
        }
    }

    async fn stream(&mut self, tokens: u32, gap: Duration, hold: bool) -> Result<(), Failure> {
        let tail = format!(
            ",\"created\":1779000000,\"id\":\"chatcmpl-{:032}\",\"model\":\"bench-7b\",\"system_fingerprint\":\"b11669-bench\",\
             \"object\":\"chat.completion.chunk\"",
            self.number
        );
        let mut released = self.release.subscribe();
        self.out.clear();
        self.out.extend_from_slice(HEAD);
        self.push_chunk(&[ROLE], &tail, None);
        self.flush().await?;
        let mut due = Instant::now();
        for index in 0..tokens {
            if index > 0 && !gap.is_zero() {
                // An upstream that fell behind goes on from there: it does not catch up in a burst.
                due = (due + gap).max(Instant::now());
                tokio::time::sleep_until(due).await;
            }
            // Before silence the text ends where no forbidden phrase can begin: a guard rightly keeps back a last token
            // that may still become one, and the client waits for every token before it calls a stream silent.
            let (space, word) = if hold && index + 1 == tokens {
                ("", ".")
            } else {
                self.deck.next_token()
            };
            self.push_chunk(
                &[BEFORE_TEXT, space.as_bytes(), word.as_bytes(), AFTER_TEXT],
                &tail,
                index.is_multiple_of(STAMP_EVERY).then(now_ns),
            );
            self.flush().await?;
        }
        if hold {
            released.changed().await.at("upstream release")?;
        }
        self.push_chunk(&[FINISH], &tail, None);
        self.out.extend_from_slice(LAST);
        self.flush().await
    }

    /// Appends one HTTP chunk that holds one event: `pieces`, the stream's constant `tail`, and the time of sending.
    fn push_chunk(&mut self, pieces: &[&[u8]], tail: &str, sent_ns: Option<u64>) {
        let mut digits = [0_u8; 20];
        let stamp = sent_ns.map_or(&[][..], |sent_ns| decimal(sent_ns, &mut digits));
        let name: &[u8] = if stamp.is_empty() { b"" } else { b",\"t\":" };
        let parts = [tail.as_bytes(), name, stamp, b"}\n\n"];
        let size = pieces.iter().chain(&parts).map(|part| part.len()).sum();
        self.out.extend_from_slice(&hex(size));
        for part in pieces.iter().chain(&parts) {
            self.out.extend_from_slice(part);
        }
        self.out.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.socket.write_all(&self.out).await.at("upstream write")?;
        self.out.clear();
        Ok(())
    }
}

/// A chunk size line of three hexadecimal digits; every chunk here is shorter than 4,096 bytes.
fn hex(size: usize) -> [u8; 5] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[size >> 8 & 15],
        DIGITS[size >> 4 & 15],
        DIGITS[size & 15],
        b'\r',
        b'\n',
    ]
}

fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// Finds one whole request at the start of `seen`: its length in bytes and what it asks for.
fn parse_request(seen: &[u8]) -> Result<Option<(usize, Wanted)>, Failure> {
    let Some(head_end) = memchr::memmem::find(seen, b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&seen[..head_end]).at("request head")?;
    let mut lines = head.split("\r\n");
    if lines.next().is_some_and(|line| line.starts_with("GET /release ")) {
        return Ok(Some((head_end, Wanted::Release)));
    }
    let (mut body, mut chunked, mut tokens, mut gap_ms, mut hold) = (None, false, None, 0, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => body = value.parse::<usize>().ok(),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "x-bench-tokens" => tokens = value.parse::<u32>().ok(),
            "x-bench-gap-ms" => gap_ms = value.parse::<u64>().at("x-bench-gap-ms")?,
            "x-bench-hold" => hold = value == "1",
            _ => {}
        }
    }
    let rest = &seen[head_end..];
    let body = match (body, chunked) {
        // The bench's bodies hold no line breaks, so the first such bytes are the last chunk's.
        (_, true) => memchr::memmem::find(rest, b"\r\n0\r\n\r\n").map(|at| at + 7),
        (Some(length), false) => (rest.len() >= length).then_some(length),
        (None, false) => return failure("the request has no body"),
    };
    let Some(body) = body else { return Ok(None) };
    let Some(tokens) = tokens else {
        return failure("the request has no x-bench-tokens");
    };
    Ok(Some((
        head_end + body,
        Wanted::Stream {
            tokens,
            gap: Duration::from_millis(gap_ms),
            hold,
        },
    )))
}
