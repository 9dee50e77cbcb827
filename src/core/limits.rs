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

/// Hidden requests for one answer, by default.
pub const CORRECTIONS_MAX: u32 = 2;

/// Hidden requests for one answer that a config may allow.
pub const CORRECTIONS_BOUND: u32 = 64;

/// Mends of one answer; further faults are corrected or cut.
pub const MENDS_MAX: u32 = 64;

/// Text of an answer kept so that it can be continued, in bytes. A longer answer cannot be corrected.
pub const DRAFT_BYTES_MAX: usize = 1024 * 1024;

/// Longest quotation of the model in a correction, in characters.
pub const CORRECTION_EXCERPT_CHARS_MAX: usize = 160;

/// Thrown away text that an incident quotes, in characters.
pub const DISCARDED_CHARS_MAX: usize = 400;

/// Longest overlap that is looked for between a text and its continuation, in bytes.
pub const OVERLAP_BYTES_MAX: usize = 2048;

/// Shortest overlap that is taken for one, in bytes of its letters and digits. A shorter one is chance as often as not.
pub const OVERLAP_LETTERS_MIN: usize = 8;

/// Frames that wait until it is certain whether their text repeats what is out, in bytes. One frame may always wait.
pub const REPEAT_WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Longest text of one tool call's arguments that is validated, in bytes.
pub const TOOL_ARGUMENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Tools of one request that are known by name. A request with more may call any.
pub const TOOLS_MAX: usize = 1024;

/// Longest `tools` of a request that is kept, in bytes. Of a longer one nothing is known.
pub const TOOLS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest schema of one tool that is compiled, in bytes.
pub const TOOL_SCHEMA_BYTES_MAX: usize = 512 * 1024;

/// Steps that one match of a schema's `pattern` may go back.
pub const SCHEMA_BACKTRACK_MAX: usize = 100_000;

/// Memory that one `pattern` of a schema may take once compiled, in bytes.
pub const SCHEMA_PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Longest description of what is wrong with a tool call, in characters.
pub const TOOL_DETAIL_CHARS_MAX: usize = 200;

/// Longest quotation of a value or of a name in such a description, in characters.
pub const TOOL_VALUE_CHARS_MAX: usize = 40;

/// Offered tools that a finding about an unknown one names.
pub const TOOL_NAMES_SHOWN_MAX: usize = 8;

/// Healed calls of one request that are described one by one.
pub const HEAL_NOTES_MAX: usize = 64;

/// How long released text may be held back before the hold is given up, in milliseconds. Long tool calls are written for
/// minutes.
pub const HOLD_MS: u64 = 600_000;

/// Longest period that the loop rule can see, in symbols (characters, a number counts as one).
pub const LOOP_PERIOD_MAX: usize = 4096;

/// Memory a compiled set of forbidden phrases may take, in bytes.
pub const PHRASES_DFA_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most that a forbidden *pattern* may hold back while it is undecided, in bytes. Literals hold back their own length.
pub const PATTERN_HOLD_BYTES: usize = 256;

/// How much of a request's text is read for hints such as "repeat it 40 times", in bytes from the end.
pub const PROMPT_HINT_BYTES_MAX: usize = 16 * 1024;

/// References in one tool's schema. A schema with more is not used.
pub const SCHEMA_REFS_MAX: usize = 32;

/// Places in one schema that its references lead to, the schema itself included. A set of them is one machine word.
pub const SCHEMA_TARGETS_MAX: usize = 64;

/// Steps that a check of a tool call against its schema may take at most, found beforehand: the schema's parts, as often
/// as references lead to each, times the values of the call. A call that may take more is not checked. Real calls take a
/// hundredth of what they may.
pub const SCHEMA_STEPS_MAX: u64 = 1 << 24;

/// Steps that a pattern which goes back counts for.
pub const SCHEMA_PATTERN_STEPS: u64 = 4096;

/// Errors that may be collected to describe the first one. A call of which more may come is only said not to fit.
pub const SCHEMA_ERRORS_MAX: u64 = 1 << 18;

/// Schemas within each other, times the depth of the call, that a check may go down. It keeps the stack small.
pub const SCHEMA_NESTING_MAX: u64 = 2048;

/// The bounds of one stream that `[limits]` of the config may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`FRAME_BYTES_MAX`].
    pub frame_bytes_max: usize,
    /// See [`RING_BYTES_MAX`].
    pub ring_bytes_max: usize,
    /// See [`JSON_DEPTH_MAX`].
    pub json_depth_max: usize,
    /// See [`HOLD_MS`].
    pub hold_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
            ring_bytes_max: RING_BYTES_MAX,
            json_depth_max: JSON_DEPTH_MAX,
            hold_ms: HOLD_MS,
        }
    }
}
