//! Server-sent events: finding frames in bytes, reading one frame, and the frames Aegis writes itself.

pub mod framer;
pub mod parse;
pub mod write;
