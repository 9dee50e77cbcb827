//! `aegis demo`

use crate::app::{self, Proxy};
use crate::cli::DemoArgs;
use crate::config::Config;
use crate::demo;
use crate::telemetry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use tokio::net::TcpListener;

/// Starts a faulty primary with the proxy in front of it, shows the tour, and stays up.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    telemetry::start("error", false);
    match app::run(show(args.once)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `false` when a row of the tour was not as expected.
async fn show(once: bool) -> io::Result<bool> {
    let mut primary = demo::start_primary(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?).await?;
    let incidents = std::env::temp_dir().join(format!("aegis-demo-{}.jsonl", std::process::id()));
    let mut config = Config::parse(demo::DEMO_CONFIG).map_err(io::Error::other)?;
    config.upstream = format!("http://{}", primary.address())
        .parse()
        .map_err(io::Error::other)?;
    config.incidents.file = Some(incidents.clone());
    let proxy = start(config)?;
    let mut stdout = io::stdout();
    let stage = demo::Stage {
        primary: primary.address(),
        aegis: proxy.addr(),
        incidents: &incidents,
    };
    let report = demo::tour(stage, &mut stdout).await?;
    println!(
        "Each mend, correction and cut is one line in {}.\n",
        incidents.display()
    );
    if !once {
        println!("{}", demo::curl_hints(proxy.addr()));
        println!(
            "Primary: http://{}   Aegis: http://{}   (Ctrl-C ends both)",
            primary.address(),
            proxy.addr()
        );
        tokio::select! {
            result = tokio::signal::ctrl_c() => result?,
            () = primary.stopped() => eprintln!("the demo's primary stopped"),
        }
    }
    proxy.stop().await;
    Ok(report.ok())
}

/// On the usual port, or on a free one when that is taken.
fn start(config: Config) -> io::Result<Proxy> {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match Proxy::start(config.clone()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Proxy::start(Config {
            listen: free,
            ..config
        }),
        result => result,
    }
}
