//! A request of the raw client.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// These bytes with their `Content-Length`.
    Full(Vec<u8>),
    /// These pieces as chunks.
    Chunks(Vec<Vec<u8>>),
    /// A `Content-Length` of this many bytes, of which none is sent.
    Announced(u64),
    /// Chunks of 64 KiB of the letter `a` until this many bytes, or until an answer came.
    Endless(u64),
    /// No body and no header about one.
    None,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers beside `Host` and the body's framing.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Payload,
}

impl Request {
    /// A `POST` of JSON.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST".to_owned(),
            target: target.to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            payload: Payload::Full(body.into()),
        }
    }

    /// Any method without a body.
    #[must_use]
    pub fn bare(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            payload: Payload::None,
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn head(&self, host: SocketAddr) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").expect("a String takes it");
        }
        match &self.payload {
            Payload::Full(body) => write!(head, "content-length: {}\r\n", body.len()),
            Payload::Announced(n) => write!(head, "content-length: {n}\r\n"),
            Payload::Chunks(_) | Payload::Endless(_) => write!(head, "transfer-encoding: chunked\r\n"),
            Payload::None => Ok(()),
        }
        .expect("a String takes it");
        head.push_str("\r\n");
        head
    }
}

/// Writes the body as its kind says.
pub(crate) async fn write_payload(writer: &mut OwnedWriteHalf, payload: &Payload) -> io::Result<()> {
    match payload {
        Payload::Full(body) => writer.write_all(body).await,
        Payload::Chunks(pieces) => {
            for piece in pieces.iter().filter(|p| !p.is_empty()) {
                writer
                    .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                    .await?;
                writer.write_all(piece).await?;
                writer.write_all(b"\r\n").await?;
            }
            writer.write_all(b"0\r\n\r\n").await
        }
        Payload::Endless(total) => {
            let mut chunk = b"10000\r\n".to_vec();
            chunk.resize(chunk.len() + 0x10000, b'a');
            chunk.extend_from_slice(b"\r\n");
            for _ in 0..total.div_ceil(0x10000) {
                writer.write_all(&chunk).await?;
            }
            writer.write_all(b"0\r\n\r\n").await
        }
        Payload::Announced(_) | Payload::None => Ok(()),
    }
}
