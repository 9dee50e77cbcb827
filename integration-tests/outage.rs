//! An upstream that is gone for a while: a process that was killed, or one that is still loading its model.

use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How the upstream is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// Every connection is closed and new ones are refused, as after a kill.
    #[default]
    Refused,
    /// Everything is answered with 503, `/health` too, as while a model loads. Such requests are not recorded.
    Loading,
}

/// A time without the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// How long, in milliseconds, from the end of the answer before it.
    pub ms: u64,
    /// How.
    #[serde(default)]
    pub how: Gone,
}

/// Takes an address without listening on it: connections are refused, and nobody else gets the port.
///
/// # Errors
/// Those of the socket.
pub(crate) fn occupy(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Listens on an occupied address.
///
/// # Errors
/// Those of the socket.
pub(crate) fn reopen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)
}
