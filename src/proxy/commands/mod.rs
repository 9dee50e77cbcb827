//! The subcommands, one file each.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod replay;
pub(crate) mod scan;
pub(crate) mod serve;

use crate::config::{Config, ConfigError};
use crate::upstream::base::{BadBaseUrl, BaseUrl};
use std::path::Path;
use std::process::ExitCode;

/// Exit status for input that cannot be used.
pub(crate) const BAD_INPUT: u8 = 2;

/// Reads `path`, or the defaults without one; prints what is wrong with it.
fn load(path: Option<&Path>) -> Result<Config, ExitCode> {
    path.map_or_else(Config::defaults, Config::load)
        .map_err(|error| report(&error))
}

/// Reads the URL of `--upstream`; prints what is wrong with it.
fn upstream(url: &str) -> Result<BaseUrl, ExitCode> {
    url.parse().map_err(|error: BadBaseUrl| {
        eprintln!("--upstream {url:?}: {error}. {}", error.remedy());
        ExitCode::from(BAD_INPUT)
    })
}

fn report(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(BAD_INPUT)
}
