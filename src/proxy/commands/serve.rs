//! `aegis serve`

use super::load;
use crate::app::{self, Proxy};
use crate::cli::ServeArgs;
use crate::config::Config;
use crate::telemetry;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the proxy until SIGTERM or SIGINT.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let config = match configure(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::start(&config.log_level, config.log_json);
    for warning in config.warnings() {
        tracing::warn!(warning, "the config cannot keep all that it promises");
    }
    match app::run(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aegis cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn configure(args: &ServeArgs) -> Result<Config, ExitCode> {
    const DEFAULT_FILE: &str = "proxy.toml";
    let default = Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists());
    let mut config = load(args.config.as_deref().or(default))?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(url) = &args.upstream {
        config.upstream = super::upstream(url)?;
    }
    Ok(config)
}

async fn serve(config: Config) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let proxy = Proxy::start(config)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "aegis listening on http://{}", proxy.addr())?;
    stdout.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    proxy.stop().await;
    Ok(())
}
