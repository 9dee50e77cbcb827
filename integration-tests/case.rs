//! An end-to-end case as data: `cases/<name>/case.toml`.

use crate::asked::Asked;
use crate::client::{Ended, Payload, Request};
use crate::probe::Probe;
use crate::refusal::Refusal;
use crate::script::{Script, Step};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One case. See the README beside this file for how to write one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What a user would say is being checked.
    pub description: String,
    /// Whether the upstream's bytes are also sent in pieces of 7 bytes and of 1; the client must get the same.
    #[serde(default = "yes")]
    pub splits: bool,
    /// Whether the client also asks over HTTP/2.
    #[serde(default = "yes")]
    pub h2c: bool,
    /// The config of Aegis, without the upstream's address and the incident file.
    #[serde(default)]
    pub aegis: toml::Table,
    /// What the client asks.
    #[serde(default)]
    pub request: Ask,
    /// What the upstream answers.
    #[serde(default)]
    pub upstream: Serve,
    /// What must come of it.
    pub expect: Expect,
    /// Its folder.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The request of a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers beside `Host`, `Content-Type: application/json` and the body's framing.
    pub headers: Vec<(String, String)>,
    /// The whole body. Without it and `body_file`: a plain streamed request that fits the path.
    pub body: Option<String>,
    /// A file with the whole body.
    pub body_file: Option<PathBuf>,
    /// Members added to the plain body, as a JSON object.
    pub with: Option<String>,
    /// The body goes out as chunks of this many bytes.
    pub chunk: Option<usize>,
    /// The client leaves after this many bytes of the answer's body.
    pub leave_after: Option<usize>,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            method: "POST".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            headers: Vec::new(),
            body: None,
            body_file: None,
            with: None,
            chunk: None,
            leave_after: None,
        }
    }
}

/// The upstream of a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// The answer to every request.
    pub answer: Script,
    /// In place of it: the answers in the order of the requests; the last is repeated.
    pub answers: Vec<Script>,
    /// Requests that are refused; they use up no answer.
    pub refuses: Vec<Refusal>,
    /// What the server says of itself: JSON at `/props` or `/v1/models`, 404 where there is none. Such looks do not count
    /// as requests.
    pub describes: HashMap<String, String>,
    /// How `/health` answers.
    pub health: Probe,
    /// How `/slots` answers.
    pub slots: Probe,
    /// There is no upstream: its port is closed.
    pub absent: bool,
}

/// The expectation of a case. Everything that is absent is not checked, but for what [`crate::runner`] checks always.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// HTTP status.
    #[serde(default = "ok")]
    pub status: u16,
    /// How the body ends for the client.
    #[serde(default = "clean")]
    pub ended: Ended,
    /// The client gets byte for byte what the upstream wrote.
    #[serde(default)]
    pub body_equals_upstream: bool,
    /// The client gets exactly this file.
    #[serde(default)]
    pub body_file: Option<PathBuf>,
    /// Texts that the body contains.
    #[serde(default)]
    pub contains: Vec<String>,
    /// Texts that the body must not contain.
    #[serde(default)]
    pub absent: Vec<String>,
    /// The body is this JSON file, whatever the order of its members.
    #[serde(default)]
    pub json_file: Option<PathBuf>,
    /// Exact text of lanes; a lane with an empty text has none at all. Where the answer is repaired, or made of several, every
    /// lane that comes out must be named here.
    #[serde(default)]
    pub lanes: BTreeMap<String, String>,
    /// Most characters of a lane that may have come out.
    #[serde(default)]
    pub lane_chars_max: BTreeMap<String, usize>,
    /// Lanes whose text must be a prefix of some JSON value.
    #[serde(default)]
    pub json_prefix_lanes: Vec<String>,
    /// `error.code`, in an error frame of Aegis or a JSON answer of Aegis.
    #[serde(default)]
    pub error_code: Option<String>,
    /// How many error frames the stream has, those of the upstream included; by default 1 with `error_code`, else 0.
    #[serde(default)]
    pub errors: Option<usize>,
    /// The `finish_reason` of every choice.
    #[serde(default)]
    pub finish: Option<String>,
    /// Members of the one `usage` object of a stream, as a JSON object: each must be equal.
    #[serde(default)]
    pub usage: Option<String>,
    /// Headers of the answer with exactly these values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers that the answer must not have.
    #[serde(default)]
    pub absent_headers: Vec<String>,
    /// The incidents of one request, in any order: each given member must be equal, in tables, too; `KEY_contains` looks for
    /// a part of a text, `KEY_absent = true` wants none.
    #[serde(default)]
    pub incidents: Vec<toml::Table>,
    /// The incidents are not looked at: for answers before a stream, which are told by their status alone.
    #[serde(default)]
    pub incidents_unchecked: bool,
    /// The stream may end with neither a finish nor an error: only where nothing may be changed.
    #[serde(default)]
    pub may_end_unfinished: bool,
    /// What the upstream got.
    #[serde(default)]
    pub upstream: Asked,
}

const fn yes() -> bool {
    true
}

const fn ok() -> u16 {
    200
}

const fn clean() -> Ended {
    Ended::Clean
}

impl Case {
    /// Reads a case from its folder.
    ///
    /// # Errors
    /// The file is missing, is not TOML, or has a key that is not known.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let path = folder.join("case.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut case: Self = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        case.folder = folder.to_owned();
        let serve = &mut case.upstream;
        for step in serve
            .answers
            .iter_mut()
            .chain([&mut serve.answer])
            .flat_map(|script| &mut script.steps)
        {
            if let Step::File { path } = step {
                *path = folder.join(&path);
            }
        }
        Ok(case)
    }

    /// All cases below a folder, by name.
    ///
    /// # Errors
    /// The first case that cannot be read.
    pub fn load_all(root: &Path) -> Result<Vec<(String, Self)>, String> {
        let entries = std::fs::read_dir(root).map_err(|e| format!("{}: {e}", root.display()))?;
        let mut found = Vec::new();
        for entry in entries.map_while(Result::ok).filter(|e| e.path().is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name, Self::load(&entry.path())?));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The request as the client sends it.
    ///
    /// # Panics
    /// Where the case's own JSON or file is broken.
    #[must_use]
    pub fn request(&self) -> Request {
        let ask = &self.request;
        let mut request = Request::bare(&ask.method, &ask.path);
        if let Some(body) = self.request_body() {
            request
                .headers
                .push(("content-type".to_owned(), "application/json".to_owned()));
            request.payload = match ask.chunk {
                Some(size) => Payload::Chunks(body.chunks(size.max(1)).map(<[u8]>::to_vec).collect()),
                None => Payload::Full(body),
            };
        }
        request
            .headers
            .retain(|(n, _)| !ask.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(n)));
        request.headers.extend(ask.headers.iter().cloned());
        request
    }

    /// The bytes of the request's body, where it has one.
    ///
    /// # Panics
    /// Where the case's own JSON or file is broken.
    #[must_use]
    pub fn request_body(&self) -> Option<Vec<u8>> {
        let ask = &self.request;
        if let Some(body) = &ask.body {
            return Some(body.clone().into_bytes());
        }
        if let Some(file) = &ask.body_file {
            let path = self.folder.join(file);
            return Some(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
        if ask.method != "POST" {
            return None;
        }
        let plain = if ask.path.contains("/chat/") {
            serde_json::json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Go on."}]})
        } else {
            serde_json::json!({"model": "m", "stream": true, "prompt": "Go on."})
        };
        let mut body = plain;
        if let Some(with) = &ask.with {
            let more: Value = serde_json::from_str(with).unwrap_or_else(|e| panic!("{with}: {e}"));
            for (name, value) in more.as_object().expect("`with` is an object") {
                body[name] = value.clone();
            }
        }
        Some(body.to_string().into_bytes())
    }
}
