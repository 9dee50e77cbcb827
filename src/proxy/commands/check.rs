//! `aegis check`

use super::report;
use crate::cli::CheckArgs;
use crate::config::Config;
use std::process::ExitCode;

/// Reads the config; prints every error in it, or what it amounts to and what it cannot keep.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    match Config::load(&args.file) {
        Ok(config) => {
            println!(
                "{}: sound. {} → {}, mode {:?}",
                args.file.display(),
                config.listen,
                config.upstream,
                config.guard.policy.mode
            );
            for warning in config.warnings() {
                eprintln!("warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => report(&error),
    }
}
