//! Harness of the integration tests: a scripted upstream, a raw client, the `aegis` process, and cases as data.
//!
//! The harness talks to Aegis only over sockets and the command line. It shares no code with it, so that a mistake
//! in Aegis' own parsers cannot hide itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken harness has to fail the test that uses it, loudly and where it broke"
)]

pub mod asked;
pub mod case;
pub mod client;
pub mod events;
pub mod flaky;
pub mod h2c;
mod invariants;
mod json_diff;
pub mod outage;
mod play;
pub mod probe;
pub mod process;
pub mod refusal;
pub mod request;
pub mod runner;
pub mod script;
pub mod scripted;
pub mod seen;
pub mod step;
pub mod verdict;
mod wire;
pub mod words;
