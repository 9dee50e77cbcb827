//! The table and the JSON.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::failure::{At as _, Failure};
use crate::figures::{Figures, Summary, compare};
use crate::measure::name;
use crate::options::{Options, Shape};
use crate::ways::Way;

/// The figures of which the report gives the difference to the direct way.
const ADDED: [&str; 6] = [
    "first_ms_p50",
    "first_ms_p99",
    "transit_ms_p50",
    "transit_ms_p99",
    "gap_ms_p50",
    "gap_ms_p99",
];
/// The figures of which the report gives Aegis' ratio to nginx.
const RATIOS: [&str; 4] = [
    "cpu_us_per_token",
    "streams_per_s",
    "tokens_per_s",
    "rss_bytes_per_stream",
];

/// One shape's figures: for each way, its rounds.
#[derive(Debug)]
pub(crate) struct ShapeResult {
    shape: Shape,
    rounds: Vec<(Way, Vec<Figures>)>,
}

impl ShapeResult {
    /// The result of `shape`.
    pub(crate) fn new(shape: Shape, rounds: Vec<(Way, Vec<Figures>)>) -> Self {
        Self { shape, rounds }
    }

    fn of(&self, way: Way) -> Option<&[Figures]> {
        self.rounds
            .iter()
            .find(|pair| pair.0 == way)
            .map(|pair| pair.1.as_slice())
    }

    /// What `way` adds to the direct way, in the medians.
    fn added(&self, way: Way) -> Figures {
        match (self.of(way), self.of(Way::Direct)) {
            (Some(own), Some(direct)) if way != Way::Direct => {
                compare(own, direct, &ADDED, |own, other| own - other)
            }
            _ => Figures::new(),
        }
    }

    /// Aegis divided by nginx.
    fn ratios(&self) -> Figures {
        match (self.of(Way::Aegis), self.of(Way::Nginx)) {
            (Some(aegis), Some(nginx)) => compare(aegis, nginx, &RATIOS, |own, other| own / other),
            _ => Figures::new(),
        }
    }

    fn json(&self) -> Value {
        let ways: Map<String, Value> = self
            .rounds
            .iter()
            .map(|(way, rounds)| {
                let summary = Summary::of(rounds);
                let value = json!({
                    "median": summary.median, "min": summary.min, "max": summary.max, "added": self.added(*way),
                });
                (way.name().to_owned(), value)
            })
            .collect();
        json!({ "name": name(self.shape), "shape": self.shape, "ways": ways, "aegis_to_nginx": self.ratios() })
    }
}

/// Prints the first lines of the table.
pub(crate) fn print_head() {
    println!(
        "\nShapes are TOKENS x GAP_MS x STREAMS_AT_ONCE. Medians over the rounds. Times in ms; `+` is what the way adds to\n\
         direct. CPU in microseconds of the proxy per token (least-greatest round). Memory per stream in KiB.\n"
    );
    println!(
        "{:<13} {:<7} {:>9} {:>9} {:>7} {:<13} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "shape",
        "way",
        "streams/s",
        "tokens/s",
        "CPU/tok",
        "(range)",
        "first50",
        "+first50",
        "+first99",
        "transit50",
        "+trans50",
        "+trans99",
        "mem"
    );
}

/// Prints one shape's lines.
pub(crate) fn print_shape(result: &ShapeResult) {
    for (way, rounds) in &result.rounds {
        let Summary { median, min, max } = Summary::of(rounds);
        let added = result.added(*way);
        let range = match (min.get("cpu_us_per_token"), max.get("cpu_us_per_token")) {
            (Some(min), Some(max)) => format!("({min:.2}-{max:.2})"),
            _ => String::new(),
        };
        let memory = median.get("rss_bytes_per_stream").map(|bytes| bytes / 1024.0);
        println!(
            "{:<13} {:<7} {:>9} {:>9} {:>7} {:<13} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>7}",
            name(result.shape),
            way.name(),
            cell(median.get("streams_per_s").copied(), 1),
            cell(median.get("tokens_per_s").copied(), 0),
            cell(median.get("cpu_us_per_token").copied(), 2),
            range,
            cell(median.get("first_ms_p50").copied(), 2),
            cell(added.get("first_ms_p50").copied(), 2),
            cell(added.get("first_ms_p99").copied(), 2),
            cell(median.get("transit_ms_p50").copied(), 3),
            cell(added.get("transit_ms_p50").copied(), 3),
            cell(added.get("transit_ms_p99").copied(), 3),
            cell(memory, 1),
        );
    }
    let ratios = result.ratios();
    if let Some(cpu) = ratios.get("cpu_us_per_token") {
        let streams = cell(ratios.get("streams_per_s").copied(), 2);
        println!(
            "{:<13} aegis/nginx: CPU per token {cpu:.2}, streams/s {streams}",
            ""
        );
    }
}

fn cell(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
}

/// The machine that the figures belong to.
fn machine(options: &Options, ways: &[(Way, PathBuf)]) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|pair| pair.1);
    let nginx = ways
        .iter()
        .find(|pair| pair.0 == Way::Nginx)
        .map(|pair| nginx_version(&pair.1));
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").trim(),
        "open_files_max": crate::open_files_limit(),
        "nginx": nginx,
        "nginx_workers": options.nginx_workers,
        "aegis_rules": options.rules,
    })
}

fn nginx_version(binary: &Path) -> String {
    let output = Command::new(binary).arg("-v").output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    )
}

/// Prints the machine in one line per property.
pub(crate) fn print_machine(options: &Options, ways: &[(Way, PathBuf)]) {
    if let Value::Object(properties) = machine(options, ways) {
        for (name, value) in properties {
            println!("{name}: {value}");
        }
    }
    println!("Absolute times of a shared machine are noisy: compare the ways of one run, not runs.");
}

/// Writes the measurement's JSON.
pub(crate) fn write_json(
    options: &Options,
    ways: &[(Way, PathBuf)],
    results: &[ShapeResult],
) -> Result<(), Failure> {
    let shapes: Vec<Value> = results.iter().map(ShapeResult::json).collect();
    let value = json!({ "machine": machine(options, ways), "rounds": options.rounds, "shapes": shapes });
    write(options, "target/bench.json", &value)
}

/// Writes the JSON of `idle`.
pub(crate) fn write_idle_json(
    options: &Options,
    ways: &[(Way, PathBuf)],
    idle: &Value,
) -> Result<(), Failure> {
    let value = json!({ "machine": machine(options, ways), "idle": idle });
    write(options, "target/bench-idle.json", &value)
}

fn write(options: &Options, default: &str, value: &Value) -> Result<(), Failure> {
    let path = options.out.clone().unwrap_or_else(|| default.into());
    let place = path.display().to_string();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).at(&place)?;
    }
    std::fs::write(&path, format!("{value:#}\n")).at(&place)?;
    println!("\nwritten: {place}");
    Ok(())
}
