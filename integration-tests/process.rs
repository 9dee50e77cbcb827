//! The `aegis` program under test: started with a config of its own in a folder of its own, watched, and reaped.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for the line that names the address.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Where the program is: `AEGIS_BIN`, else the build of the same profile as the test.
///
/// # Panics
/// Where there is none, naming the command that builds it.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("AEGIS_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    // Tests lie in <target>/<profile>/deps, programs in <target>/<profile>.
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in a profile's deps folder");
    let binary = profile.join("aegis");
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo build -p aegis-proxy` first, with the profile of this test, or set AEGIS_BIN",
        binary.display()
    );
    binary
}

/// A folder that is removed with its content when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "aegis-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a writable temporary folder");
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and returns the file's path.
    #[must_use]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a writable temporary folder");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A running `aegis serve`. Dropping it kills and reaps it; where the test failed its stderr is printed.
#[derive(Debug)]
pub struct Aegis {
    child: Child,
    addr: SocketAddr,
    folder: Folder,
    stderr: Arc<Mutex<String>>,
    stdout: Arc<Mutex<Vec<String>>>,
}

impl Aegis {
    /// Starts it on a free port with this config, whose `[incidents] file` is set to a file of its own.
    ///
    /// # Panics
    /// Where it does not say its address in time; with its stderr.
    pub async fn start(config: &str) -> Self {
        let table = config
            .parse()
            .unwrap_or_else(|e| panic!("the test's config: {e}\n{config}"));
        Self::start_table(table).await
    }

    /// A config that only names the upstream, with more TOML behind it.
    pub async fn in_front_of(upstream: &str, more: &str) -> Self {
        let mut table: toml::Table = more
            .parse()
            .unwrap_or_else(|e| panic!("the test's config: {e}\n{more}"));
        section(&mut table, "upstream")
            .entry("url")
            .or_insert_with(|| upstream.into());
        Self::start_table(table).await
    }

    /// The same in front of a scripted upstream, of which nothing is known (`flavour = "none"`) unless the config says so:
    /// what Aegis asks a server to find out what it can would come between the scripted answers.
    pub async fn in_front_of_script(upstream: &str, more: &str) -> Self {
        let mut table: toml::Table = more
            .parse()
            .unwrap_or_else(|e| panic!("the test's config: {e}\n{more}"));
        section(&mut table, "upstream")
            .entry("flavour")
            .or_insert_with(|| "none".into());
        Self::in_front_of(upstream, &table.to_string()).await
    }

    /// See [`Self::start`].
    pub async fn start_table(mut table: toml::Table) -> Self {
        let folder = Folder::new();
        let incidents = folder.path().join("incidents.jsonl").display().to_string();
        section(&mut table, "incidents").insert("file".to_owned(), incidents.into());
        let config = folder.file("proxy.toml", table.to_string());
        let mut child = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
        let stderr = collect(child.stderr.take().expect("it is piped"));
        let stdout: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, out) = (stdout.clone(), child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let started = Instant::now();
        loop {
            if let Some(line) = stdout.lock().unwrap().first() {
                let addr = line
                    .strip_prefix("aegis listening on http://")
                    .and_then(|a| a.parse().ok());
                let addr =
                    addr.unwrap_or_else(|| panic!("the first line on stdout names no address: {line:?}"));
                return Self {
                    child,
                    addr,
                    folder,
                    stderr,
                    stdout: stdout.clone(),
                };
            }
            let exited = child.try_wait().expect("its state can be read");
            if exited.is_some() || started.elapsed() > START_LIMIT {
                child.kill().ok();
                child.wait().ok();
                panic!(
                    "aegis did not start ({exited:?}):\n{}\nconfig:\n{table}",
                    stderr.lock().unwrap()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The lines it has written to stdout.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.lock().unwrap().clone()
    }

    /// The incidents written so far. A line that is being written does not count yet.
    ///
    /// # Panics
    /// On a whole line that is not JSON.
    #[must_use]
    pub fn incidents(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("incidents.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|l| {
                serde_json::from_str(l).unwrap_or_else(|e| panic!("an incident that is not JSON: {e}: {l}"))
            })
            .collect()
    }

    /// Waits until there are at least `n` incidents, at most 10 s, and returns all there are.
    pub async fn wait_incidents(&self, n: usize) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let found = self.incidents();
            if found.len() >= n || started.elapsed() > Duration::from_secs(10) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it, and returns all its incidents: nothing can be written any more.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub async fn ended_incidents(&mut self) -> Vec<Value> {
        self.terminate();
        let exit = self.wait_exit(Duration::from_secs(60)).await;
        assert!(exit.is_some(), "aegis did not end after SIGTERM");
        self.incidents()
    }

    /// Largest resident memory so far, in bytes.
    ///
    /// # Panics
    /// Where `/proc` does not tell.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .expect("Linux tells VmHWM");
        let kib: u64 = line
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .expect("VmHWM is a number of kB");
        kib * 1024
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a process id is positive");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process is there");
    }

    /// Waits for its end, at most `limit`.
    pub async fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("its state can be read") {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Whether it is still running.
    ///
    /// # Panics
    /// Where the system does not tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state can be read").is_none()
    }
}

impl Drop for Aegis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- stderr of aegis ---\n{}--- end ---", self.stderr());
        }
    }
}

fn section<'t>(table: &'t mut toml::Table, name: &str) -> &'t mut toml::Table {
    table
        .entry(name)
        .or_insert_with(|| toml::Table::new().into())
        .as_table_mut()
        .unwrap_or_else(|| panic!("[{name}] is a table"))
}

fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text: Arc<Mutex<String>> = Arc::default();
    let into = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    text
}

/// Runs a command of `aegis` to its end with this input.
///
/// # Panics
/// Where it cannot be started, or runs for more than 60 s.
#[must_use]
pub fn run(args: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut child = Command::new(binary())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", binary().display()));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A pipe holds 64 KiB: input and output have to move at the same time.
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a process id is positive");
    let (done, watched) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let timed_out =
            watched.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if timed_out {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        timed_out
    });
    let output = child.wait_with_output().expect("its output can be read");
    drop(done);
    writer.join().ok();
    assert!(
        !watch.join().expect("the watch does not panic"),
        "aegis {args:?} ran for more than 60 s"
    );
    output
}
