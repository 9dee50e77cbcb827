//! The measurement: every shape, over every way, round by round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::client;
use crate::clock::now_ns;
use crate::failure::{At as _, Failure};
use crate::figures::{Figures, percentile};
use crate::options::{Options, Shape};
use crate::procfs::Tree;
use crate::report::{self, ShapeResult};
use crate::ways::{self, Scratch, Server, Way};

/// From this many streams on, memory per stream is more than the noise of a page or two.
const RSS_STREAMS_MIN: usize = 32;
const RSS_PERIOD: Duration = Duration::from_millis(100);

/// A way with what has to be running for it. The direct way has no process of its own.
struct Lane {
    way: Way,
    server: Option<Server>,
    target: std::net::SocketAddr,
    rss_idle: u64,
    rounds: Vec<Figures>,
}

/// Runs the whole measurement and writes its report.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let scratch = Scratch::new()?;
    let wanted = options.only.clone().unwrap_or_else(|| Way::ALL.to_vec());
    let ways = ways::available(options, &wanted)?;
    report::print_machine(options, &ways);
    report::print_head();
    let upstream = ways::start_upstream()?;
    let mut results = Vec::new();
    for &shape in &options.shapes {
        // Fresh proxies for each shape: memory kept from a larger shape would hide a smaller one's.
        let mut lanes = Vec::new();
        for (way, binary) in &ways {
            lanes.push(start(*way, binary, options, &upstream, &scratch).await?);
        }
        for round in 0..options.rounds {
            // Each round starts with another way, so that none is always first.
            for turn in 0..lanes.len() {
                let at = (round + turn) % lanes.len();
                let place = format!("{}, {}, round {}", name(shape), lanes[at].way.name(), round + 1);
                let figures = window(&lanes[at], shape, &upstream).await.at(&place)?;
                lanes[at].rounds.push(figures);
            }
        }
        for server in lanes.iter().filter_map(|lane| lane.server.as_ref()) {
            server.check_no_incidents().at(&name(shape))?;
        }
        let result = ShapeResult::new(
            shape,
            lanes.into_iter().map(|lane| (lane.way, lane.rounds)).collect(),
        );
        report::print_shape(&result);
        results.push(result);
    }
    report::write_json(options, &ways, &results)
}

/// `200x10x256` for a shape of 200 tokens, 10 ms gaps and 256 streams at once.
pub(crate) fn name(shape: Shape) -> String {
    format!("{}x{}x{}", shape.tokens, shape.gap_ms, shape.at_once)
}

async fn start(
    way: Way,
    binary: &std::path::Path,
    options: &Options,
    upstream: &Server,
    scratch: &Scratch,
) -> Result<Lane, Failure> {
    let server = match way {
        Way::Direct => None,
        Way::Nginx => Some(ways::start_nginx(binary, options, upstream.address, scratch)?),
        Way::Aegis => Some(ways::start_aegis(binary, options, upstream.address, scratch)?),
    };
    let target = server.as_ref().map_or(upstream.address, |server| server.address);
    let mut lane = Lane {
        way,
        server,
        target,
        rss_idle: 0,
        rounds: Vec::new(),
    };
    // One stream first: what the first request of all costs is not what a stream costs.
    client::connect(
        target,
        Shape {
            tokens: 3,
            gap_ms: 0,
            at_once: 1,
            in_all: 1,
        },
    )
    .await
    .at(way.name())?;
    if let Some(server) = &lane.server {
        lane.rss_idle = server.tree()?.rss_bytes()?;
    }
    Ok(lane)
}

async fn window(lane: &Lane, shape: Shape, upstream: &Server) -> Result<Figures, Failure> {
    let upstream = upstream.tree()?;
    let proxy = lane.server.as_ref().map(Server::tree).transpose()?;
    let client = Tree::single(std::process::id());
    let connections = client::connect(lane.target, shape).await?;
    let rss_peak = Arc::new(AtomicU64::new(0));
    let sampler = proxy
        .clone()
        .filter(|_| shape.at_once >= RSS_STREAMS_MIN)
        .map(|proxy| {
            let rss_peak = Arc::clone(&rss_peak);
            tokio::spawn(async move {
                while let Ok(rss) = proxy.rss_bytes() {
                    rss_peak.fetch_max(rss, Ordering::Relaxed);
                    tokio::time::sleep(RSS_PERIOD).await;
                }
            })
        });
    let cpu = |tree: &Tree| tree.cpu_ns();
    let before = (
        proxy.as_ref().map(cpu).transpose()?,
        cpu(&upstream)?,
        cpu(&client)?,
    );
    let start_ns = now_ns();
    let mut samples = client::window(connections, shape).await?;
    let wall_s = (now_ns() - start_ns) as f64 / 1e9;
    let after = (
        proxy.as_ref().map(cpu).transpose()?,
        cpu(&upstream)?,
        cpu(&client)?,
    );
    if let Some(sampler) = sampler {
        sampler.abort();
    }

    let tokens = samples.tokens as f64;
    let per_token = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e3 / tokens;
    let mut figures = Figures::new();
    figures.insert("streams_per_s", samples.streams as f64 / wall_s);
    figures.insert("tokens_per_s", tokens / wall_s);
    figures.insert("upstream_cpu_us_per_token", per_token(before.1, after.1));
    figures.insert("client_cpu_us_per_token", per_token(before.2, after.2));
    figures.insert("connections_closed", samples.closed as f64);
    if let (Some(before), Some(after)) = (before.0, after.0) {
        figures.insert("cpu_us_per_token", per_token(before, after));
    }
    let rss = rss_peak.load(Ordering::Relaxed);
    if rss > 0 {
        let grown = rss.saturating_sub(lane.rss_idle) as f64;
        figures.insert("rss_bytes_per_stream", grown / shape.at_once as f64);
    }
    let timed = [
        ("first_ms_p50", "first_ms_p99", &mut samples.first),
        ("transit_ms_p50", "transit_ms_p99", &mut samples.transit),
        ("gap_ms_p50", "gap_ms_p99", &mut samples.gaps),
    ];
    for (p50, p99, values) in timed {
        for (name, share) in [(p50, 0.5), (p99, 0.99)] {
            if let Some(ns) = percentile(values, share) {
                figures.insert(name, ns / 1e6);
            }
        }
    }
    Ok(figures)
}
