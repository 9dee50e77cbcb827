//! `aegis-bench`: the benchmark of Aegis. See README.md beside this file.

mod client;
mod clock;
mod failure;
mod faults;
mod faulty;
mod figures;
mod idle;
mod idle_h2;
mod measure;
mod options;
mod procfs;
mod report;
mod text;
mod upstream;
mod verdict;
mod ways;
mod wire;

use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use failure::{At as _, Failure, failure};
use options::Options;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aegis-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    raise_open_files()?;
    // One thread for the client and one for the upstream: the cores that remain are the proxy's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .at("runtime")?;
    let mut args = std::env::args().skip(1).peekable();
    match args.next_if(|first| !first.starts_with('-')).as_deref() {
        _ if args.peek().is_some_and(|first| first == "--help") => {
            println!("{}", options::HELP);
            Ok(())
        }
        None => {
            let options = Options::parse(args)?;
            runtime.block_on(unless_interrupted(measure::run(&options)))
        }
        Some("idle") => {
            let options = Options::parse(args)?;
            runtime.block_on(unless_interrupted(idle::run(&options)))
        }
        Some("faults") => {
            let options = Options::parse(args)?;
            runtime.block_on(unless_interrupted(faults::run(&options)))
        }
        Some("upstream") => runtime.block_on(upstream::serve()),
        Some(other) => failure(format!("unknown subcommand {other}; see --help")),
    }
}

/// Drops `work` on SIGINT and SIGTERM, and with it the processes and files that it made.
async fn unless_interrupted(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).at("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).at("SIGTERM")?;
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => failure("interrupted"),
        _ = terminate.recv() => failure("terminated"),
    }
}

/// Files that a process may open here, with the soft limit raised.
fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20)
}

/// Raises the soft limit of open files to the hard one, for this process and the ones it starts.
fn raise_open_files() -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).at("limit of open files")
}
