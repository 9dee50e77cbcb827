//! `aegis demo`: a primary to try Aegis on without a model, and a tour that shows the same request with and without
//! the guard.
//!
//! The primary ([`start_primary`]) speaks llama-server's dialect, frame for frame, and is healthy unless the request's
//! `model` asks for a fault by name (see [`model::Model`]). Asked again with a correction or with the beginning of an
//! answer, all its models but one do well. The tour ([`tour`]) sends each request twice, straight to the
//! primary and through Aegis, with a client of its own that shares no code with the proxy's path, so that a defect of
//! the proxy's parser cannot hide itself here.

mod answers;
mod cases;
mod check;
mod client;
mod frames;
mod model;
mod playback;
mod primary;
mod prose;
mod records;
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
pub(crate) use tour::{Stage, tour};

/// The phrase that `demo-forbidden` says, as [`DEMO_CONFIG`] forbids it.
pub(crate) const FORBIDDEN_PHRASE: &str = "the launch code is tangerine";

/// The proxy's config of the demo: what every rule does is left as it is by default. `upstream.url` is a placeholder for
/// the address of the embedded primary; the stall times are shorter than anybody should use on a real primary, so that
/// the tour stays short.
pub(crate) const DEMO_CONFIG: &str = r#"
listen = "127.0.0.1:8181"

[upstream]
url = "http://127.0.0.1:8080"
flavour = "llama-server"

[rules.first_token_stall]
after_s = 1.0

[rules.stall]
after_s = 1.0
strikes = 2

[rules.forbidden_phrase]
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
        (
            "demo-loop",
            SEA,
            "",
            "an endless loop: Aegis asks again in secret, and the answer comes to its end",
        ),
        (
            "demo-broken-json",
            "Describe Lisbon as JSON.",
            JSON,
            "broken JSON, corrected at its first impossible byte",
        ),
        (
            "demo-death",
            SEA,
            "",
            "the primary's connection drops, the answer goes on",
        ),
        (
            "demo-stubborn",
            SEA,
            "",
            "loops again when it is asked again: cut with A201_token_loop",
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
