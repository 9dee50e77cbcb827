//! The client of `aegis-bench idle --h2`: streams multiplexed over HTTP/2 connections without TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::client::BODY;
use crate::failure::{At as _, Failure, failure};
use crate::idle::Progress;
use crate::wire::Events;

/// Streams on one connection: the least that RFC 9113 recommends a server to allow.
const STREAMS_PER_CONNECTION: usize = 100;

/// Opens a connection, whose driver ends with its last stream.
async fn open(target: SocketAddr) -> Result<SendRequest<Bytes>, Failure> {
    let socket = TcpStream::connect(target).await.at("connect")?;
    socket.set_nodelay(true).at("TCP_NODELAY")?;
    let (requests, connection) = h2::client::handshake(socket).await.at("HTTP/2 handshake")?;
    // What goes wrong on a connection reaches each of its streams as an error too.
    tokio::spawn(async move { connection.await.is_ok() });
    Ok(requests)
}

/// Starts a task for each of `streams` streams.
pub(crate) fn spawn(
    tasks: &mut JoinSet<Result<(), Failure>>,
    target: SocketAddr,
    streams: usize,
    tokens: u32,
    progress: &Progress,
) {
    let mut connection = Arc::new(OnceCell::new());
    for index in 0..streams {
        if index % STREAMS_PER_CONNECTION == 0 {
            connection = Arc::new(OnceCell::new());
        }
        let (connection, progress) = (Arc::clone(&connection), progress.clone());
        tasks.spawn(async move {
            let permit = progress.opening.acquire().await.at("opening")?;
            let requests = connection.get_or_try_init(|| open(target)).await?.clone();
            drop(connection);
            let mut stream = Stream::ask(requests, target, tokens, true).await?;
            while stream.events.tokens < tokens {
                if !stream.read().await? {
                    return failure("the stream ended before its tokens");
                }
            }
            drop(permit);
            progress.silent.fetch_add(1, Ordering::Relaxed);
            while stream.read().await? {}
            stream.events.check_whole(tokens)
        });
    }
}

/// One stream on a connection of its own, to its end.
pub(crate) async fn warm_up(target: SocketAddr) -> Result<(), Failure> {
    let mut stream = Stream::ask(open(target).await?, target, 3, false).await?;
    while stream.read().await? {}
    stream.events.check_whole(3)
}

struct Stream {
    body: h2::RecvStream,
    events: Events,
}

impl Stream {
    async fn ask(
        requests: SendRequest<Bytes>,
        target: SocketAddr,
        tokens: u32,
        hold: bool,
    ) -> Result<Self, Failure> {
        let request = http::Request::post(format!("http://{target}/v1/chat/completions"))
            .header("content-type", "application/json")
            .header("content-length", BODY.len())
            .header("x-bench-tokens", tokens)
            .header("x-bench-hold", u16::from(hold))
            .body(())
            .at("request")?;
        let mut requests = requests.ready().await.at("HTTP/2 connection")?;
        let (answer, mut body) = requests.send_request(request, false).at("send the request")?;
        body.send_data(Bytes::from_static(BODY.as_bytes()), true)
            .at("send the body")?;
        let answer = answer.await.at("answer's head")?;
        if answer.status() != http::StatusCode::OK {
            return failure(format!("answered {}", answer.status()));
        }
        Ok(Self {
            body: answer.into_body(),
            events: Events::default(),
        })
    }

    /// Reads the next bytes; false at the body's end.
    async fn read(&mut self) -> Result<bool, Failure> {
        let Some(data) = self.body.data().await else {
            return Ok(false);
        };
        let data = data.at("read the answer")?;
        self.events.feed(&data, &mut |_| {})?;
        self.body
            .flow_control()
            .release_capacity(data.len())
            .at("flow control")?;
        Ok(true)
    }
}
