//! A client of HTTP/2 without TLS, with prior knowledge.

use crate::client::{Answer, Ended, Manner, Payload, Request};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::net::TcpStream;

/// Sends a request over a new HTTP/2 connection and reads the answer to its end.
///
/// # Panics
/// On a payload that only makes sense in HTTP/1.1 (announced, endless).
pub async fn send(addr: SocketAddr, request: &Request, manner: Manner) -> Answer {
    let mut answer = Answer::empty();
    match tokio::time::timeout(manner.limit, exchange(addr, request, manner, &mut answer)).await {
        Ok(Ok(ended)) => answer.ended = ended,
        Ok(Err(error)) => {
            answer.ended = if answer.status == 0 && !error.is_reset() {
                Ended::NoAnswer
            } else {
                Ended::Reset
            };
        }
        Err(_) => answer.ended = Ended::TimedOut,
    }
    answer
}

async fn exchange(
    addr: SocketAddr,
    request: &Request,
    manner: Manner,
    answer: &mut Answer,
) -> Result<Ended, h2::Error> {
    let started = Instant::now();
    let Ok(stream) = TcpStream::connect(addr).await else {
        return Ok(Ended::NoAnswer);
    };
    stream.set_nodelay(true).ok();
    let (sender, connection) = h2::client::handshake(stream).await?;
    // Aborted with the guard: the connection must not outlive a client that left.
    let _driver = Driver(tokio::spawn(async move { connection.await.ok() }));
    let mut sender = sender.ready().await?;
    let mut head = http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("http://{addr}{}", request.target));
    for (name, value) in &request.headers {
        head = head.header(name, value);
    }
    let pieces: Vec<Bytes> = match &request.payload {
        Payload::Full(body) => {
            head = head.header("content-length", body.len());
            vec![body.clone().into()]
        }
        Payload::Chunks(pieces) => pieces.iter().cloned().map(Bytes::from).collect(),
        Payload::None => Vec::new(),
        other => panic!("{other:?} is for HTTP/1.1"),
    };
    let head = head.body(()).expect("a request of plain headers");
    let (response, mut body) = sender.send_request(head, pieces.is_empty())?;
    let last = pieces.len().saturating_sub(1);
    for (i, piece) in pieces.into_iter().enumerate() {
        body.send_data(piece, i == last)?;
    }
    let (parts, mut incoming) = response.await?.into_parts();
    answer.status = parts.status.as_u16();
    answer.headers = parts
        .headers
        .iter()
        .map(|(n, v)| {
            (
                n.as_str().to_owned(),
                String::from_utf8_lossy(v.as_bytes()).into_owned(),
            )
        })
        .collect();
    loop {
        tokio::time::sleep(manner.pause).await;
        let Some(data) = incoming.data().await else {
            return Ok(Ended::Clean);
        };
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        answer.body.extend_from_slice(&data);
        answer.arrivals.push((started.elapsed(), answer.body.len()));
        if manner.leave_after.is_some_and(|most| answer.body.len() >= most) {
            return Ok(Ended::Left);
        }
    }
}

struct Driver(tokio::task::JoinHandle<Option<()>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
