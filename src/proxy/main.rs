//! `aegis`: a transparent reverse proxy that verifies the token stream of a local inference server while it runs.

mod app;
mod cli;
mod commands;
mod config;
mod demo;
mod http;
mod incidents;
mod limits;
mod session;
mod telemetry;
mod upstream;

use clap::Parser;
use std::process::ExitCode;

/// Small short-lived allocations on every token make the allocator part of the cost of a token.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Serve(args) => commands::serve::run(&args),
        cli::Command::Check(args) => commands::check::run(&args),
        cli::Command::Doctor(args) => commands::doctor::run(&args),
        cli::Command::Replay(args) => commands::replay::run(&args),
        cli::Command::Scan(args) => commands::scan::run(&args),
        cli::Command::Demo(args) => commands::demo::run(&args),
    }
}
