//! A TCP proxy that breaks connections: it stands between Aegis and a real server and closes both sides after a number of
//! SSE frames with text.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// When connections break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// After this many frames with text of one answer.
    pub after: usize,
    /// In the middle of the frame after them, not behind the last of them.
    pub torn: bool,
    /// How often in all; then connections stay whole.
    pub most: usize,
}

#[derive(Debug, Default)]
struct Shared {
    cuts: Mutex<Cuts>,
    made: AtomicUsize,
}

/// A running flaky proxy; it stops when dropped.
#[derive(Debug)]
pub struct Flaky {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Flaky {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Flaky {
    /// Stands in front of a server. Nothing is cut until [`Self::cut`] says so.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn in_front_of(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, upstream, served.clone()));
            }
        });
        Self { addr, shared, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// From now on connections break like this; what was broken before is forgotten.
    ///
    /// # Panics
    /// Where another thread has panicked here.
    pub fn cut(&self, cuts: Cuts) {
        *self.shared.cuts.lock().unwrap() = cuts;
        self.shared.made.store(0, Ordering::SeqCst);
    }

    /// How many connections were broken since then.
    #[must_use]
    pub fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    // Whichever direction ends first ends both: a client that leaves must be seen to leave.
    tokio::select! {
        _left = copy(&mut from_client, &mut to_server) => {}
        _over = answers(from_server, to_client, &shared) => {}
    }
}

/// Copies answers until the server closes or a cut is due.
async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
    let mut reader = Lines::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let cuts = *shared.cuts.lock().unwrap();
        let armed = shared.made.load(Ordering::SeqCst) < cuts.most;
        let mut out = Vec::new();
        let cut = reader.read(&buffer[..n], armed.then_some(cuts), &mut out);
        to.write_all(&out).await?;
        if cut {
            shared.made.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
    }
}

/// Reads what a server writes, line by line. Lines of data wait until they are whole, everything else passes at once.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    /// How much of the line has passed.
    passed: usize,
    /// Frames with text since the answer began.
    frames: usize,
}

impl Lines {
    /// Takes bytes and appends those that may pass; `true` when the connection is to be cut behind them.
    fn read(&mut self, bytes: &[u8], cuts: Option<Cuts>, out: &mut Vec<u8>) -> bool {
        for &byte in bytes {
            self.line.push(byte);
            if byte != b'\n' {
                continue;
            }
            if self.line == b"data: [DONE]\n" {
                self.frames = 0;
            }
            self.frames += usize::from(has_text(&self.line));
            let due = cuts.filter(|cuts| cuts.torn && self.frames > cuts.after);
            let end = if due.is_some() {
                self.line.len() / 2
            } else {
                self.line.len()
            };
            out.extend_from_slice(&self.line[self.passed.min(end)..end]);
            // The blank line makes the event whole.
            let whole =
                cuts.is_some_and(|cuts| !cuts.torn && self.frames >= cuts.after && self.line == b"\n");
            self.passed = 0;
            self.line.clear();
            if due.is_some() || whole {
                return true;
            }
        }
        if !self.line.starts_with(b"data: ") {
            out.extend_from_slice(&self.line[self.passed..]);
            self.passed = self.line.len();
        }
        false
    }
}

/// Whether a line is a frame with text, as llama-server writes them.
fn has_text(line: &[u8]) -> bool {
    let holds = |part: &[u8]| memchr::memmem::find(line, part).is_some();
    line.starts_with(b"data: ") && (holds(br#""content":""#) || holds(br#""reasoning_content":""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn frame(text: &str) -> String {
        let data = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        format!("{:x}\r\n{data}\r\n", data.len())
    }

    fn read(all: &str, size: usize, cuts: Option<Cuts>) -> (String, bool) {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        let cut = all
            .as_bytes()
            .chunks(size)
            .any(|chunk| lines.read(chunk, cuts, &mut out));
        (String::from_utf8(out).unwrap(), cut)
    }

    #[test]
    fn cuts_fall_behind_the_frame_or_into_the_next() {
        let all = format!("{HEAD}{}{}{}", frame("a"), frame("b"), frame("c"));
        for size in [1, 7, 10_000] {
            assert_eq!(read(&all, size, None), (all.clone(), false));
            let cuts = Cuts {
                after: 2,
                torn: false,
                most: 1,
            };
            let (out, cut) = read(&all, size, Some(cuts));
            assert!(cut && out.ends_with("\"b\"}}]}\n\n"), "{out}");
            let (torn, cut) = read(&all, size, Some(Cuts { torn: true, ..cuts }));
            assert!(cut && torn.starts_with(&out) && !torn.contains("\"c\""), "{torn}");
            assert!(torn.len() > out.len() + 2);
        }
    }

    #[test]
    fn an_answer_without_line_end_passes_at_once() {
        let all = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(
            read(
                all,
                3,
                Some(Cuts {
                    after: 1,
                    torn: false,
                    most: 1
                })
            ),
            (all.to_owned(), false)
        );
    }

    #[test]
    fn every_answer_is_counted_anew() {
        let all = format!("{}data: [DONE]\n\n{}", frame("a"), frame("b"));
        let cuts = Cuts {
            after: 2,
            torn: false,
            most: 1,
        };
        assert_eq!(read(&all, 5, Some(cuts)), (all.clone(), false));
    }
}
