//! The demo's primary: an HTTP/1.1 server with llama-server's endpoints.

use super::frames::Frames;
use super::model::Model;
use super::playback::{Died, Playback, play_whole};
use super::request::{Ask, Endpoint, Refusal, parse};
use super::script::{Script, Tempo};
use super::slots::{CONTEXT, SLOTS, Slots, Task};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longest request body, in bytes.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Pause after a failed `accept`: with all file descriptors in use it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<Either<Full<Bytes>, Playback>>;

/// A running primary. Dropping it stops the server and drops all its connections.
#[derive(Debug)]
pub(crate) struct Primary {
    address: SocketAddr,
    /// Holds the one task that accepts; that task owns all connections.
    tasks: JoinSet<()>,
}

impl Primary {
    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the server's end, which only a panic brings before [`Primary`] is dropped.
    pub(crate) async fn stopped(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Serves the demo's primary on `listener` until the returned [`Primary`] is dropped.
///
/// # Errors
/// The listener has no local address.
pub(crate) async fn start_primary(listener: TcpListener) -> io::Result<Primary> {
    start(listener, Tempo::DEMO)
}

pub(super) fn start(listener: TcpListener, tempo: Tempo) -> io::Result<Primary> {
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(
        listener,
        Arc::new(State {
            slots: Slots::new(),
            tempo,
        }),
    ));
    Ok(Primary { address, tasks })
}

#[derive(Debug)]
struct State {
    slots: Arc<Slots>,
    tempo: Tempo,
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(connection(stream, Arc::clone(&state))); }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // Without it a token can wait 40 ms for the client's delayed acknowledgement. A failure costs only that.
    let _slower = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { answer(request, &state).await }
    });
    // An error here is a client that left, or a death that was asked for: nothing to report.
    let _ended = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, state: &State) -> Result<Answer, Died> {
    let path = request.uri().path().to_owned();
    let endpoint = match (request.method(), path.as_str()) {
        (&Method::GET, "/health" | "/v1/health") => {
            return Ok(json_answer(StatusCode::OK, &json!({"status": "ok"})));
        }
        (&Method::GET, "/models" | "/v1/models") => return Ok(json_answer(StatusCode::OK, &models())),
        (&Method::GET, "/slots") => return Ok(json_answer(StatusCode::OK, &state.slots.to_json())),
        (&Method::GET, "/props") => return Ok(json_answer(StatusCode::OK, &props())),
        (&Method::POST, "/v1/chat/completions" | "/chat/completions") => Endpoint::Chat,
        (&Method::POST, "/v1/completions") => Endpoint::Completions,
        _ => {
            let error =
                json!({"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}});
            return Ok(json_answer(StatusCode::NOT_FOUND, &error));
        }
    };
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        let message = format!("the request body is broken off or longer than {BODY_BYTES_MAX} bytes");
        return Ok(refuse(&Refusal {
            status: 413,
            kind: "invalid_request_error",
            message,
        }));
    };
    match parse(endpoint, &body.to_bytes()) {
        Ok(ask) => generate(&ask, state).await,
        Err(refusal) => Ok(refuse(&refusal)),
    }
}

async fn generate(ask: &Ask, state: &State) -> Result<Answer, Died> {
    let script = Script::of(ask, &state.tempo);
    let task = Task {
        choices: ask.n,
        prompt_tokens: script.prompt_tokens,
        prompt_time: script.prompt_time,
        max_tokens: ask.max_tokens,
        stream: ask.stream,
    };
    let Some(claim) = state.slots.claim(task).await else {
        return Err(Died);
    };
    let frames = Frames::new(ask, &script);
    if !ask.stream {
        let body = play_whole(&script, &frames, claim).await?;
        return Ok(response(
            StatusCode::OK,
            "application/json; charset=utf-8",
            Either::Left(Full::new(body)),
        ));
    }
    // Headers go out now, as in a current llama-server: they do not mean that a token exists.
    let mut answer = response(
        StatusCode::OK,
        "text/event-stream",
        Either::Right(Playback::new(script, frames, claim)),
    );
    answer.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(answer)
}

fn refuse(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    json_answer(
        status,
        &json!({"error": {"code": refusal.status, "message": refusal.message, "type": refusal.kind}}),
    )
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    response(
        status,
        "application/json; charset=utf-8",
        Either::Left(Full::new(Bytes::from(body.to_string()))),
    )
}

fn response(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Playback>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static("aegis-demo"));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// `/v1/models`: every name that `model` understands.
fn models() -> Value {
    let data: Vec<Value> = Model::ALL
        .iter()
        .map(|model| {
            json!({"id": model.name(), "aliases": [model.name()], "tags": [], "object": "model", "created": 0,
                "owned_by": "aegis-demo", "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
                "meta": {"n_ctx": CONTEXT}})
        })
        .collect();
    let models: Vec<Value> = Model::ALL
        .iter()
        .map(|model| json!({"name": model.name(), "model": model.name(), "type": "model", "capabilities": ["completion"]}))
        .collect();
    json!({"models": models, "object": "list", "data": data})
}

/// `/props`, with what holds for a server without weights.
fn props() -> Value {
    json!({
        "default_generation_settings": {"params": {"max_tokens": -1, "n_predict": -1, "stream": false}, "n_ctx": CONTEXT},
        "total_slots": SLOTS,
        "model_alias": Model::Healthy.name(),
        "model_path": "",
        "modalities": {"vision": false, "video": false, "audio": false},
        "endpoint_slots": true,
        "endpoint_props": true,
        "endpoint_metrics": false,
        "chat_template": "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: ",
        "chat_template_caps": {},
        "build_info": concat!("aegis-demo-", env!("CARGO_PKG_VERSION")),
    })
}
