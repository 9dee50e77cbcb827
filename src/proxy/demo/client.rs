//! A plain streaming client for the tour and the tests: one request on one connection, read to its end or for a limited
//! time. It reads SSE by itself, so that it checks the proxy's framing and does not share its mistakes.

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How reading an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The body ended properly.
    Whole,
    /// The connection broke, or never was; why.
    Broken(String),
    /// The time was up and this client left.
    Left,
}

/// An error object of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireError {
    pub(super) code: String,
    pub(super) message: String,
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    /// HTTP status; 0 where there was no answer.
    pub(super) status: u16,
    /// The `x-aegis-request-id` of the answer.
    pub(super) request_id: Option<String>,
    /// The body as it came.
    pub(super) raw: String,
    /// The ids of the answer's frames, each once.
    pub(super) ids: Vec<String>,
    pub(super) content: String,
    pub(super) reasoning: String,
    /// Name and arguments of each tool call.
    pub(super) calls: Vec<(String, String)>,
    pub(super) finish: Option<String>,
    /// Frames with a `finish_reason`.
    pub(super) finishes: usize,
    pub(super) error: Option<WireError>,
    /// `[DONE]` came.
    pub(super) done: bool,
    /// Frames that are neither a comment nor one JSON object nor `[DONE]`, and frames after that.
    pub(super) garbled: usize,
    /// Frames with a role.
    pub(super) roles: usize,
    /// Completion tokens of the usage frame.
    pub(super) usage: Option<u64>,
    /// Frames with a usage.
    pub(super) usages: usize,
    pub(super) end: End,
    pub(super) took: Duration,
}

impl Received {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            status: 0,
            request_id: None,
            raw: String::new(),
            ids: Vec::new(),
            content: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            finish: None,
            finishes: 0,
            error: None,
            done: false,
            garbled: 0,
            roles: 0,
            usage: None,
            usages: 0,
            end: End::Whole,
            took: Duration::ZERO,
        }
    }

    /// Whether the answer is one that a client takes for complete: a finish, `[DONE]`, a proper end and no error.
    pub(super) fn looks_complete(&self) -> bool {
        self.end == End::Whole && self.finish.is_some() && self.done && self.error.is_none()
    }

    /// The lane to show: the content, or else the tool calls, or else the reasoning.
    pub(super) fn text(&self) -> String {
        let calls = self
            .calls
            .iter()
            .map(|(name, arguments)| format!("{name}({arguments})"));
        let said: Vec<String> = std::iter::once(self.content.clone())
            .chain(calls)
            .filter(|text| !text.is_empty())
            .collect();
        if said.is_empty() {
            self.reasoning.clone()
        } else {
            said.join(" ")
        }
    }

    /// How it ended, in a few words.
    pub(super) fn ending(&self) -> String {
        let characters = self.text().chars().count();
        match (&self.end, &self.error, &self.finish) {
            (_, Some(error), _) => format!("error {}: {}", error.code, error.message),
            (End::Broken(why), None, _) => format!("the connection broke off: {why}"),
            (End::Left, None, _) => format!(
                "not over after {:.1} s and {characters} characters",
                self.took.as_secs_f64()
            ),
            (End::Whole, None, Some(reason)) => format!("finish {reason}"),
            (End::Whole, None, None) => format!("ended without a finish, status {}", self.status),
        }
    }

    /// The body without what every answer has of its own: its id, its times.
    pub(super) fn impersonal(&self) -> String {
        let mut text = self.raw.clone();
        for id in &self.ids {
            // The ids of tool calls are made from it.
            text = text.replace(id.trim_start_matches("chatcmpl-"), "");
        }
        let text = without(&text, "\"created\":", ',');
        without(&text, "\"timings\":{", '}')
    }

    /// Takes in one frame: the text of its `data:` lines.
    fn frame(&mut self, data: &str) {
        if data == "[DONE]" {
            // There is one, and it is the last.
            self.garbled += usize::from(self.done);
            self.done = true;
            return;
        }
        self.garbled += usize::from(self.done);
        match serde_json::from_str::<Value>(data) {
            Ok(object) if object.is_object() => self.chunk(&object),
            _ => self.garbled += 1,
        }
    }

    fn chunk(&mut self, chunk: &Value) {
        if let Some(error) = chunk.get("error") {
            self.wire_error(error);
        }
        if let Some(tokens) = chunk.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
            self.usage = Some(tokens);
            self.usages += 1;
        }
        if let Some(id) = chunk.get("id").and_then(Value::as_str)
            && !self.ids.iter().any(|known| known == id)
        {
            self.ids.push(id.to_owned());
        }
        let Some(choice) = chunk.pointer("/choices/0") else {
            return;
        };
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(reason.to_owned());
            self.finishes += 1;
        }
        let text = |object: Option<&Value>, key: &str| {
            object
                .and_then(|o| o.get(key))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let delta = choice.get("delta").or_else(|| choice.get("message"));
        self.roles += usize::from(delta.is_some_and(|d| d.get("role").is_some()));
        self.content.push_str(&text(delta, "content"));
        self.content.push_str(&text(Some(choice), "text"));
        self.reasoning.push_str(&text(delta, "reasoning_content"));
        for call in delta
            .and_then(|d| d.get("tool_calls"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let function = call.get("function");
            let name = text(function, "name");
            if !name.is_empty() {
                self.calls.push((name, String::new()));
            }
            if let Some((_, arguments)) = self.calls.last_mut() {
                arguments.push_str(&text(function, "arguments"));
            }
        }
    }

    fn wire_error(&mut self, error: &Value) {
        let code = match error.get("code") {
            Some(Value::String(code)) => code.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let message = error
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        self.error = Some(WireError { code, message });
    }
}

/// Posts `body` to `path` of the server at `address` and reads the answer for at most `limit`.
pub(super) async fn post(address: SocketAddr, path: &str, body: &Value, limit: Duration) -> Received {
    let started = Instant::now();
    let mut received = Received::new();
    received.end = match timeout_at(started + limit, exchange(address, path, body, &mut received)).await {
        Ok(Ok(())) => End::Whole,
        Ok(Err(why)) => End::Broken(why),
        Err(_elapsed) => End::Left,
    };
    received.took = started.elapsed();
    received
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    body: &Value,
    received: &mut Received,
) -> Result<(), String> {
    let said = |e: hyper::Error| innermost(&e);
    let stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(said)?;
    // The set owns the connection's task: leaving this function closes the connection, also when time is up.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::post(path.parse::<Uri>().map_err(|e| e.to_string())?)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| e.to_string())?;
    let mut response = sender.send_request(request).await.map_err(said)?;
    received.status = response.status().as_u16();
    received.request_id = response
        .headers()
        .get("x-aegis-request-id")
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned);
    let streamed = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    let mut pending = Vec::new();
    while let Some(frame) = response.frame().await {
        let Ok(data) = frame.map_err(said)?.into_data() else {
            continue;
        };
        pending.extend_from_slice(&data);
        if streamed {
            take_frames(&mut pending, received);
        }
    }
    if !streamed {
        received.raw = String::from_utf8_lossy(&pending).into_owned();
        received.frame(&String::from_utf8_lossy(&pending));
    } else if !pending.is_empty() {
        received.garbled += 1;
    }
    Ok(())
}

/// Takes the whole frames from the front of `pending`.
fn take_frames(pending: &mut Vec<u8>, received: &mut Received) {
    let mut start = 0;
    while let Some(length) = pending[start..].windows(2).position(|w| w == b"\n\n") {
        let event = String::from_utf8_lossy(&pending[start..start + length]);
        let mut data: Vec<&str> = Vec::new();
        for line in event.lines() {
            if let Some(rest) = line.strip_prefix("data:") {
                data.push(rest.strip_prefix(' ').unwrap_or(rest));
            } else if !line.is_empty() && !line.starts_with(':') {
                received.garbled += 1;
            }
        }
        if !data.is_empty() {
            received.frame(&data.join("\n"));
        }
        start += length + 2;
    }
    received.raw.push_str(&String::from_utf8_lossy(&pending[..start]));
    pending.drain(..start);
}

/// `text` without all that stands between a `from` and the next `to`.
fn without(text: &str, from: &str, to: char) -> String {
    let mut parts = text.split(from);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rest.push_str(from);
        rest.push_str(&part[part.find(to).unwrap_or(part.len())..]);
    }
    rest
}

/// The cause at the bottom of an error: hyper's own words say only where it happened.
fn innermost(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_in_any_split() {
        let wire = ": ping\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße\"},\"finish_reason\":null}]}\n\n\
            data: {\"error\":{\"message\":\"m\",\"code\":\"A201_token_loop\"}}\n\ndata: [DONE]\n\nnonsense\n\ndata: [DONE]\n\n";
        for chunk in 1..wire.len() {
            let mut received = Received::new();
            let mut pending = Vec::new();
            for part in wire.as_bytes().chunks(chunk) {
                pending.extend_from_slice(part);
                take_frames(&mut pending, &mut received);
            }
            assert!(pending.is_empty());
            assert_eq!(
                (received.content.as_str(), received.roles, received.garbled),
                ("Grüße", 1, 2),
                "what comes after [DONE] is garbled whatever it is"
            );
            assert_eq!(received.raw, wire);
            assert!(received.done && !received.looks_complete());
            assert_eq!(
                received.error.as_ref().map(|e| e.code.as_str()),
                Some("A201_token_loop")
            );
        }
    }

    #[test]
    fn what_every_answer_has_of_its_own_is_left_out() {
        let of = |id: &str, created: u32, content: &str| {
            let mut received = Received::new();
            let mut wire = format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}}}}],\"created\":{created},\"id\":\"chatcmpl-{id}\",\
                 \"call\":\"call_0_{id}\",\"timings\":{{\"prompt_ms\":{created}.5}}}}\n\n"
            )
            .into_bytes();
            take_frames(&mut wire, &mut received);
            received.impersonal()
        };
        assert_eq!(of("ab", 17, "salt"), of("cd", 18, "salt"));
        assert_ne!(of("ab", 17, "salt"), of("ab", 17, "sal"));
    }
}
