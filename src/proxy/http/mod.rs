//! The HTTP side: the listener, the stack of layers every request goes through, and the one place where failures
//! become answers.

pub(crate) mod admit;
pub(crate) mod body;
pub(crate) mod headers;
pub(crate) mod identify;
pub(crate) mod rescue;
pub(crate) mod server;
pub(crate) mod stack;
