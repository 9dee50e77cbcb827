//! Every bound of the proxy in one place, beside those of `aegis_core::limits`. Units stand last in the names.

use std::time::Duration;

/// Largest request body of a guarded call: a long chat with images in base64 stays below.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest body of any other request (audio, model uploads); it is passed on, never stored.
pub(crate) const PASSED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Largest non-streaming answer that is stored to be judged.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest head of a request: all header lines together.
pub(crate) const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Header lines of a request.
pub(crate) const HEADERS_MAX: usize = 128;
/// Connections from clients at once.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;
/// Requests in progress at once, streams included.
pub(crate) const STREAMS_MAX: usize = 16_384;
/// Streams on one HTTP/2 connection.
pub(crate) const H2_STREAMS_MAX: u32 = 256;

/// How long a client may take to send its head.
pub(crate) const HEADER_READ: Duration = Duration::from_secs(30);
/// Pause between looks at a client that has begun HTTP/2's preface and not ended it.
pub(crate) const FIRST_WORDS_PAUSE: Duration = Duration::from_millis(20);
/// An HTTP/2 connection is asked this often whether it is alive, and given as long to answer.
pub(crate) const H2_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a client may take to send the body of a guarded call.
pub(crate) const REQUEST_BODY: Duration = Duration::from_secs(60);
/// How long the upstream may take to accept a connection.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// How long the upstream may take to answer at all. A queued request gets no head until a slot is free.
pub(crate) const FIRST_BYTE: Duration = Duration::from_secs(1800);
/// Silence on a passed body, in either direction, that ends it.
pub(crate) const IDLE: Duration = Duration::from_secs(600);
/// How long running streams may go on after SIGTERM.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);
/// After the drain: how long the last error events may take to leave.
pub(crate) const DRAIN_LAST_WORDS: Duration = Duration::from_secs(2);

/// How long `/health` may take; it is answered without the model.
pub(crate) const HEALTH: Duration = Duration::from_secs(2);
/// How long `/slots` may take; it waits for the batch that is being computed.
pub(crate) const SLOTS: Duration = Duration::from_secs(5);
/// A server that sent bytes within this time is not dead, though its `/health` is late.
pub(crate) const BYTES_RECENT: Duration = Duration::from_secs(5);
/// One heartbeat serves all streams that ask within this time.
pub(crate) const HEARTBEAT_SHARED: Duration = Duration::from_millis(500);
/// Most that is read of the upstream's answer to a question of Aegis's own.
pub(crate) const INQUIRY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most that is read from an upstream's connection at once, and its largest head.
pub(crate) const UPSTREAM_BUFFER_BYTES: usize = 32 * 1024;
/// Header lines of an answer.
pub(crate) const UPSTREAM_HEADERS_MAX: usize = 256;
/// Idle connections kept to the upstream, per worker.
pub(crate) const UPSTREAM_IDLE_CONNECTIONS_MAX: usize = 256;
/// llama-server closes idle connections after 5 s; ours must be gone before, or a request meets a closed one.
pub(crate) const UPSTREAM_IDLE: Duration = Duration::from_secs(4);

/// Worker threads at most; each runs its own event loop.
pub(crate) const WORKERS_MAX: usize = 64;
/// Connections that wait for a worker to take them.
pub(crate) const HANDOVER_MAX: usize = 1024;
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Hidden requests at once that wait for their answer to begin, over all workers: a server that comes back must not be
/// met by all streams in one moment.
pub(crate) const HIDDEN_MAX: usize = 64;
/// Hidden requests at once that a config may allow.
pub(crate) const HIDDEN_BOUND: usize = 65_536;
/// Longest time that a config may have released text held back, in milliseconds: a day.
pub(crate) const HOLD_BOUND_MS: usize = 86_400_000;
/// How long a stream waits for an upstream that died or is loading its model.
pub(crate) const RESUME_WAIT: Duration = Duration::from_secs(60);
/// Pause between comments to a client that waits for a hidden request. Proxies give up on silence after 60 s or so.
pub(crate) const PING: Duration = Duration::from_secs(5);
/// Pause between looks at an upstream that is gone or loading, while a stream waits to be resumed.
pub(crate) const HIDDEN_RETRY: Duration = Duration::from_millis(200);
/// Longest pause between hidden requests to an upstream that is well and does not take them (busy, or behind a proxy that
/// answers for it): each carries the whole prompt, so the pause doubles up to here.
pub(crate) const HIDDEN_RETRY_MAX: Duration = Duration::from_secs(5);
/// Most that is read of a refusal to a hidden request.
pub(crate) const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Models whose capabilities are remembered; beyond, the oldest is forgotten.
pub(crate) const SCOUTED_MODELS_MAX: usize = 256;
/// Longest name of a model whose capabilities are looked for. Names are the client's to choose.
pub(crate) const SCOUTED_NAME_BYTES_MAX: usize = 256;
/// Models that are looked at at once.
pub(crate) const SCOUTS_MAX: usize = 4;
/// Pause before a model is looked at again whose capabilities could not be found.
pub(crate) const SCOUT_PAUSE: Duration = Duration::from_secs(30);
/// How long after it was looked for it is believed that a model cannot continue messages. It may have been asked at a bad
/// moment.
pub(crate) const SCOUT_DOUBT: Duration = Duration::from_secs(600);
/// How long an answer about the server itself may take.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// How long a probe may take that makes the model write: it waits its turn behind the clients' requests.
pub(crate) const PROBE: Duration = Duration::from_secs(600);
/// Tokens of such a probe.
pub(crate) const PROBE_TOKENS: u32 = 4;
/// How long a stream with a fault waits for what the upstream can do to be found out, and how often it looks.
pub(crate) const SCOUT_WAIT: Duration = Duration::from_secs(3);
/// See [`SCOUT_WAIT`].
pub(crate) const SCOUT_LOOK: Duration = Duration::from_millis(20);
