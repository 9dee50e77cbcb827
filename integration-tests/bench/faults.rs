//! Many streams at once, a share of which goes wrong upstream and is corrected by Aegis: is any lost or doubled, does
//! anything stay behind, and what do the others feel of it?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::failure::{At as _, Failure, failure};
use crate::faulty::{Fault, Faulty};
use crate::figures::percentile;
use crate::options::Options;
use crate::procfs::Tree;
use crate::verdict::{check, dechunked};
use crate::ways::{self, Scratch, Server, Way};

/// Streams at once, and the length of a run, unless told otherwise.
const STREAMS: usize = 200;
const RUN: Duration = Duration::from_secs(60);
/// An answer takes a second or two; one that takes this long is stuck.
const STREAM_MAX: Duration = Duration::from_secs(60);
/// A run before the measured ones.
const WARM_UP: Duration = Duration::from_secs(2);
/// How often the memory of Aegis is looked at, in runs that are long enough for it.
const RSS_PERIOD: Duration = Duration::from_secs(5);
/// How much more memory Aegis may have at the end than at the first look: a quarter (one part in four), and what a few
/// hundred streams need that are corrected at once.
const RSS_GROWTH_PART: u64 = 4;
const RSS_GROWTH_BYTES: u64 = 8 << 20;
/// How long the upstream may take to notice that the last streams are over.
const SETTLE: Duration = Duration::from_secs(2);

/// What a run found.
#[derive(Debug, Default)]
struct Found {
    /// Streams whose answer was the right one.
    streams: BTreeMap<Fault, usize>,
    /// Streams whose answer was not the one it had to be.
    wrong: Vec<String>,
    /// Requests that the upstream got.
    requests: usize,
    /// Between two reads of a stream without a fault, nanoseconds.
    gaps: Vec<u64>,
    /// Request until the first token of a stream without a fault, nanoseconds.
    first: Vec<u64>,
    /// Most bytes of repeats that a corrected loop kept.
    repeats_bytes: usize,
}

impl Found {
    fn add(&mut self, other: Self) {
        for (fault, count) in other.streams {
            *self.streams.entry(fault).or_default() += count;
        }
        self.wrong.extend(other.wrong);
        self.gaps.extend(other.gaps);
        self.first.extend(other.first);
        self.repeats_bytes = self.repeats_bytes.max(other.repeats_bytes);
    }

    /// Streams that had to be asked for again.
    fn faulty(&self) -> usize {
        let faulty = self.streams.iter().filter(|(fault, _)| **fault != Fault::None);
        faulty.map(|(_, count)| count).sum()
    }

    /// First token p50 and p99, gap p50 and p99, milliseconds.
    fn times(&mut self) -> [f64; 4] {
        let ms = |samples: &mut Vec<u64>, share| percentile(samples, share).map_or(0.0, |ns| ns / 1e6);
        let (first, gaps) = (&mut self.first, &mut self.gaps);
        [ms(first, 0.5), ms(first, 0.99), ms(gaps, 0.5), ms(gaps, 0.99)]
    }

    fn print(&mut self, name: &str) {
        let streams: Vec<String> = self
            .streams
            .iter()
            .map(|(fault, count)| format!("{} {count}", fault.name()))
            .collect();
        let [first_p50, first_p99, gap_p50, gap_p99] = self.times();
        println!(
            "{name}: streams {}; those without a fault: first token p50 {first_p50:.2} p99 {first_p99:.2} ms, \
             gap p50 {gap_p50:.2} p99 {gap_p99:.2} ms",
            streams.join(", "),
        );
        println!(
            "{name}: wrong {}, requests upstream {}, most of a loop that stayed {} bytes",
            self.wrong.len(),
            self.requests,
            self.repeats_bytes
        );
        for wrong in self.wrong.iter().take(5) {
            println!("  {wrong}");
        }
    }

    /// Each stream is one request, and each faulty one is one more.
    fn complaint(&self) -> Option<String> {
        let wanted = self.streams.values().sum::<usize>() + self.faulty();
        if !self.wrong.is_empty() {
            return Some(format!(
                "{} streams were lost, doubled or stuck",
                self.wrong.len()
            ));
        }
        (self.requests != wanted)
            .then(|| format!("the upstream got {} requests instead of {wanted}", self.requests))
    }
}

/// Runs the load twice, without faults and with them, and compares.
pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let scratch = Scratch::new()?;
    let binaries = ways::available(options, &[Way::Aegis])?;
    let (_, binary) = binaries
        .first()
        .ok_or_else(|| Failure("no aegis binary".into()))?;
    let upstream = Faulty::start()?;
    let aegis = ways::start_aegis(binary, options, upstream.address, &scratch)?;
    let seconds = options.hold.unwrap_or(RUN);
    let streams = options.streams.unwrap_or(STREAMS);
    println!(
        "{} streams at once, {} s each run, {:.0} % of them faulty in the second",
        streams,
        seconds.as_secs(),
        options.share * 100.0
    );
    // What the first streams cost is not what streams cost.
    load(aegis.address, streams, WARM_UP, 0.0, 0).await?;
    let (tree, mut rss) = (aegis.tree()?, Vec::new());
    let mut runs = Vec::new();
    for (name, share) in [("without faults", 0.0), ("with faults", options.share)] {
        let (before, base) = (upstream.served(), (runs.len() as u64 + 1) << 20);
        let mut found = tokio::select! {
            found = load(aegis.address, streams, seconds, share, base) => found?,
            ended = watch_rss(&tree, seconds, &mut rss) => return Err(ended),
        };
        found.requests = upstream.served() - before;
        found.print(name);
        runs.push(found);
    }
    print_ratios(&runs[0].times(), &runs[1].times());
    tokio::time::sleep(SETTLE).await;
    let mut complaints: Vec<String> = runs.iter().filter_map(Found::complaint).collect();
    complaints.extend(check_rss(&rss));
    complaints.extend(check_incidents(&aegis, runs[1].faulty())?);
    println!("answers still being written upstream: {}", upstream.active());
    if upstream.active() > 0 {
        complaints.push(format!("the upstream still writes {} answers", upstream.active()));
    }
    match complaints.as_slice() {
        [] => Ok(()),
        _ => failure(complaints.join("; ")),
    }
}

/// Looks at the memory of Aegis again and again. It ends only where that cannot be read any more.
async fn watch_rss(tree: &Tree, run: Duration, samples: &mut Vec<u64>) -> Failure {
    loop {
        tokio::time::sleep(RSS_PERIOD.min(run / 4)).await;
        match tree.rss_bytes() {
            Ok(rss) => samples.push(rss),
            Err(error) => return error,
        }
    }
}

/// Memory that grows with the streams that have been is not flat.
fn check_rss(samples: &[u64]) -> Option<String> {
    let (first, last) = (*samples.first()?, *samples.last()?);
    let most = samples.iter().copied().max()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let all: Vec<String> = samples.iter().map(|rss| format!("{:.1}", mib(*rss))).collect();
    println!(
        "resident memory of Aegis: first {:.1}, last {:.1}, most {:.1} MiB; all {}",
        mib(first),
        mib(last),
        mib(most),
        all.join(" ")
    );
    let bound = first + first / RSS_GROWTH_PART + RSS_GROWTH_BYTES;
    (last > bound).then(|| {
        format!(
            "the memory of Aegis grew from {:.1} to {:.1} MiB, more than to {:.1}",
            mib(first),
            mib(last),
            mib(bound)
        )
    })
}

fn print_ratios(calm: &[f64; 4], faulty: &[f64; 4]) {
    let ratio = |at: usize| faulty[at] / calm[at];
    println!(
        "with faults to without, streams without a fault: first token p50 {:.2} p99 {:.2}, gap p50 {:.2} p99 {:.2}",
        ratio(0),
        ratio(1),
        ratio(2),
        ratio(3)
    );
}

/// Each fault has one incident, that of a correction which came to its end, and there are no others.
fn check_incidents(aegis: &Server, faulty: usize) -> Result<Option<String>, Failure> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut all, mut joined) = (0, 0);
    for line in aegis.incidents()? {
        let value: Value = serde_json::from_str(&line).at("incident")?;
        let word = |key: &Value| key.as_str().unwrap_or("-").to_owned();
        let outcome = word(&value["correction"]["outcome"]);
        all += 1;
        joined += usize::from(outcome == "joined");
        let key = format!(
            "{} {} {} {outcome}",
            word(&value["code"]),
            word(&value["decision"]),
            word(&value["correction"]["plan"]),
        );
        *counts.entry(key).or_default() += 1;
    }
    for (key, count) in counts {
        println!("incidents: {count} × {key}");
    }
    let wrong = (all, joined) != (faulty, faulty);
    Ok(wrong.then(|| format!("{all} incidents, {joined} of them joined, for {faulty} faulty streams")))
}

/// Keeps `at_once` streams going for `seconds`, then lets the last ones end.
async fn load(
    target: SocketAddr,
    at_once: usize,
    seconds: Duration,
    share: f64,
    base: u64,
) -> Result<Found, Failure> {
    let until = Instant::now() + seconds;
    let mut tasks = JoinSet::new();
    for lane in 0..at_once {
        tasks.spawn(async move {
            let mut found = Found::default();
            let mut number = base + lane as u64;
            tokio::time::sleep(Duration::from_millis(5 * lane as u64 % 700)).await;
            while Instant::now() < until {
                let fault = pick(number, share);
                let stream = tokio::time::timeout(STREAM_MAX, stream(target, fault, number, &mut found));
                match stream.await {
                    Ok(Ok(())) => *found.streams.entry(fault).or_default() += 1,
                    Ok(Err(Failure(why))) => found.wrong.push(format!("{} {number}: {why}", fault.name())),
                    Err(_) => found.wrong.push(format!("{} {number}: stuck", fault.name())),
                }
                number += at_once as u64;
            }
            found
        });
    }
    let mut sum = Found::default();
    while let Some(joined) = tasks.join_next().await {
        sum.add(joined.at("client task")?);
    }
    Ok(sum)
}

/// Which stream goes wrong, and how, depends on its number alone.
fn pick(number: u64, share: f64) -> Fault {
    let draw = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    if draw as f64 / f64::from(1 << 24) >= share {
        return Fault::None;
    }
    Fault::ALL[1 + (draw % 3) as usize]
}

/// One stream on a connection of its own, checked to the last byte.
async fn stream(target: SocketAddr, fault: Fault, number: u64, found: &mut Found) -> Result<(), Failure> {
    let mut socket = TcpStream::connect(target).await.at("connect")?;
    socket.set_nodelay(true).at("TCP_NODELAY")?;
    let mut body = json!({"model":format!("{}-{number}", fault.name()),"stream":true,
        "messages":[{"role":"user","content":"Tell me about it."}]});
    if fault == Fault::Tool {
        body["tools"] = json!([{"type":"function","function":{"name":"read_file","parameters":
            {"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}}]);
    }
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {target}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = Instant::now();
    socket.write_all(request.as_bytes()).await.at("write")?;
    let (mut bytes, mut last) = (Vec::with_capacity(32 * 1024), None::<Instant>);
    while socket.read_buf(&mut bytes).await.at("read")? > 0 {
        let now = Instant::now();
        if fault == Fault::None && memchr::memmem::find(&bytes, b"\"content\":\"").is_some() {
            match last {
                None => found.first.push((now - asked).as_nanos() as u64),
                Some(before) => found.gaps.push((now - before).as_nanos() as u64),
            }
            last = Some(now);
        }
    }
    let repeats_bytes = check(fault, number, &dechunked(&bytes)?)?;
    found.repeats_bytes = found.repeats_bytes.max(repeats_bytes);
    Ok(())
}
