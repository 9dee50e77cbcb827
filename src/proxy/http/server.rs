//! Listening, handing connections to workers, serving them, and draining.

use super::stack::Stack;
use crate::config::Bounds;
use crate::limits::{
    ACCEPT_PAUSE, FIRST_WORDS_PAUSE, H2_KEEP_ALIVE, H2_STREAMS_MAX, HEADER_READ, HEADERS_MAX,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::net::TcpStream as StdStream;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A connection on its way to a worker, with its place among the connections.
pub(crate) type Handover = (StdStream, OwnedSemaphorePermit);

/// Sets what the process asks of the system. Every setting is an improvement, none is a condition.
pub(crate) fn prepare_process() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // Every client takes two file descriptors, its own and the upstream's: use all that are allowed.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    // Many small buffers, each touched in its first bytes: huge pages made a stream's memory half as large again.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

/// Accepts connections and deals them to the workers in turn, until `drain`.
pub(crate) async fn accept(
    listener: TcpListener,
    workers: Vec<Sender<Handover>>,
    bounds: Bounds,
    drain: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    for worker in workers.iter().cycle() {
        // A full house leaves new clients in the system's backlog until somebody goes.
        let place = tokio::select! {
            () = drain.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { return };
        let stream = loop {
            tokio::select! {
                () = drain.cancelled() => return,
                accepted = listener.accept() => match accepted.and_then(|(stream, _)| stream.into_std()) {
                    Ok(stream) => break stream,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        if worker.send((stream, place)).await.is_err() {
            return tracing::error!("a worker is gone");
        }
    }
}

/// One event loop's share of the connections.
pub(crate) struct Worker {
    pub(crate) stack: Stack,
    pub(crate) connections: Receiver<Handover>,
    pub(crate) drain: CancellationToken,
    pub(crate) bounds: Bounds,
}

impl Worker {
    /// Serves connections until `drain`, then until the last one is done.
    pub(crate) async fn run(mut self) {
        let tasks = TaskTracker::new();
        let builder = self.builder();
        loop {
            let (stream, place) = tokio::select! {
                () = self.drain.cancelled() => break,
                next = self.connections.recv() => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            match prepare(stream) {
                Ok(stream) => {
                    let connection = serve(stream, builder.clone(), self.stack.clone(), self.drain.clone());
                    tasks.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => tracing::debug!(%error, "a connection was lost before it was served"),
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ)
            .max_headers(HEADERS_MAX)
            // A token is small: copying it behind its chunk header is cheaper than a vector of three slices.
            .writev(false)
            .max_buf_size(self.bounds.header_bytes_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.bounds.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(H2_KEEP_ALIVE)
            .keep_alive_timeout(H2_KEEP_ALIVE)
            .max_concurrent_streams(H2_STREAMS_MAX);
        builder
    }
}

fn prepare(stream: StdStream) -> std::io::Result<TcpStream> {
    let stream = TcpStream::from_std(stream)?;
    // Every token is a small write that must leave at once.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until the client has said enough to tell HTTP/2 from HTTP/1.1: the HTTP library waits for that without a limit.
async fn first_words(stream: &TcpStream) -> std::io::Result<()> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut words = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut words).await?;
        if n == 0 || n == words.len() || !PREFACE.starts_with(&words[..n]) {
            return Ok(());
        }
        tokio::time::sleep(FIRST_WORDS_PAUSE).await;
    }
}

async fn serve(stream: TcpStream, builder: Builder<TokioExecutor>, stack: Stack, drain: CancellationToken) {
    let spoken = tokio::select! {
        () = drain.cancelled() => return,
        spoken = tokio::time::timeout(HEADER_READ, first_words(&stream)) => spoken,
    };
    if !matches!(spoken, Ok(Ok(()))) {
        return tracing::debug!("a client connected and said nothing");
    }
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = drain.cancelled() => {
            // The answer that runs is finished, then the connection closes.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "a connection ended early");
    }
}
