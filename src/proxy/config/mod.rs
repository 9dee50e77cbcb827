//! `proxy.toml`: what can be set, its defaults, and everything that is wrong with a file, at once.

mod corrections;
mod reader;
mod rules;
mod warnings;

pub(crate) use corrections::HiddenSettings;
pub(crate) use reader::Problem;

use crate::limits;
use crate::upstream::base::BaseUrl;
use aegis_core::capabilities::Flavour;
use aegis_core::decide::Policy;
use aegis_core::limits::{EXCERPT_CHARS_MAX, Limits};
use aegis_core::relay::Guard;
use aegis_core::release::{Release, ReleasePolicy};
use reader::Section;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The whole config, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// The primary.
    pub(crate) upstream: BaseUrl,
    /// What kind of server it is; `None` to find out.
    pub(crate) flavour: Option<Flavour>,
    /// How answers are guarded.
    pub(crate) guard: Arc<Guard>,
    /// How the answers of clients are guarded who want no stream: nobody reads along, so all of it is held until it is
    /// whole, and any of it can be thrown away.
    pub(crate) guard_whole: Arc<Guard>,
    /// How hidden requests are made.
    pub(crate) hidden: HiddenSettings,
    /// Bounds of the proxy itself.
    pub(crate) bounds: Bounds,
    /// Where incidents go.
    pub(crate) incidents: IncidentSettings,
    /// Log filter, e.g. `info`.
    pub(crate) log_level: String,
    /// Logs as JSON lines.
    pub(crate) log_json: bool,
    /// Event loops, one per thread.
    pub(crate) workers: usize,
}

/// `[limits]`, the part that concerns HTTP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) request_bytes_max: usize,
    pub(crate) passed_bytes_max: usize,
    pub(crate) answer_bytes_max: usize,
    pub(crate) header_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) streams_max: usize,
    pub(crate) request_body: Duration,
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) drain: Duration,
}

/// `[incidents]`.
#[derive(Debug, Clone)]
pub(crate) struct IncidentSettings {
    /// Appended to; `None` is standard error.
    pub(crate) file: Option<PathBuf>,
}

/// The config cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is not TOML: {source}")]
    NotToml {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl Config {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let table = text.parse().map_err(|source| ConfigError::NotToml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Self::from_table(table)
    }

    /// The defaults: everything that an empty file means.
    pub(crate) fn defaults() -> Result<Self, ConfigError> {
        Self::from_table(toml::Table::new())
    }

    /// Reads a config text.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let table = text.parse().map_err(|source| ConfigError::NotToml {
            path: "text".into(),
            source: Box::new(source),
        })?;
        Self::from_table(table)
    }

    fn from_table(table: toml::Table) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let config = read(Section::root(table, &mut problems));
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Problems(problems))
        }
    }
}

fn read(mut root: Section<'_>) -> Config {
    let default_listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8181));
    let listen = root.read(
        "listen",
        default_listen,
        "an address with a port, such as \"127.0.0.1:8181\"",
    );
    let cores = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(limits::WORKERS_MAX);
    let workers = root.count("workers", cores, 1..=limits::WORKERS_MAX);

    let (upstream, flavour) = read_upstream(root.section("upstream"));
    let policy = read_policy(root.section("policy"));
    let release = read_release(root.section("release"));
    let (core_limits, bounds) = read_limits(root.section("limits"));
    let (corrections, hidden) = corrections::read(root.section("corrections"));

    let mut section = root.section("incidents");
    let file: String = section.read("file", "-".to_owned(), "a path, or \"-\" for standard error");
    let excerpts: bool = section.read("excerpts", true, "true or false");
    let excerpt_chars = section.count("excerpt_chars_max", EXCERPT_CHARS_MAX, 1..=4096);
    section.finish();
    let incidents = IncidentSettings {
        file: (file != "-").then(|| file.into()),
    };

    let mut section = root.section("log");
    let log_level: String = section.read(
        "level",
        "info".to_owned(),
        "a filter such as \"info\" or \"aegis=debug\"",
    );
    if let Err(error) = log_level.parse::<tracing_subscriber::filter::Targets>() {
        let remedy = "Write a level such as \"info\", or targets such as \"info,aegis=debug\".";
        section.problem("level", Some(format!("{log_level:?}")), error.to_string(), remedy);
    }
    let log_json: bool = section.read("json", false, "true or false");
    section.finish();

    let mut rulebook = rules::read(root.section("rules"), core_limits.json_depth_max);
    rulebook.excerpt_chars_max = if excerpts { excerpt_chars } else { 0 };
    root.finish();
    let guard = Guard {
        rulebook: Arc::new(rulebook),
        policy,
        corrections,
        release,
        limits: core_limits,
        collects: false,
    };
    Config {
        listen,
        upstream,
        flavour,
        guard_whole: Arc::new(whole(&guard, bounds.answer_bytes_max)),
        guard: Arc::new(guard),
        hidden,
        bounds,
        incidents,
        log_level,
        log_json,
        workers,
    }
}

/// The guard of an answer that is handed over as one body.
fn whole(guard: &Guard, answer_bytes_max: usize) -> Guard {
    let mut guard = guard.clone();
    guard.release = ReleasePolicy {
        content: Release::Complete,
        reasoning: Release::Complete,
        tool_arguments: Release::Complete,
    };
    guard.limits.ring_bytes_max = guard.limits.ring_bytes_max.max(answer_bytes_max);
    // Nobody waits for a part of it: how long it may take is the matter of limits.first_byte_s and the stall rules.
    guard.limits.hold_ms = limits::HOLD_BOUND_MS as u64;
    guard.collects = true;
    guard
}

fn read_upstream(mut section: Section<'_>) -> (BaseUrl, Option<Flavour>) {
    let url: String = section.read(
        "url",
        "http://127.0.0.1:8080".to_owned(),
        "a URL such as \"http://127.0.0.1:8080\"",
    );
    let upstream = url
        .parse()
        .unwrap_or_else(|error: crate::upstream::base::BadBaseUrl| {
            section.problem("url", Some(format!("{url:?}")), error.to_string(), error.remedy());
            BaseUrl::default()
        });
    let names = Flavour::ALL.iter().map(|(_, name)| format!("{name:?}"));
    let wanted = format!("\"auto\" or one of {}", names.collect::<Vec<_>>().join(", "));
    let named = section.choice("flavour", &wanted, |name| match name {
        "auto" => Some(None),
        name => Flavour::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(flavour, _)| Some(*flavour)),
    });
    section.finish();
    (upstream, named.flatten())
}

fn read_policy(mut section: Section<'_>) -> Policy {
    let default = Policy::default();
    let policy = Policy {
        mode: section.read("mode", default.mode, "\"enforce\" or \"shadow\""),
        on_failure: section.read("on_failure", default.on_failure, "\"open\" or \"closed\""),
    };
    section.retired(
        "on_unavailable",
        "Use corrections.on_not_injectable for what cannot be corrected, and corrections.on_exhausted for what is still \
         faulty after corrections.corrections_max.",
    );
    section.finish();
    policy
}

fn read_release(mut section: Section<'_>) -> ReleasePolicy {
    let default = ReleasePolicy::default();
    let wanted = "\"rules\" or \"complete\"";
    let release = ReleasePolicy {
        content: section.read("content", default.content, wanted),
        reasoning: section.read("reasoning", default.reasoning, wanted),
        tool_arguments: section.read("tool_arguments", default.tool_arguments, wanted),
    };
    section.finish();
    release
}

fn read_limits(mut section: Section<'_>) -> (Limits, Bounds) {
    const GIB: usize = 1 << 30;
    let default = Limits::default();
    let core = Limits {
        frame_bytes_max: section.count("frame_bytes_max", default.frame_bytes_max, 1024..=GIB),
        ring_bytes_max: section.count("ring_bytes_max", default.ring_bytes_max, 1024..=GIB),
        json_depth_max: section.count(
            "json_depth_max",
            default.json_depth_max,
            1..=aegis_core::limits::JSON_DEPTH_MAX,
        ),
        hold_ms: section.count("hold_ms", default.hold_ms as usize, 1..=limits::HOLD_BOUND_MS) as u64,
    };
    let bounds = Bounds {
        request_bytes_max: section.count("request_bytes_max", limits::REQUEST_BYTES_MAX, 1..=4 * GIB),
        passed_bytes_max: section.count("passed_bytes_max", limits::PASSED_BYTES_MAX, 1..=1024 * GIB),
        answer_bytes_max: section.count("answer_bytes_max", limits::ANSWER_BYTES_MAX, 1024..=4 * GIB),
        // The HTTP parser cannot work with less than 8 KiB.
        header_bytes_max: section.count("header_bytes_max", limits::HEADER_BYTES_MAX, 8192..=(16 << 20)),
        connections_max: section.count("connections_max", limits::CONNECTIONS_MAX, 1..=1 << 20),
        streams_max: section.count("streams_max", limits::STREAMS_MAX, 1..=1 << 20),
        request_body: section.seconds("request_body_s", limits::REQUEST_BODY),
        connect: section.seconds("connect_s", limits::CONNECT),
        first_byte: section.seconds("first_byte_s", limits::FIRST_BYTE),
        idle: section.seconds("idle_s", limits::IDLE),
        drain: section.seconds("drain_s", limits::DRAIN),
    };
    section.finish();
    (core, bounds)
}

#[cfg(test)]
mod tests;
