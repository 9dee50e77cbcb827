//! Every bound of the core in one place. Units stand last in the names.
//!
//! A bound that a user may change is a field of [`Limits`] with its default here; the rest are constants.

/// Longest SSE event accepted from the upstream, in bytes. A chat chunk is about 250 bytes; a frame with a large
/// tool call or logprobs stays far below this.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Lines of one SSE event that are read. The parser's cost grows with their square.
pub const FRAME_LINES_MAX: usize = 4096;

/// Bytes a stream may hold back (a tool call that is not whole yet, a phrase that may still complete).
pub const RING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes handed to the client at once when many small pieces were released together.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Lanes of one answer: choices times channels times tool calls.
pub const LANES_MAX: usize = 256;

/// Findings kept of one answer. Shadowed and noted findings do not end a stream, so they need a bound.
pub const FINDINGS_MAX: usize = 64;

/// Deepest nesting of JSON, in the request and in JSON answers. `serde_json` and most clients stop at 128.
pub const JSON_DEPTH_MAX: usize = 512;

/// Longest excerpt of an answer quoted in an incident or an error, in characters.
pub const EXCERPT_CHARS_MAX: usize = 160;

/// Longest period that the loop rule can see, in symbols (characters, a number counts as one).
pub const LOOP_PERIOD_MAX: usize = 4096;

/// Memory a compiled set of forbidden phrases may take, in bytes.
pub const PHRASES_DFA_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most that a forbidden *pattern* may hold back while it is undecided, in bytes. Literals hold back their own length.
pub const PATTERN_HOLD_BYTES: usize = 256;

/// How much of a request's text is read for hints such as "repeat it 40 times", in bytes from the end.
pub const PROMPT_HINT_BYTES_MAX: usize = 16 * 1024;

/// The bounds of one stream that `[limits]` of the config may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`FRAME_BYTES_MAX`].
    pub frame_bytes_max: usize,
    /// See [`RING_BYTES_MAX`].
    pub ring_bytes_max: usize,
    /// See [`JSON_DEPTH_MAX`].
    pub json_depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            ring_bytes_max: RING_BYTES_MAX,
            json_depth_max: JSON_DEPTH_MAX,
        }
    }
}
