//! The primary: its base URL, the client that talks to it, and its signs of life.

pub(crate) mod base;
pub(crate) mod client;
pub(crate) mod pulse;
