//! The primary: its base URL, the client that talks to it, its signs of life, and what it can do.

pub(crate) mod base;
pub(crate) mod capabilities;
pub(crate) mod client;
pub(crate) mod inquiry;
pub(crate) mod pulse;
