//! The only file that wires things: config into worker threads, listeners and signals into a life cycle.

use crate::config::Config;
use crate::http::server::{self, Worker};
use crate::http::stack;
use crate::incidents::IncidentLog;
use crate::limits::{DRAIN_LAST_WORDS, HANDOVER_MAX};
use crate::upstream::capabilities::Scout;
use crate::upstream::client::UpstreamClient;
use crate::upstream::pulse::{LastBytes, Pulse};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// What every request of one worker can reach.
pub(crate) struct App {
    pub(crate) config: Arc<Config>,
    /// `config.upstream` as text.
    pub(crate) upstream_name: String,
    pub(crate) client: Arc<UpstreamClient>,
    pub(crate) pulse: Pulse,
    /// When the upstream last sent something.
    pub(crate) bytes: Arc<LastBytes>,
    pub(crate) incidents: Arc<IncidentLog>,
    /// Places for requests in progress, shared by all workers.
    pub(crate) places: Arc<Semaphore>,
    /// Places for hidden requests that wait for their answer, shared by all workers.
    pub(crate) hidden: Arc<Semaphore>,
    /// What the upstream can do.
    pub(crate) scout: Scout,
    /// Streams that still run must end now.
    pub(crate) abort: CancellationToken,
}

/// The error, with what it is about.
fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// A running proxy.
pub(crate) struct Proxy {
    addr: SocketAddr,
    /// Stop accepting, finish what runs.
    drain: CancellationToken,
    /// End what still runs.
    abort: CancellationToken,
    threads: Vec<JoinHandle<()>>,
    config: Arc<Config>,
}

/// Runs `main` on an event loop, and does not wait for threads that are still busy when it is over.
///
/// # Errors
/// Those of `main`, or of making the loop.
pub(crate) fn run<T>(main: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = event_loop()?;
    let result = runtime.block_on(main);
    runtime.shutdown_background();
    result
}

/// An event loop for one thread: no token ever crosses threads, so none costs a wake-up of another core.
fn event_loop() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

impl Proxy {
    /// Starts the workers and the listener.
    ///
    /// # Errors
    /// When the address is taken, the incident log cannot be opened, or a thread cannot be started.
    pub(crate) fn start(config: Config) -> io::Result<Self> {
        server::prepare_process();
        let config = Arc::new(config);
        let incidents =
            IncidentLog::open(&config.incidents).map_err(|error| named(&error, "incidents.file"))?;
        let incidents = Arc::new(incidents);
        let places = Arc::new(Semaphore::new(config.bounds.streams_max));
        let bytes = Arc::new(LastBytes::new());
        let hidden = Arc::new(Semaphore::new(config.hidden.hidden_max));
        let scout = Scout::new(config.upstream.clone(), config.flavour, &config.guard);
        let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
        let listener = std::net::TcpListener::bind(config.listen)
            .map_err(|error| named(&error, &config.listen.to_string()))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;

        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for number in 0..config.workers {
            let (sender, connections) = mpsc::channel(HANDOVER_MAX);
            workers.push(sender);
            let (runtime, config, drain) = (event_loop()?, Arc::clone(&config), drain.clone());
            let (incidents, places, abort, bytes) = (
                Arc::clone(&incidents),
                Arc::clone(&places),
                abort.clone(),
                Arc::clone(&bytes),
            );
            let (hidden, scout) = (Arc::clone(&hidden), scout.clone());
            let thread = std::thread::Builder::new().name(format!("aegis-worker-{number}"));
            threads.push(thread.spawn(move || {
                runtime.block_on(async move {
                    let client = Arc::new(UpstreamClient::new(&config.upstream, config.bounds.connect));
                    let pulse = Pulse::new(Arc::clone(&client), config.upstream.clone(), Arc::clone(&bytes));
                    let upstream_name = config.upstream.to_string();
                    let bounds = config.bounds;
                    let app = Arc::new(App {
                        config,
                        upstream_name,
                        client,
                        pulse,
                        bytes,
                        incidents,
                        places,
                        hidden,
                        scout,
                        abort,
                    });
                    Worker {
                        stack: stack::build(&app),
                        connections,
                        drain,
                        bounds,
                    }
                    .run()
                    .await;
                });
            })?);
        }
        let (runtime, drain_accept, bounds) = (event_loop()?, drain.clone(), config.bounds);
        let thread = std::thread::Builder::new().name("aegis-accept".to_owned());
        threads.push(thread.spawn(move || {
            runtime.block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => server::accept(listener, workers, bounds, drain_accept).await,
                    Err(error) => tracing::error!(%error, "cannot listen"),
                }
            });
        })?);
        tracing::info!(%addr, upstream = %config.upstream, workers = config.workers, mode = ?config.guard.policy.mode, "started");
        Ok(Self {
            addr,
            drain,
            abort,
            threads,
            config,
        })
    }

    /// The address that clients use.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, lets running streams finish within the drain time, then ends them with an error event.
    pub(crate) async fn stop(self) {
        let drain = self.config.bounds.drain;
        tracing::info!(drain_s = drain.as_secs_f64(), "draining");
        self.drain.cancel();
        let abort = self.abort.clone();
        let mut workers = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                if thread.join().is_err() {
                    tracing::error!("a worker panicked");
                }
            }
        });
        if tokio::time::timeout(drain, &mut workers).await.is_ok() {
            return tracing::info!("all streams finished");
        }
        abort.cancel();
        if tokio::time::timeout(DRAIN_LAST_WORDS, &mut workers)
            .await
            .is_err()
        {
            tracing::warn!("some clients did not read their last words in time");
        }
    }
}
