//! Answers to hidden requests, whatever they are: the relay neither panics nor says anything twice.
#![no_main]

use aegis_core::capabilities::{Flavour, Known};
use aegis_core::dialect::Dialect;
use aegis_core::relay::{End, Guard, Relay, Source, UpstreamEnd};
use aegis_core::request;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use std::time::Instant;

const REQUEST: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Go on."}]}"#;

// The input is the streams of the attempts, one after the other, with 0xff between them; its first byte picks the server.
fuzz_target!(|data: &[u8]| {
    let Some((pick, streams)) = data.split_first() else {
        return;
    };
    let (flavour, _) = Flavour::ALL[usize::from(*pick) % Flavour::ALL.len()];
    let Ok(facts) = request::read(REQUEST, 64) else {
        return;
    };
    let source = Source {
        body: Bytes::from_static(REQUEST),
        known: Known::new(flavour.into()),
    };
    let mut relay =
        Relay::new(Arc::new(Guard::default()), Dialect::Chat, Arc::new(facts), None).with_source(source);
    let now = Instant::now();
    let mut out = Vec::new();
    for stream in streams.split(|byte| *byte == 0xff) {
        relay.on_bytes(now, Bytes::copy_from_slice(stream));
        relay.on_end(now, &UpstreamEnd::Eof);
        while let Some(bytes) = relay.take_output() {
            out.extend_from_slice(&bytes);
        }
        match relay.take_ask() {
            Some(ask) => {
                serde_json::from_slice::<serde_json::Value>(&ask.body).expect("a request is JSON");
                relay.on_answer(None);
            }
            None => break,
        }
    }
    relay.on_client_left(now);
    if relay.end() == Some(End::Clean) {
        let done = memchr::memmem::find_iter(&out, b"data: [DONE]\n\n").count();
        assert!(done <= 1 + memchr::memmem::find_iter(streams, b"[DONE]").count());
    }
});
