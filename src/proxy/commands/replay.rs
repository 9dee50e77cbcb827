//! `aegis replay`: a recorded stream through the same relay that serves live ones.

use super::{BAD_INPUT, load};
use crate::cli::ReplayArgs;
use aegis_core::dialect::Dialect;
use aegis_core::relay::{Relay, UpstreamEnd};
use aegis_core::request::{self, RequestFacts};
use bytes::Bytes;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Prints what the client would have got to standard output, and the findings as JSON lines to standard error.
pub(crate) fn run(args: &ReplayArgs) -> ExitCode {
    let config = match load(args.config.as_deref()) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (stream, request) = match (read(&args.file), args.request.as_deref().map(read).transpose()) {
        (Ok(stream), Ok(request)) => (stream, request),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let facts = match request
        .as_deref()
        .map(|body| request::read(body, config.guard.limits.json_depth_max))
    {
        None => RequestFacts {
            stream: true,
            choices: 1,
            ..RequestFacts::default()
        },
        Some(Ok(facts)) => facts,
        Some(Err(bad)) => {
            eprintln!("the request cannot be read: {bad}");
            return ExitCode::from(BAD_INPUT);
        }
    };
    let mut relay = Relay::new(Arc::clone(&config.guard), dialect(&stream), Arc::new(facts), None);
    match replay(&mut relay, stream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ExitCode> {
    std::fs::read(path).map_err(|error| {
        eprintln!("cannot read {}: {error}", path.display());
        ExitCode::from(BAD_INPUT)
    })
}

/// The recording says which dialect it is: chunks of legacy completions call themselves so.
fn dialect(stream: &[u8]) -> Dialect {
    let head = &stream[..stream.len().min(64 * 1024)];
    let legacy = memchr::memmem::find(head, b"\"text_completion\"").is_some();
    if legacy {
        Dialect::Completions
    } else {
        Dialect::Chat
    }
}

fn replay(relay: &mut Relay, stream: Vec<u8>) -> io::Result<()> {
    // Silence is not part of a recording, so no clock runs and one moment serves all calls.
    let now = Instant::now();
    relay.on_bytes(now, Bytes::from(stream));
    relay.on_end(now, &UpstreamEnd::Eof);
    let mut stdout = io::stdout().lock();
    while let Some(bytes) = relay.take_output() {
        stdout.write_all(&bytes)?;
    }
    stdout.flush()?;
    for incident in relay.take_incidents() {
        eprintln!("{}", serde_json::to_string(&incident)?);
    }
    Ok(())
}
