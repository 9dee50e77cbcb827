//! The three ways to the upstream, and the processes behind them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::failure::{At as _, Failure, failure};
use crate::options::Options;
use crate::procfs::Tree;

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(10);
/// How long a server may take to end after SIGTERM before it is killed.
const STOP_MAX: Duration = Duration::from_secs(3);

/// A way from the client to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    Direct,
    Nginx,
    Aegis,
}

impl Way {
    /// Every way, in the order of the report.
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::Nginx, Self::Aegis];

    /// The way called `name`.
    pub(crate) fn parse(name: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|way| way.name() == name)
            .ok_or_else(|| Failure(format!("{name}: expected direct, nginx or aegis")))
    }

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Aegis => "aegis",
        }
    }
}

/// A directory for configurations and logs, removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("aegis-bench-{}", std::process::id()));
        fs::create_dir_all(&path).at("temporary directory")?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

/// A child process that is ended with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    incidents: Option<PathBuf>,
}

impl Server {
    /// The process and its children, as they are now.
    pub(crate) fn tree(&self) -> Result<Tree, Failure> {
        Tree::of(self.child.id())
    }

    /// Fails where Aegis recorded incidents: it misfired on plain text, and the figures are not of a clean stream.
    pub(crate) fn check_no_incidents(&self) -> Result<(), Failure> {
        let Some(path) = &self.incidents else {
            return Ok(());
        };
        let text = fs::read_to_string(path).unwrap_or_default();
        match text.lines().next() {
            Some(line) => failure(format!(
                "Aegis recorded {} incidents, the first: {line}",
                text.lines().count()
            )),
            None => Ok(()),
        }
    }

    /// The incidents that Aegis recorded so far, one JSON text each.
    pub(crate) fn incidents(&self) -> Result<Vec<String>, Failure> {
        let Some(path) = &self.incidents else {
            return Ok(Vec::new());
        };
        let text = fs::read_to_string(path).at("incidents")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn end(&mut self) {
        let asked = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let deadline = Instant::now() + STOP_MAX;
        while asked.is_some_and(|result| result.is_ok()) && Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            eprintln!("process {} could not be ended: {error}", self.child.id());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the mock upstream from this very binary.
pub(crate) fn start_upstream() -> Result<Server, Failure> {
    let own = std::env::current_exe().at("own path")?;
    let mut command = Command::new(own);
    command
        .arg("upstream")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    start_announcing(command, "upstream listening on ", "mock upstream")
}

/// Starts nginx on a free port, tuned for this load: no buffering, no logs, keep-alive on both sides, more
/// connections and a longer listen queue than its defaults.
pub(crate) fn start_nginx(
    binary: &Path,
    options: &Options,
    upstream: SocketAddr,
    scratch: &Scratch,
) -> Result<Server, Failure> {
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let address = free.at("free port")?;
    let dir = scratch.0.join(format!("nginx-{}", address.port()));
    fs::create_dir_all(&dir).at("nginx directory")?;
    let config = dir.join("nginx.conf");
    fs::write(&config, nginx_config(&dir, address, upstream, options)).at("nginx.conf")?;
    let log = fs::File::create(dir.join("stderr.log")).at("nginx log")?;
    let child = Command::new(binary)
        .args([
            "-p".as_ref(),
            dir.as_os_str(),
            "-c".as_ref(),
            config.as_os_str(),
            "-e".as_ref(),
        ])
        .arg(dir.join("error.log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .at(&format!("{}", binary.display()))?;
    let server = Server {
        child,
        address,
        incidents: None,
    };
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            let said = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
            return failure(format!("nginx does not listen on {address}: {said}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

fn nginx_config(dir: &Path, listen: SocketAddr, upstream: SocketAddr, options: &Options) -> String {
    let dir = dir.display();
    let files = crate::open_files_limit();
    let workers = options.nginx_workers;
    let http2 = if options.h2 { " http2" } else { "" };
    // `user` keeps workers that a root master starts able to use the temporary directory.
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    format!(
        "{user}daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    upstream bench {{
        server {upstream};
        keepalive 2048;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen {listen}{http2} backlog=4096;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 600s;
            proxy_send_timeout 600s;
        }}
    }}
}}
"
    )
}

/// Starts `aegis serve` on a free port with every rule on (or, with `--rules off`, every rule off).
pub(crate) fn start_aegis(
    binary: &Path,
    options: &Options,
    upstream: SocketAddr,
    scratch: &Scratch,
) -> Result<Server, Failure> {
    let config = scratch.0.join("proxy.toml");
    let incidents = scratch.0.join(format!("incidents-{}.jsonl", upstream.port()));
    fs::write(&config, aegis_config(upstream, &incidents, options.rules)).at("proxy.toml")?;
    let log_path = scratch.0.join("aegis.log");
    let log = fs::File::create(&log_path).at("Aegis' log")?;
    let mut command = Command::new(binary);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let started = start_announcing(command, "aegis listening on http://", "aegis");
    let mut server = started.map_err(|Failure(sentence)| {
        Failure(format!(
            "{sentence}; its log: {}",
            fs::read_to_string(&log_path).unwrap_or_default()
        ))
    })?;
    server.incidents = Some(incidents);
    Ok(server)
}

fn aegis_config(upstream: SocketAddr, incidents: &Path, rules: bool) -> String {
    let incidents = incidents.display();
    format!(
        "[upstream]
url = \"http://{upstream}\"
flavour = \"llama-server\"
[limits]
connections_max = 20000
streams_max = 20000
idle_s = 600
[incidents]
file = \"{incidents}\"
[rules.broken_json]
enabled = {rules}
[rules.truncated_json]
enabled = {rules}
[rules.token_loop]
enabled = {rules}
[rules.first_token_stall]
enabled = {rules}
after_s = 600
[rules.stall]
enabled = {rules}
after_s = 600
[rules.upstream_lost]
enabled = {rules}
[rules.forbidden_phrase]
enabled = {rules}
literals = [\"BEGIN RSA PRIVATE KEY\", \"as an AI language model\", \"ignore all previous instructions\", \
\"internal use only\", \"correct horse battery staple\"]
patterns = ['sk-[A-Za-z0-9]{{20,48}}']
"
    )
}

/// Starts a server whose first line on standard output says where it listens.
fn start_announcing(mut command: Command, prefix: &'static str, name: &str) -> Result<Server, Failure> {
    let mut child = command.spawn().at(name)?;
    let Some(stdout) = child.stdout.take() else {
        return failure(format!("{name} has no standard output"));
    };
    let mut server = Server {
        child,
        address: ([127, 0, 0, 1], 0).into(),
        incidents: None,
    };
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        let announced = lines.next().and_then(Result::ok);
        // Whoever waited may have given up; and the pipe is read on, so that the server never blocks on it.
        if send.send(announced).is_ok() {
            lines.for_each(drop);
        }
    });
    let line = receive
        .recv_timeout(START_MAX)
        .at(&format!("{name} did not say where it listens"))?;
    let line = line.ok_or_else(|| Failure(format!("{name} ended at once")))?;
    let address = line.strip_prefix(prefix).map(|rest| rest.trim_end_matches('/'));
    let Some(address) = address.and_then(|text| text.parse().ok()) else {
        return failure(format!("{name} said: {line}"));
    };
    server.address = address;
    Ok(server)
}

/// The ways that can be measured here with their binaries. Says why a way is left out; fails where `--only` named it.
pub(crate) fn available(options: &Options, wanted: &[Way]) -> Result<Vec<(Way, PathBuf)>, Failure> {
    let mut found = Vec::new();
    for &way in wanted {
        let binary = match way {
            Way::Direct => Some(PathBuf::new()),
            Way::Nginx => options.nginx.clone().or_else(find_nginx),
            Way::Aegis => options.aegis.clone().or_else(|| beside_own("aegis")),
        };
        match binary {
            Some(path) => found.push((way, path)),
            None if options.only.is_some() => {
                return failure(format!("the {} binary was not found", way.name()));
            }
            None => println!("{} is left out: its binary was not found", way.name()),
        }
    }
    Ok(found)
}

fn find_nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|dir| dir.join("nginx"))
        .collect();
    places.push("/usr/sbin/nginx".into());
    places.into_iter().find(|place| place.is_file())
}

fn beside_own(name: &str) -> Option<PathBuf> {
    let place = std::env::current_exe().ok()?.with_file_name(name);
    place.is_file().then_some(place)
}
