//! `aegis demo`: a primary to try Aegis on without a model, and a tour that shows the same request with and without
//! the guard.
//!
//! The primary ([`start_primary`]) speaks llama-server's dialect, frame for frame, and is healthy unless the request's
//! `model` asks for a fault by name (see [`model::Model`]). The tour ([`tour`]) sends each request twice, straight to the
//! primary and through Aegis, with a client of its own that shares no code with the proxy's path, so that a defect of
//! the proxy's parser cannot hide itself here.

mod cases;
mod client;
mod frames;
mod model;
mod playback;
mod primary;
mod prose;
mod request;
mod sample;
mod script;
mod shapes;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod tour;

use std::fmt::Write as _;
use std::net::SocketAddr;

pub(crate) use primary::start_primary;
pub(crate) use tour::tour;

/// The phrase that `demo-forbidden` says, as [`DEMO_CONFIG`] forbids it.
pub(crate) const FORBIDDEN_PHRASE: &str = "the launch code is tangerine";

/// The proxy's config of the demo. `upstream.url` is a placeholder for the address of the embedded primary; the stall
/// times are shorter than anybody should use on a real primary, so that the tour stays short.
pub(crate) const DEMO_CONFIG: &str = r#"
listen = "127.0.0.1:8181"

[upstream]
url = "http://127.0.0.1:8080"

[policy]
mode = "enforce"
on_failure = "open"
on_unavailable = "cut"

[rules.broken_json]
action = "cut"

[rules.truncated_json]
action = "cut"

[rules.token_loop]
action = "cut"

[rules.first_token_stall]
action = "cut"
after_s = 1.0

[rules.stall]
action = "cut"
after_s = 1.0

[rules.upstream_lost]
action = "cut"

[rules.forbidden_phrase]
action = "cut"
literals = ["the launch code is tangerine"]
case_insensitive = true
"#;

/// Ready commands to try the demo by hand, one fault each, for an Aegis that listens on `aegis`.
pub(crate) fn curl_hints(aegis: SocketAddr) -> String {
    const SEA: &str = "Why is the sea salty?";
    const JSON: &str = r#","response_format":{"type":"json_object"}"#;
    let asks = [
        ("demo", SEA, "", "a healthy answer"),
        ("demo-slow-start", SEA, "", "a long prompt: silence, but no stall"),
        ("demo-loop", SEA, "", "an endless loop, cut with A201_token_loop"),
        (
            "demo-broken-json",
            "Describe Lisbon as JSON.",
            JSON,
            "broken JSON, cut at the first impossible byte",
        ),
        (
            "demo-forbidden",
            "What is the launch code?",
            "",
            "a forbidden phrase, of which nothing gets out",
        ),
        (
            "demo-stall",
            SEA,
            "",
            "the primary loses the request, cut with A203_stall",
        ),
    ];
    let mut hints = String::from("Try it by hand (-i shows the x-aegis-request-id of the answer):\n");
    for (model, question, more, what) in asks {
        let _infallible = write!(
            hints,
            "\n  # {what}\n  curl -N http://{aegis}/v1/chat/completions -H 'content-type: application/json' \\\n    -d \
             '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"{question}\"}}]{more}}}'\n"
        );
    }
    let names: Vec<&str> = model::Model::ALL.iter().map(|m| m.name()).collect();
    let _infallible = write!(hints, "\nModels: {}\n", names.join(", "));
    hints
}
