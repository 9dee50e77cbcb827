//! The client of the measurement: raw HTTP/1.1 over keep-alive connections, in a closed loop.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::now_ns;
use crate::failure::{At as _, Failure, failure};
use crate::options::Shape;
use crate::wire::Answer;

/// Connections that may be in the making at once: below every server's listen queue.
const CONNECTING_MAX: usize = 128;
/// A window that takes longer than this has hung.
const WINDOW_MAX: Duration = Duration::from_secs(120);
/// Streams with gaps start spread over this time, so that the first tokens do not all meet in one burst.
const RAMP: Duration = Duration::from_millis(500);
const READ_BYTES: usize = 64 * 1024;

/// The body of every request: an ordinary chat request.
pub(crate) const BODY: &str = r#"{"model":"bench-7b","stream":true,"temperature":0.7,"messages":[{"role":"system","content":"You are a helpful assistant. Answer in plain sentences."},{"role":"user","content":"Describe how a river changes the land it flows through, from the spring to the sea, and what that means for the towns beside it."}]}"#;

thread_local! {
    /// One read buffer for all connections: the client has one thread, and no read is held across an await.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What a window measured, all times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Request written until the first content token was read, one per stream.
    pub(crate) first: Vec<u64>,
    /// Tokens read.
    pub(crate) tokens: usize,
    /// Token sent by the upstream until it was read here, for every token that carries its send time.
    pub(crate) transit: Vec<u64>,
    /// Between two tokens of a stream as read here.
    pub(crate) gaps: Vec<u64>,
    /// Streams served.
    pub(crate) streams: usize,
    /// Connections that the server closed after an answer.
    pub(crate) closed: usize,
}

impl Samples {
    fn add(&mut self, other: &Self) {
        self.first.extend_from_slice(&other.first);
        self.tokens += other.tokens;
        self.transit.extend_from_slice(&other.transit);
        self.gaps.extend_from_slice(&other.gaps);
        self.streams += other.streams;
        self.closed += other.closed;
    }
}

/// One client connection.
pub(crate) struct Connection {
    target: SocketAddr,
    socket: TcpStream,
}

impl Connection {
    /// Connects, with TCP_NODELAY.
    pub(crate) async fn open(target: SocketAddr) -> Result<Self, Failure> {
        let socket = TcpStream::connect(target).await.at("connect")?;
        socket.set_nodelay(true).at("TCP_NODELAY")?;
        Ok(Self { target, socket })
    }

    /// Sends one request.
    pub(crate) async fn ask(&mut self, tokens: u32, gap_ms: u64, hold: bool) -> Result<(), Failure> {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: text/event-stream\r\nx-bench-tokens: {tokens}\r\nx-bench-gap-ms: {gap_ms}\r\n\
             x-bench-hold: {}\r\nContent-Length: {}\r\n\r\n{BODY}",
            self.target,
            u8::from(hold),
            BODY.len()
        );
        self.socket
            .write_all(request.as_bytes())
            .await
            .at("send the request")
    }

    /// Waits for the next bytes and feeds them to `answer`; `token` gets (send time, read time) of each token.
    pub(crate) async fn read(
        &mut self,
        answer: &mut Answer,
        mut token: impl FnMut(Option<u64>, u64),
    ) -> Result<(), Failure> {
        loop {
            self.socket.readable().await.at("wait for the answer")?;
            let read = READ.with_borrow_mut(|buffer| match self.socket.try_read(buffer) {
                Ok(0) => failure(format!(
                    "the connection closed after {} tokens",
                    answer.events.tokens
                )),
                Ok(length) => {
                    let read_ns = now_ns();
                    answer
                        .feed(&buffer[..length], &mut |sent_ns| token(sent_ns, read_ns))
                        .map(|()| true)
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error).at("read the answer"),
            });
            if read? {
                return Ok(());
            }
        }
    }

    /// Asks for one stream and reads it to its end, which must be whole.
    async fn stream(&mut self, tokens: u32, gap_ms: u64, samples: &mut Samples) -> Result<(), Failure> {
        let asked_ns = now_ns();
        self.ask(tokens, gap_ms, false).await?;
        let mut answer = Answer::new();
        let mut last_ns = 0;
        while !answer.ended() {
            self.read(&mut answer, |sent_ns, read_ns| {
                samples.tokens += 1;
                samples
                    .transit
                    .extend(sent_ns.map(|sent_ns| read_ns.saturating_sub(sent_ns)));
                if last_ns == 0 {
                    samples.first.push(read_ns - asked_ns);
                } else {
                    samples.gaps.push(read_ns - last_ns);
                }
                last_ns = read_ns;
            })
            .await?;
        }
        answer.events.check_whole(tokens)?;
        samples.streams += 1;
        if answer.closes {
            samples.closed += 1;
            *self = Self::open(self.target).await?;
        }
        Ok(())
    }
}

/// Opens a shape's connections and runs one short stream on each, so that the window measures no connecting.
pub(crate) async fn connect(target: SocketAddr, shape: Shape) -> Result<Vec<Connection>, Failure> {
    let permits = Arc::new(Semaphore::new(CONNECTING_MAX));
    let mut tasks = JoinSet::new();
    for _ in 0..shape.at_once {
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await.at("connect")?;
            let mut connection = Connection::open(target).await?;
            connection
                .stream(3, 0, &mut Samples::default())
                .await
                .map(|()| connection)
        });
    }
    let mut connections = Vec::with_capacity(shape.at_once);
    while let Some(joined) = tasks.join_next().await {
        connections.push(joined.at("client task")??);
    }
    Ok(connections)
}

/// Runs one window: all connections in a closed loop until the shape's streams were served. Any stream that is not
/// whole fails the window.
pub(crate) async fn window(connections: Vec<Connection>, shape: Shape) -> Result<Samples, Failure> {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let count = connections.len();
    for (index, mut connection) in connections.into_iter().enumerate() {
        let taken = Arc::clone(&taken);
        tasks.spawn(async move {
            let mut samples = Samples::default();
            if shape.gap_ms > 0 {
                tokio::time::sleep(RAMP.mul_f64(index as f64 / count as f64)).await;
            }
            loop {
                let number = taken.fetch_add(1, Ordering::Relaxed);
                if number >= shape.in_all {
                    return Ok(samples);
                }
                connection
                    .stream(shape.tokens, shape.gap_ms, &mut samples)
                    .await
                    .at(&format!("stream {number}"))?;
            }
        });
    }
    let mut sum = Samples::default();
    let all = async {
        while let Some(joined) = tasks.join_next().await {
            sum.add(&joined.at("client task")??);
        }
        Ok(())
    };
    timeout(WINDOW_MAX, all).await.at("the window hangs")??;
    if sum.streams != shape.in_all || sum.tokens != shape.in_all * shape.tokens as usize {
        return failure(format!(
            "{} streams and {} tokens were counted",
            sum.streams, sum.tokens
        ));
    }
    Ok(sum)
}
