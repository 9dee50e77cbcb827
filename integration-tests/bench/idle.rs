//! `aegis-bench idle`: many streams that deliver a few tokens, fall silent, are held open, and end properly.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{self, Connection};
use crate::failure::{At as _, Failure, failure};
use crate::idle_h2;
use crate::options::{Options, Shape};
use crate::report;
use crate::ways::{self, Scratch, Server, Way};
use crate::wire::Answer;

/// Streams to hold, and for how long, unless told otherwise.
const STREAMS: usize = 10_000;
const HOLD: Duration = Duration::from_secs(10);
/// Streams that may be in the making at once.
const OPENING_MAX: usize = 128;
/// Opening or ending all streams takes no longer than this.
const PHASE_MAX: Duration = Duration::from_secs(120);
/// Between the last stream's opening and the measurement.
const SETTLE: Duration = Duration::from_secs(2);
/// Files that a process needs besides its connections.
const OTHER_FILES: usize = 500;

/// What the tasks of the streams share.
#[derive(Clone)]
pub(crate) struct Progress {
    /// Limits how many streams open at once.
    pub(crate) opening: Arc<Semaphore>,
    /// Streams that have delivered all of their tokens.
    pub(crate) silent: Arc<AtomicUsize>,
}

/// Runs `idle` over each wanted way and writes its report.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let scratch = Scratch::new()?;
    let wanted = options.only.clone().unwrap_or_else(|| vec![Way::Aegis]);
    let ways = ways::available(options, &wanted)?;
    report::print_machine(options, &ways);
    let limit = crate::open_files_limit() as usize;
    // Over HTTP/1.1 a proxy holds two connections for each stream; over HTTP/2 the clients share theirs.
    let most = if options.h2 {
        limit - OTHER_FILES
    } else {
        (limit - OTHER_FILES) / 2
    };
    let wanted_streams = options.streams.unwrap_or(STREAMS);
    let streams = wanted_streams.min(most);
    if streams < wanted_streams {
        println!(
            "{streams} streams instead of {}: a process may open {limit} files here, and a proxy needs {} per stream",
            wanted_streams,
            if options.h2 { 1 } else { 2 },
        );
    }
    let mut results = Vec::new();
    for (way, binary) in &ways {
        let result = hold(*way, binary, options, streams, &scratch)
            .await
            .at(way.name())?;
        print(&result);
        results.push(result);
    }
    report::write_idle_json(options, &ways, &Value::Array(results))
}

async fn hold(
    way: Way,
    binary: &Path,
    options: &Options,
    streams: usize,
    scratch: &Scratch,
) -> Result<Value, Failure> {
    let upstream = ways::start_upstream()?;
    let server = match way {
        Way::Direct => return failure("idle measures a proxy: --only takes nginx or aegis here"),
        Way::Nginx => ways::start_nginx(binary, options, upstream.address, scratch)?,
        Way::Aegis => ways::start_aegis(binary, options, upstream.address, scratch)?,
    };
    let progress = Progress {
        opening: Arc::new(Semaphore::new(OPENING_MAX)),
        silent: Arc::new(AtomicUsize::new(0)),
    };
    warm_up(server.address, options).await?;
    let tree = server.tree()?;
    let rss_before = tree.rss_bytes()?;

    let opened_at = Instant::now();
    let mut tasks = JoinSet::new();
    if options.h2 {
        idle_h2::spawn(&mut tasks, server.address, streams, options.tokens, &progress);
    } else {
        for _ in 0..streams {
            tasks.spawn(stream(server.address, options.tokens, progress.clone()));
        }
    }
    wait_until_silent(&mut tasks, &progress, streams).await?;
    let opening_s = opened_at.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;

    let rss_open = tree.rss_bytes()?;
    let cpu_before = tree.cpu_ns()?;
    tokio::time::sleep(options.hold.unwrap_or(HOLD)).await;
    let cpu_ns = tree.cpu_ns()? - cpu_before;
    let rss_held = tree.rss_bytes()?;
    if let Some(ended) = tasks.try_join_next() {
        return failure(format!(
            "a stream ended while it was held: {:?}",
            ended.at("client task")?
        ));
    }

    let ending_at = Instant::now();
    release(&upstream).await?;
    let whole = timeout(PHASE_MAX, join_all(&mut tasks))
        .await
        .at("the streams do not end")??;
    if whole != streams {
        return failure(format!("{whole} of {streams} streams ended whole"));
    }
    server.check_no_incidents()?;
    let per_stream = |rss: u64| rss.saturating_sub(rss_before) as f64 / streams as f64;
    Ok(json!({
        "way": way, "protocol": if options.h2 { "h2" } else { "h1" }, "streams": streams, "tokens": options.tokens,
        "opening_s": opening_s, "ending_s": ending_at.elapsed().as_secs_f64(), "hold_s": options.hold.unwrap_or(HOLD).as_secs(),
        "rss_bytes_before": rss_before, "rss_bytes_per_stream": per_stream(rss_open),
        "rss_bytes_per_stream_after_hold": per_stream(rss_held),
        "cpu_percent_of_a_core": cpu_ns as f64 / 1e7 / options.hold.unwrap_or(HOLD).as_secs_f64(), "whole": whole,
    }))
}

fn print(result: &Value) {
    let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
    println!(
        "{} {}: {} streams open after {:.1} s, {:.2} KiB per stream ({:.2} after {} s of silence), {:.2} % of a core \
         while silent, all ended whole within {:.1} s",
        result["way"].as_str().unwrap_or_default(),
        result["protocol"].as_str().unwrap_or_default(),
        result["streams"],
        number("opening_s"),
        number("rss_bytes_per_stream") / 1024.0,
        number("rss_bytes_per_stream_after_hold") / 1024.0,
        result["hold_s"],
        number("cpu_percent_of_a_core"),
        number("ending_s"),
    );
}

/// One stream before the count of memory begins: what the first request of all costs is not what a stream costs.
async fn warm_up(target: SocketAddr, options: &Options) -> Result<(), Failure> {
    if options.h2 {
        return idle_h2::warm_up(target).await;
    }
    let shape = Shape {
        tokens: 3,
        gap_ms: 0,
        at_once: 1,
        in_all: 1,
    };
    client::connect(target, shape).await.map(drop)
}

/// One stream over HTTP/1.1, to its end.
async fn stream(target: SocketAddr, tokens: u32, progress: Progress) -> Result<(), Failure> {
    let permit = progress.opening.acquire().await.at("opening")?;
    let mut connection = Connection::open(target).await?;
    connection.ask(tokens, 0, true).await?;
    let mut answer = Answer::new();
    while answer.events.tokens < tokens {
        connection.read(&mut answer, |_, _| {}).await?;
    }
    drop(permit);
    progress.silent.fetch_add(1, Ordering::Relaxed);
    while !answer.ended() {
        connection.read(&mut answer, |_, _| {}).await?;
    }
    answer.events.check_whole(tokens)
}

/// Waits until every stream has delivered its tokens; a stream that ends or fails before that fails the run.
async fn wait_until_silent(
    tasks: &mut JoinSet<Result<(), Failure>>,
    progress: &Progress,
    streams: usize,
) -> Result<(), Failure> {
    let deadline = Instant::now() + PHASE_MAX;
    loop {
        let silent = progress.silent.load(Ordering::Relaxed);
        if let Some(ended) = tasks.try_join_next() {
            return failure(format!(
                "a stream ended with {silent} open: {:?}",
                ended.at("client task")?
            ));
        }
        if silent == streams {
            return Ok(());
        }
        if Instant::now() > deadline {
            return failure(format!(
                "only {silent} of {streams} streams delivered their tokens"
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tells the upstream to finish all held streams.
async fn release(upstream: &Server) -> Result<(), Failure> {
    let mut control = TcpStream::connect(upstream.address).await.at("release")?;
    control
        .write_all(b"GET /release HTTP/1.1\r\nHost: upstream\r\n\r\n")
        .await
        .at("release")?;
    control.read_exact(&mut [0; 12]).await.at("release").map(drop)
}

async fn join_all(tasks: &mut JoinSet<Result<(), Failure>>) -> Result<usize, Failure> {
    let mut whole = 0;
    while let Some(joined) = tasks.join_next().await {
        joined
            .at("client task")?
            .at(&format!("after {whole} streams that ended whole"))?;
        whole += 1;
    }
    Ok(whole)
}
