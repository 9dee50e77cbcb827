//! HTTP/1.1 on the scripted upstream's side: reading requests, writing bodies.

use crate::script::Script;
use crate::seen::Seen;
use crate::words::Words;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Writes a body in pieces of a given size, in its framing, and records what left.
pub(crate) struct BodyWriter<'a, 'b> {
    pub(crate) writer: &'a mut WriteHalf<'b>,
    pub(crate) seen: &'a Seen,
    pub(crate) chunked: bool,
    pub(crate) split: usize,
}

impl BodyWriter<'_, '_> {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = if self.split == 0 {
            bytes.len().max(1)
        } else {
            self.split
        };
        for piece in bytes.chunks(size) {
            if self.chunked {
                let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
                framed.extend_from_slice(piece);
                framed.extend_from_slice(b"\r\n");
                self.writer.write_all(&framed).await?;
            } else {
                self.writer.write_all(piece).await?;
            }
            self.seen.record(piece);
            if self.split > 0 {
                // Lets the reader of the other side run, so that the pieces are really seen apart.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    pub(crate) async fn flood(&mut self, script: &Script, bytes: u64) -> io::Result<()> {
        let (mut words, mut written) = (Words::default(), 0);
        while written < bytes {
            let mut batch = String::new();
            while batch.len() < 16 * 1024 {
                let mut word = String::new();
                words.word(&mut word);
                let choice =
                    serde_json::json!({"index": 0, "delta": {"content": word}, "finish_reason": null});
                batch.push_str(&script.chunk(serde_json::json!({"choices": [choice]})));
            }
            self.write(batch.as_bytes()).await?;
            written += batch.len() as u64;
        }
        Ok(())
    }

    pub(crate) async fn big_line(&mut self, bytes: u64) -> io::Result<()> {
        self.write(br#"data: {"choices":[{"index":0,"delta":{"content":""#)
            .await?;
        let (mut words, mut written) = (Words::default(), 0);
        while written < bytes {
            let mut batch = String::new();
            while batch.len() < 64 * 1024 {
                words.word(&mut batch);
            }
            self.write(batch.as_bytes()).await?;
            written += batch.len() as u64;
        }
        Ok(())
    }
}

/// Reads one request; `None` when the peer closed before one began.
pub(crate) async fn read_request(
    reader: &mut ReadHalf<'_>,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break end;
        }
        if reader.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let at = Instant::now();
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        first.next().unwrap_or_default().to_owned(),
        first.next().unwrap_or_default().to_owned(),
    );
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let body = if value("transfer-encoding").is_some() {
        read_chunks(reader, buffer).await?
    } else {
        let length = value("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        take(reader, buffer, length).await?
    };
    Ok(Some(Seen {
        method,
        target,
        headers,
        body,
        at,
        sent_bytes: AtomicU64::new(0),
        sent: Mutex::default(),
        answered: Mutex::default(),
        ended: Mutex::default(),
    }))
}

async fn read_chunks(reader: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(end) = memchr::memmem::find(buffer, b"\r\n") {
                let line = buffer[..end].to_vec();
                buffer.drain(..end + 2);
                break line;
            }
            if reader.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let digits = String::from_utf8_lossy(&line)
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let size = usize::from_str_radix(&digits, 16).map_err(io::Error::other)?;
        body.extend_from_slice(&take(reader, buffer, size).await?);
        take(reader, buffer, 2).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn take(reader: &mut ReadHalf<'_>, buffer: &mut Vec<u8>, n: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < n {
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.drain(..n).collect())
}
