//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{At as _, Failure, failure};
use crate::ways::Way;

/// What `aegis-bench --help` prints.
pub(crate) const HELP: &str = "\
Measures Aegis beside nginx and beside no proxy at all, in one run, with one upstream and one client.

aegis-bench [OPTIONS]            throughput, CPU per token, added latency, memory per stream
aegis-bench idle [OPTIONS]       memory and CPU of many open, silent streams
aegis-bench faults [OPTIONS]     many streams at once, a share of which has to be corrected
aegis-bench upstream             the mock upstream of the first two alone, which start it themselves

Options of all three:
  --aegis PATH         the aegis binary (default: beside this binary)
  --rules on|off       switch all rules of Aegis on or off (default: on; faults needs them)
Options of the measurement and of idle:
  --nginx PATH         the nginx binary (default: from PATH, or /usr/sbin/nginx)
  --nginx-workers N    worker processes of nginx (default: one per core, as many as Aegis has threads)
  --only WAYS          comma list of direct, nginx, aegis (default: all; of idle: aegis)
  --out FILE           where the JSON goes (default: target/bench.json, of idle target/bench-idle.json)
Options of the measurement:
  --shapes LIST        comma list of TOKENSxGAP_MSxSTREAMS_AT_ONCE[xSTREAMS_IN_ALL], for example 200x10x256
  --rounds N           rounds over the ways per shape; medians over the rounds are reported (default: 3)
  --quick              fewer shapes and streams: about half a minute
Options of idle:
  --streams N          streams to hold open (default: 10000; over HTTP/1.1 what the limit of open files allows)
  --tokens N           tokens that each stream delivers before it falls silent (default: 5)
  --hold-s S           how long to hold them open, seconds (default: 10)
  --h2                 the client speaks HTTP/2 without TLS, 100 streams on each connection
Options of faults:
  --streams N          streams at once (default: 200)
  --hold-s S           length of each of the two runs, seconds (default: 60)
  --share F            share of the streams that go wrong in the second run (default: 0.2)";

/// One load: `at_once` streams in a closed loop until `in_all` were served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Shape {
    /// Content tokens of each stream.
    pub(crate) tokens: u32,
    /// Pause between two tokens of a stream, milliseconds; 0 is as fast as possible.
    pub(crate) gap_ms: u64,
    /// Concurrent streams.
    pub(crate) at_once: usize,
    /// Streams of one window.
    pub(crate) in_all: usize,
}

impl Shape {
    fn parse(text: &str, quick: bool) -> Result<Self, Failure> {
        let numbers: Vec<u64> = text
            .split('x')
            .map(|part| part.parse())
            .collect::<Result<_, _>>()
            .at(&format!("shape {text}"))?;
        let (tokens, gap_ms, at_once, in_all) = match numbers[..] {
            [tokens, gap_ms, at_once] => (tokens, gap_ms, at_once, None),
            [tokens, gap_ms, at_once, in_all] => (tokens, gap_ms, at_once, Some(in_all)),
            _ => return failure(format!("shape {text}: expected TOKENSxGAP_MSxSTREAMS_AT_ONCE")),
        };
        if tokens == 0 || at_once == 0 {
            return failure(format!("shape {text}: no tokens or no streams"));
        }
        let least = match (gap_ms, quick) {
            (0, _) if at_once == 1 => 1024,
            (0, false) => 4096,
            (0, true) => 2048,
            _ => 2,
        };
        let in_all = in_all.unwrap_or(least).max(at_once);
        Ok(Self {
            tokens: tokens as u32,
            gap_ms,
            at_once: at_once as usize,
            in_all: in_all as usize,
        })
    }
}

/// The parsed command line.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) aegis: Option<PathBuf>,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) nginx_workers: usize,
    pub(crate) only: Option<Vec<Way>>,
    pub(crate) rules: bool,
    pub(crate) out: Option<PathBuf>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) rounds: usize,
    pub(crate) streams: Option<usize>,
    pub(crate) tokens: u32,
    pub(crate) hold: Option<Duration>,
    pub(crate) h2: bool,
    pub(crate) share: f64,
}

const SHAPES: &str = "1x0x1,200x0x1,200x10x1,200x0x32,200x10x32,200x0x256,200x10x256,200x0x1024,200x10x1024";
const SHAPES_QUICK: &str = "200x0x32,200x10x32,200x0x256,200x10x256";

impl Options {
    /// Reads the arguments that follow the subcommand.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            aegis: None,
            nginx: None,
            nginx_workers: std::thread::available_parallelism().map_or(1, usize::from),
            only: None,
            rules: true,
            out: None,
            shapes: Vec::new(),
            rounds: 0,
            streams: None,
            tokens: 5,
            hold: None,
            h2: false,
            share: 0.2,
        };
        let (mut quick, mut shapes) = (false, None);
        while let Some(name) = args.next() {
            match name.as_str() {
                "--quick" => quick = true,
                "--h2" => options.h2 = true,
                _ => {
                    let Some(value) = args.next() else {
                        return failure(format!("{name} is unknown or lacks its value; see --help"));
                    };
                    if name == "--shapes" {
                        shapes = Some(value);
                    } else {
                        options.set(&name, &value)?;
                    }
                }
            }
        }
        let shapes = shapes
            .as_deref()
            .unwrap_or(if quick { SHAPES_QUICK } else { SHAPES });
        options.shapes = shapes
            .split(',')
            .map(|text| Shape::parse(text, quick))
            .collect::<Result<_, _>>()?;
        if options.rounds == 0 {
            options.rounds = if quick { 2 } else { 3 };
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        match name {
            "--aegis" => self.aegis = Some(value.into()),
            "--nginx" => self.nginx = Some(value.into()),
            "--nginx-workers" => self.nginx_workers = value.parse().at(name)?,
            "--only" => self.only = Some(value.split(',').map(Way::parse).collect::<Result<_, _>>()?),
            "--rules" => {
                self.rules = match value {
                    "on" => true,
                    "off" => false,
                    _ => return failure("--rules takes on or off"),
                }
            }
            "--share" => self.share = value.parse().at(name)?,
            "--out" => self.out = Some(value.into()),
            "--rounds" => self.rounds = value.parse().at(name)?,
            "--streams" => self.streams = Some(value.parse().at(name)?),
            "--tokens" => self.tokens = value.parse().at(name)?,
            "--hold-s" => self.hold = Some(Duration::from_secs(value.parse().at(name)?)),
            _ => return failure(format!("unknown option {name}; see --help")),
        }
        Ok(())
    }
}
