//! The pure half of Aegis: everything between "bytes arrived from the upstream" and "these bytes may leave".
//!
//! Nothing in this crate does I/O, spawns a task, reads a clock or opens a file. Bytes, deadlines and the
//! current [`std::time::Instant`] are arguments, so every behaviour can be replayed in a unit test.
//!
//! Imports point downward only:
//! `error`, `limits` → `event` → `sse`, `dialect`, `request`, `ring` → `rule`, `rules` → `decide`, `incident`
//! → `sentinel` → `relay`.

pub mod aggregate;
pub mod capabilities;
pub mod continuation;
pub mod correction;
pub mod decide;
pub mod dialect;
pub mod error;
pub mod event;
pub mod incident;
pub mod json;
pub mod limits;
pub mod relay;
pub mod release;
pub mod request;
pub mod ring;
pub mod rule;
pub mod rules;
pub mod sentinel;
pub mod splice;
pub mod sse;
pub mod stall;
pub mod whole;
pub mod window;
