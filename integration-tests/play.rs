//! Plays one script on a connection: head, body, end.

use crate::script::{EndHow, Framing, Op, Script};
use crate::seen::Seen;
use crate::wire::BodyWriter;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    KeepAlive,
    Close,
    Reset,
}

/// Answers one request as the script says.
pub(crate) async fn play(
    writer: &mut WriteHalf<'_>,
    script: &Script,
    seen: &Seen,
    split: usize,
) -> io::Result<After> {
    tokio::time::sleep(Duration::from_millis(script.head_after_ms)).await;
    match script.no_head {
        Some(EndHow::Reset) => return Ok(After::Reset),
        Some(EndHow::Hang) => return std::future::pending().await,
        Some(EndHow::Drop | EndHow::Close) => return Ok(After::Close),
        None => {}
    }
    let ops = script.render();
    *seen.answered.lock().unwrap() = Some(Instant::now());
    writer.write_all(head(script, &ops).as_bytes()).await?;
    if seen.method == "HEAD" {
        return Ok(After::KeepAlive);
    }
    let chunked = script.framing == Framing::Chunked && !bodiless(script.status);
    let mut body = BodyWriter {
        writer,
        seen,
        chunked,
        split,
    };
    for op in &ops {
        match op {
            Op::Write(bytes) => body.write(bytes).await?,
            Op::Sleep(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Op::Flood(bytes) => body.flood(script, *bytes).await?,
            Op::BigLine(bytes) => body.big_line(*bytes).await?,
            Op::End(EndHow::Hang) => return std::future::pending().await,
            Op::End(EndHow::Reset) => return Ok(After::Reset),
            Op::End(EndHow::Drop) => return Ok(After::Close),
            Op::End(EndHow::Close) => break,
        }
    }
    if chunked {
        body.writer.write_all(b"0\r\n\r\n").await?;
    }
    let closes = script.framing == Framing::Eof
        || script
            .headers
            .iter()
            .any(|(n, v)| n.eq_ignore_ascii_case("connection") && v.contains("close"));
    Ok(if closes { After::Close } else { After::KeepAlive })
}

const fn bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

fn head(script: &Script, ops: &[Op]) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", script.status);
    let mut line = |name: &str, value: &str| write!(head, "{name}: {value}\r\n").expect("a String takes it");
    if !script
        .headers
        .iter()
        .any(|(n, _)| n.eq_ignore_ascii_case("content-type"))
        && !bodiless(script.status)
    {
        line("content-type", "text/event-stream");
    }
    for (name, value) in &script.headers {
        line(name, value);
    }
    match script.framing {
        _ if bodiless(script.status) => {}
        Framing::Chunked => line("transfer-encoding", "chunked"),
        Framing::Length => {
            let written: usize = ops
                .iter()
                .map(|op| if let Op::Write(b) = op { b.len() } else { 0 })
                .sum();
            // A body that breaks off must be shorter than it was announced.
            let missing = if matches!(ops.last(), Some(Op::End(EndHow::Close)) | None) {
                0
            } else {
                1000
            };
            line("content-length", &(written + missing).to_string());
        }
        Framing::Eof => line("connection", "close"),
    }
    head.push_str("\r\n");
    head
}
