//! Logs: structured, to standard error, filtered by `RUST_LOG` or the config's `[log] level`.

use tracing_subscriber::EnvFilter;

/// Starts logging. A second call does nothing, so that tests may call it freely.
pub(crate) fn start(level: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    // An error means that a subscriber is there already.
    drop(started);
}
