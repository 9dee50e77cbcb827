//! Answers to hidden requests, whatever they are: the relay neither panics nor says anything twice.
#![no_main]

use aegis_core::capabilities::{Flavour, Known};
use aegis_core::dialect::Dialect;
use aegis_core::relay::{End, Guard, Relay, Source, UpstreamEnd};
use aegis_core::request;
use aegis_core::sse::framer::Framer;
use aegis_core::sse::parse::parse;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

const REQUEST: &[u8] = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Go on."}]}"#;

/// What a client takes an answer for one by.
#[derive(Debug, Default)]
struct Said {
    ids: BTreeSet<String>,
    /// A chunk has no id.
    nameless: bool,
    roles: usize,
    finishes: usize,
    done: usize,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let mut said = Self::default();
        let (mut framer, mut ends, mut start) = (Framer::new(usize::MAX), Vec::new(), 0);
        framer.scan(body, &mut ends).expect("there is no cap");
        for end in ends {
            let frame = &body[start..end as usize];
            start = end as usize;
            // What cannot be read passes as it is, under the default policy.
            if Dialect::Chat.frame(frame).is_ok()
                && let Ok(Some(event)) = parse(frame)
            {
                said.event(event.data.trim());
            }
        }
        said
    }

    fn event(&mut self, data: &str) {
        self.done += usize::from(data == "[DONE]");
        let Ok(frame) = serde_json::from_str::<Value>(data) else {
            return;
        };
        let Some(choices) = frame["choices"].as_array() else {
            return;
        };
        match frame["id"].as_str() {
            Some(id) => drop(self.ids.insert(id.to_owned())),
            None => self.nameless = true,
        }
        for choice in choices {
            self.roles += usize::from(choice["delta"]["role"].is_string());
            self.finishes += usize::from(choice["finish_reason"].is_string());
        }
    }

    /// One of each, unless an answer by itself has more: what one server says twice is not made one here.
    fn is_within(&self, answers: &[Self]) -> bool {
        let most = |count: fn(&Self) -> usize| answers.iter().map(count).max().unwrap_or(0).max(1);
        let named = answers.iter().all(|said| !said.nameless);
        (!named || self.ids.len() <= most(|said| said.ids.len()))
            && self.roles <= most(|said| said.roles)
            && self.finishes <= most(|said| said.finishes)
            // The first answer passes as it is; a later one says it once at most.
            && self.done <= answers.first().map_or(1, |said| said.done.max(1))
    }
}

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
    let (mut out, mut answers) = (Vec::new(), Vec::new());
    for stream in streams.split(|byte| *byte == 0xff) {
        // An event without its blank line counts.
        answers.push(Said::read(&[stream, b"\n\n"].concat()));
        relay.on_bytes(now, Bytes::copy_from_slice(stream));
        relay.on_end(now, &UpstreamEnd::Eof);
        while let Some(bytes) = relay.take_output() {
            out.extend_from_slice(&bytes);
        }
        match relay.take_ask() {
            Some(ask) => {
                serde_json::from_slice::<Value>(&ask.body).expect("a request is JSON");
                relay.on_answer(now, None);
            }
            None => break,
        }
    }
    relay.on_client_left(now);
    if relay.end() == Some(End::Clean) {
        let said = Said::read(&out);
        assert!(said.is_within(&answers), "{said:?} of {answers:?}");
    }
});
