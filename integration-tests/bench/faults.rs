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
use crate::faulty::{Fault, Faulty, LOOP, LOOP_END, answer, arguments, before_loop};
use crate::figures::percentile;
use crate::options::Options;
use crate::procfs::Tree;
use crate::ways::{self, Scratch, Server, Way};

/// Streams at once, and the length of a run, unless told otherwise.
const STREAMS: usize = 200;
const RUN: Duration = Duration::from_secs(60);
/// An answer takes a second or two; one that takes this long is stuck.
const STREAM_MAX: Duration = Duration::from_secs(60);
/// How often the memory of Aegis is looked at.
const RSS_PERIOD: Duration = Duration::from_secs(5);
/// How long the upstream may take to notice that the last streams are over.
const SETTLE: Duration = Duration::from_secs(2);

/// What a run found.
#[derive(Debug, Default)]
struct Found {
    streams: BTreeMap<Fault, usize>,
    /// Streams whose answer was not the one it had to be.
    wrong: Vec<String>,
    /// Between two reads of a stream without a fault, nanoseconds.
    gaps: Vec<u64>,
    /// Request until the first token of a stream without a fault, nanoseconds.
    first: Vec<u64>,
}

impl Found {
    fn add(&mut self, other: Self) {
        for (fault, count) in other.streams {
            *self.streams.entry(fault).or_default() += count;
        }
        self.wrong.extend(other.wrong);
        self.gaps.extend(other.gaps);
        self.first.extend(other.first);
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
    load(aegis.address, streams, Duration::from_secs(2), 0.0, 0).await?;
    let mut calm = load(aegis.address, streams, seconds, 0.0, 1 << 20).await?;
    let rss = tokio::spawn(watch_rss(aegis.tree()?));
    let before = upstream.served();
    let mut faulty = load(aegis.address, streams, seconds, options.share, 2 << 20).await?;
    let requests = upstream.served() - before;
    rss.abort();
    tokio::time::sleep(SETTLE).await;
    print(&mut calm, &mut faulty, requests);
    println!("answers still being written upstream: {}", upstream.active());
    let rss_after = aegis.tree()?.rss_bytes()?;
    println!(
        "resident memory afterwards: {:.1} MiB",
        rss_after as f64 / f64::from(1 << 20)
    );
    print_incidents(&aegis)?;
    if upstream.active() > 0 || !faulty.wrong.is_empty() || !calm.wrong.is_empty() {
        return failure("some streams were lost, doubled or stuck");
    }
    Ok(())
}

async fn watch_rss(tree: Tree) {
    let start = Instant::now();
    while let Ok(rss) = tree.rss_bytes() {
        let at = start.elapsed().as_secs();
        println!(
            "  after {at:>3} s: {:.1} MiB resident",
            rss as f64 / f64::from(1 << 20)
        );
        tokio::time::sleep(RSS_PERIOD).await;
    }
}

fn print(calm: &mut Found, faulty: &mut Found, requests: usize) {
    let ms = |samples: &mut Vec<u64>, share| percentile(samples, share).map_or(0.0, |ns| ns / 1e6);
    for (name, found) in [("without faults", calm), ("with faults", &mut *faulty)] {
        let streams: Vec<String> = found
            .streams
            .iter()
            .map(|(fault, count)| format!("{} {count}", fault.name()))
            .collect();
        println!(
            "{name}: streams {}; those without a fault: first token p50 {:.2} p99 {:.2} ms, gap p50 {:.2} p99 {:.2} ms",
            streams.join(", "),
            ms(&mut found.first, 0.5),
            ms(&mut found.first, 0.99),
            ms(&mut found.gaps, 0.5),
            ms(&mut found.gaps, 0.99),
        );
        println!("{name}: wrong {}", found.wrong.len());
        for wrong in found.wrong.iter().take(5) {
            println!("  {wrong}");
        }
    }
    println!("with faults: {requests} requests upstream");
}

fn print_incidents(aegis: &Server) -> Result<(), Failure> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in aegis.incidents()? {
        let value: Value = serde_json::from_str(&line).at("incident")?;
        let word = |key: &Value| key.as_str().unwrap_or("-").to_owned();
        let key = format!(
            "{} {} {} {}",
            word(&value["code"]),
            word(&value["decision"]),
            word(&value["correction"]["plan"]),
            word(&value["correction"]["outcome"])
        );
        *counts.entry(key).or_default() += 1;
    }
    for (key, count) in counts {
        println!("incidents: {count} × {key}");
    }
    Ok(())
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
    check(fault, number, &dechunked(&bytes)?)
}

/// The body of an answer in chunks.
fn dechunked(bytes: &[u8]) -> Result<String, Failure> {
    let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return failure("no head");
    };
    let (mut rest, mut body) = (&bytes[head + 4..], Vec::new());
    loop {
        let Some(line) = memchr::memmem::find(rest, b"\r\n") else {
            return failure("the body breaks off");
        };
        let length = std::str::from_utf8(&rest[..line]).at("chunk")?;
        let length = usize::from_str_radix(length, 16).at("chunk")?;
        if length == 0 {
            return String::from_utf8(body).at("body");
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else {
            return failure("a chunk breaks off");
        };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + length..).unwrap_or_default();
    }
}

fn check(fault: Fault, number: u64, body: &str) -> Result<(), Failure> {
    let (mut text, mut call) = (String::new(), String::new());
    let (mut ids, mut roles, mut finishes, mut done) = (Vec::new(), 0, 0, 0);
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            done += 1;
            continue;
        }
        let value: Value = serde_json::from_str(data).at("chunk")?;
        if let Some(error) = value.get("error") {
            return failure(format!("an error: {error}"));
        }
        let id = value["id"].to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
        let choice = &value["choices"][0];
        roles += usize::from(choice["delta"]["role"].is_string());
        finishes += usize::from(choice["finish_reason"].is_string());
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        let piece = &choice["delta"]["tool_calls"][0]["function"]["arguments"];
        call.push_str(piece.as_str().unwrap_or_default());
    }
    if (ids.len(), roles, finishes, done) != (1, 1, 1, 1) {
        return failure(format!(
            "ids {ids:?}, roles {roles}, finishes {finishes}, [DONE] {done}"
        ));
    }
    let right = match fault {
        Fault::None | Fault::Drop => text == answer(number).concat(),
        Fault::Tool => call == arguments(number) && text.is_empty(),
        Fault::Loop => {
            // As many repeats as were needed to be sure, then the corrected end.
            let middle = text
                .strip_prefix(&before_loop(number))
                .and_then(|rest| rest.strip_suffix(LOOP_END));
            middle.is_some_and(|middle| !middle.is_empty() && LOOP.repeat(30).starts_with(middle))
        }
    };
    if right {
        return Ok(());
    }
    failure(format!("text {text:?}, call {call:?}"))
}
