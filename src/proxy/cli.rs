//! The command line. Its names are stable.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A transparent sentinel in front of an OpenAI-compatible inference server.
#[derive(Debug, Parser)]
#[command(name = "aegis", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy
    Serve(ServeArgs),
    /// Read the config and report every error in it (exit status 2 when there is one)
    Check(CheckArgs),
    /// Ask the inference server what it can do, and show which corrections are possible
    Doctor(DoctorArgs),
    /// Show what a client would have got of a recorded stream, and what the rules found
    Replay(ReplayArgs),
    /// Run the rules over JSON lines from standard input
    Scan(ScanArgs),
    /// Start a faulty primary and the proxy in front of it, and show the difference
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Config file; without it `proxy.toml` where it exists, else the defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on, instead of the config's
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Base URL of the inference server, instead of the config's
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Config file
    #[arg(default_value = "proxy.toml")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Config file; without it `proxy.toml` where it exists, else the defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Base URL of the inference server, instead of the config's; a key for it is taken from the environment
    /// variable AEGIS_UPSTREAM_KEY
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// The model to ask for, on a server of several
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A recorded body of an SSE answer
    #[arg(value_name = "FILE.sse")]
    pub(crate) file: PathBuf,
    /// The request that it answers
    #[arg(long, value_name = "R.json")]
    pub(crate) request: Option<PathBuf>,
    /// Config file; without it the defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Config file; without it the defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Characters given to the rules at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunk: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the tour instead of staying up
    #[arg(long)]
    pub(crate) once: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
