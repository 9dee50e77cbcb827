//! The subcommands, one file each.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod replay;
pub(crate) mod scan;
pub(crate) mod serve;

use crate::config::{Config, ConfigError};
use std::path::Path;
use std::process::ExitCode;

/// Exit status for input that cannot be used.
pub(crate) const BAD_INPUT: u8 = 2;

/// Reads `path`, or the defaults without one; prints what is wrong with it.
fn load(path: Option<&Path>) -> Result<Config, ExitCode> {
    path.map_or_else(Config::defaults, Config::load)
        .map_err(|error| report(&error))
}

fn report(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(BAD_INPUT)
}
