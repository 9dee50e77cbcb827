//! Real servers and real clients for the suites: where the set-up has put them, and how one is started.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "support code of two test programs, of which each uses a part; a broken tool has to fail its test loudly"
)]

use aegis_integration_tests::client::{Answer, Manner, Request, send};
use aegis_integration_tests::process::Folder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod suite;

/// Longest wait for a server to become healthy, or to get as far as a test needs it.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The tools that `make setup` installs.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Where they are.
    pub(crate) folder: PathBuf,
}

impl Tools {
    /// The tools, or nothing where they are not installed: then the reason is printed and the test is to return.
    ///
    /// # Panics
    /// Where they are missing although this is CI (`CI=true`) or `AEGIS_REQUIRE_REAL=1` asks for them.
    pub(crate) fn find() -> Option<Self> {
        let folder = match (std::env::var_os("AEGIS_TOOLS_DIR"), std::env::var_os("HOME")) {
            (Some(folder), _) if !folder.is_empty() => PathBuf::from(folder),
            (_, home) => PathBuf::from(home.unwrap_or_default()).join(".cache/aegis"),
        };
        let tools = Self { folder };
        let wanted = [
            tools.server(),
            tools.model(),
            tools.think_template(),
            tools.python(),
            tools.node_modules().join("ai"),
        ];
        let missing: Vec<_> = wanted.iter().filter(|path| !path.exists()).collect();
        if missing.is_empty() {
            return Some(tools);
        }
        let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
        assert!(
            !is("CI", "true") && !is("AEGIS_REQUIRE_REAL", "1"),
            "the real-server tests have to run here, but {missing:?} is missing: run `make setup`"
        );
        eprintln!("skipped: {missing:?} is missing, `make setup` installs it");
        None
    }

    fn server(&self) -> PathBuf {
        self.folder.join("llama/llama-server")
    }

    fn model(&self) -> PathBuf {
        self.folder.join("tiny-bigram.gguf")
    }

    /// A chat template that opens a think block.
    pub(crate) fn think_template(&self) -> PathBuf {
        self.folder.join("think.jinja")
    }

    fn python(&self) -> PathBuf {
        self.folder.join("venv/bin/python")
    }

    fn node_modules(&self) -> PathBuf {
        self.folder.join("node/node_modules")
    }

    /// The Python client: `sync` or `async`.
    pub(crate) fn python_client(&self, style: &str) -> Command {
        let mut command = self.python_script("openai_client.py");
        command.arg(style);
        command
    }

    /// The Node client with one of the installed versions of its package.
    pub(crate) fn node_client(&self, package: &str) -> Command {
        let mut command = self.node_script("openai_client.mjs");
        command.arg(package);
        command
    }

    /// A script of `clients/` with the installed Python packages.
    pub(crate) fn python_script(&self, name: &str) -> Command {
        let mut command = Command::new(self.python());
        command.arg(client_script(name));
        command
    }

    /// A script of `clients/` with the installed Node packages.
    pub(crate) fn node_script(&self, name: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(client_script(name));
        command.env("AEGIS_NODE_MODULES", self.node_modules());
        command
    }
}

fn client_script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("real/clients")
        .join(name)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A running llama-server with the small test model. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Llama {
    child: Child,
    addr: SocketAddr,
    folder: Folder,
}

impl Llama {
    /// Starts one on a free port with these arguments beside the usual ones (`-np` slots and `-c` context among
    /// them), and waits until it is healthy.
    pub(crate) async fn start(tools: &Tools, arguments: &[&str]) -> Self {
        Self::start_at(tools, free_port(), arguments).await
    }

    /// One that thinks: with the template for it, one slot and `context` tokens.
    pub(crate) async fn start_thinking(tools: &Tools, context: &str, more: &[&str]) -> Self {
        let template = tools.think_template();
        let template = template.to_str().unwrap();
        let arguments = ["-np", "1", "-c", context, "--chat-template-file", template];
        Self::start(tools, &[&arguments, more].concat()).await
    }

    /// The same on a given port.
    ///
    /// # Panics
    /// Where it does not become healthy; with its log.
    pub(crate) async fn start_at(tools: &Tools, port: u16, arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let log = std::fs::File::create(folder.path().join("llama.log")).unwrap();
        let child = Command::new(tools.server())
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--alias",
                "tiny",
                "--jinja",
                "--no-ui",
            ])
            .args(["--slots", "--metrics", "--props", "-t", "1", "--poll", "0"])
            .arg("-m")
            .arg(tools.model())
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", tools.server().display()));
        let mut llama = Self {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            folder,
        };
        let started = Instant::now();
        loop {
            if llama.get("/health").await.status == 200 {
                return llama;
            }
            let exited = llama.child.try_wait().unwrap();
            assert!(
                exited.is_none() && started.elapsed() < WAIT_LIMIT,
                "llama-server is not healthy ({exited:?}):\n{}",
                llama.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A GET sent to it directly.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.addr, &Request::bare("GET", path), Manner::default()).await
    }

    /// The slots that are busy, as the server describes them.
    pub(crate) async fn busy_slots(&self) -> Vec<Value> {
        let slots = self.get("/slots").await.json();
        slots
            .as_array()
            .unwrap()
            .iter()
            .filter(|slot| slot["is_processing"] == true)
            .cloned()
            .collect()
    }

    /// Waits until some slot has generated `tokens` tokens.
    pub(crate) async fn wait_decoded(&self, tokens: u64) {
        self.wait_for(&format!("a slot with {tokens} tokens"), |busy| {
            busy.iter()
                .any(|slot| slot["next_token"][0]["n_decoded"].as_u64() >= Some(tokens))
        })
        .await;
    }

    /// Waits until no slot is busy, and says how long that took.
    pub(crate) async fn wait_idle(&self) -> Duration {
        let started = Instant::now();
        self.wait_for("idle slots", |busy| busy.is_empty()).await;
        started.elapsed()
    }

    /// Tokens that it has written so far, those of answers that were broken off included.
    pub(crate) async fn written(&self) -> u64 {
        let metrics = String::from_utf8(self.get("/metrics").await.body).unwrap();
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix("llamacpp:tokens_predicted_total "));
        let count = count.and_then(|count| count.trim().parse().ok());
        count.unwrap_or_else(|| panic!("no count of tokens: {metrics}"))
    }

    async fn wait_for(&self, what: &str, holds: impl Fn(&[Value]) -> bool) {
        let started = Instant::now();
        loop {
            let busy = self.busy_slots().await;
            if holds(&busy) {
                return;
            }
            assert!(
                started.elapsed() < WAIT_LIMIT,
                "no {what} in time: {busy:?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and what follows from it: the process ends once the clients of its streams have left.
    pub(crate) async fn terminate(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let limit = Instant::now() + WAIT_LIMIT;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < limit, "the server does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGSTOP: all of it stands still, and its connections stay open.
    pub(crate) fn freeze(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("llama.log")).unwrap_or_default()
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!(
                "--- end of llama-server's log ---\n{}---",
                log.get(from..).unwrap_or(&log)
            );
        }
    }
}
