//! Answers with random faults: whatever goes wrong, the client gets one answer or one error.

use super::corrections::*;
use super::edges::{looped, prefill};
use super::*;
use crate::capabilities::Flavour;
use crate::rule::Action;
use proptest::prelude::*;
use serde_json::Value;

/// One answer with random faults.
#[derive(Debug, Clone)]
struct Faulty {
    words: Vec<String>,
    /// What each attempt does after its words: loop, say a forbidden phrase, or break off. The one after the last ends.
    faults: Vec<Fault>,
    flavour: Flavour,
    echo: bool,
    corrections_max: u32,
    cuts: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Loop,
    Phrase,
    Drop,
}

fn faulty() -> impl Strategy<Value = Faulty> {
    (
        prop::collection::vec(" [a-k]{1,6}[.,]?", 1..12),
        prop::collection::vec(
            prop::sample::select(vec![Fault::Loop, Fault::Phrase, Fault::Drop]),
            0..4,
        ),
        prop::sample::select(vec![
            Flavour::LlamaServer,
            Flavour::Vllm,
            Flavour::LmStudio,
            Flavour::None,
        ]),
        any::<bool>(),
        0u32..4,
        prop::collection::vec(any::<usize>(), 0..10),
    )
        .prop_map(|(words, faults, flavour, echo, corrections_max, cuts)| Faulty {
            words,
            faults,
            flavour,
            echo,
            corrections_max,
            cuts,
        })
}

impl Faulty {
    fn relay(&self) -> Relay {
        let request = REQUEST.replace(
            r#""stream":true"#,
            r#""stream":true,"stream_options":{"include_usage":true}"#,
        );
        let mut book = rulebook();
        let policy = book.policy(Code::ForbiddenPhrase);
        book.set(
            Code::ForbiddenPhrase,
            CodePolicy {
                severity: Severity::Minor,
                action: Action::Correct,
                ..policy
            },
        );
        correcting_by(book, &request, self.flavour, self.corrections_max)
    }

    /// The bytes of an attempt, and whether it ends its answer.
    fn stream(&self, attempt: usize, ask: Option<&Value>) -> (String, bool) {
        let mut stream = role(attempt);
        let asked = ask.map(prefill).unwrap_or_default();
        if self.echo && !asked.is_empty() && matches!(self.flavour, Flavour::LmStudio) {
            stream += &say(attempt, asked);
        }
        stream.extend(
            self.words
                .iter()
                .map(|word| say(attempt, &format!("{word}{attempt}"))),
        );
        match self.faults.get(attempt - 1) {
            Some(Fault::Loop) => (stream + &looped(attempt, 12), false),
            Some(Fault::Phrase) => (stream + &say(attempt, " launch") + &say(attempt, " code"), false),
            Some(Fault::Drop) => (stream, false),
            None => {
                let usage = json!({"id":format!("chatcmpl-{attempt}"),"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}});
                let end = chunk(attempt, &json!({}), &json!("stop"))
                    + &format!("data: {usage}\n\ndata: [DONE]\n\n");
                (stream + &end, true)
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever goes wrong, and however often: what the first attempt says arrives as it was sent, nothing comes twice,
    /// the answer ends once, and nothing of what is hidden shows.
    #[test]
    fn a_faulty_answer_is_one_answer_or_one_error(case in faulty()) {
        let mut relay = case.relay();
        let now = Instant::now();
        let (mut out, mut ask): (Vec<u8>, Option<Value>) = (Vec::new(), None);
        let mut first = None;
        let mut asks = 0;
        for attempt in 1.. {
            let (stream, _) = case.stream(attempt, ask.as_ref());
            stream_in_pieces(&mut relay, stream.as_bytes(), &case.cuts, &mut out);
            first.get_or_insert((stream, out.clone()));
            let Some(next) = relay.take_ask() else { break };
            asks += 1;
            ask = Some(serde_json::from_slice(&next.body).unwrap());
            relay.on_answer(now, None);
        }
        let (stream, released) = first.unwrap();
        // Invariant 1: until something is done about it, the bytes are the upstream's.
        let passed = memchr::memmem::find(&released, b"data: {\"error\"").unwrap_or(released.len());
        prop_assert!(stream.as_bytes().starts_with(&released[..passed]));
        let text = String::from_utf8(out.clone()).unwrap();
        // Invariant 10.
        for hidden in ["Note:", "broken off", "launch code"] {
            prop_assert!(!text.contains(hidden), "{text}");
        }
        let seen = seen(&out);
        prop_assert!(asks <= case.corrections_max);
        // Invariants 5 and 6.
        prop_assert!(seen.ids.len() <= 1 && seen.roles <= 1, "{seen:?}");
        prop_assert_eq!(relay.end(), Some(End::Clean));
        prop_assert_eq!(seen.done, 1);
        prop_assert_eq!((seen.finishes, seen.errors.len()), if seen.errors.is_empty() { (1, 0) } else { (0, 1) });
        prop_assert_eq!(text.matches("\"usage\":{").count(), seen.finishes);
        if seen.errors.is_empty() {
            let ends = case.words.iter().map(|word| format!("{word}{}", asks + 1)).collect::<String>();
            prop_assert!(seen.content.ends_with(&ends), "{seen:?}");
            let begins = ask.as_ref().map(prefill).unwrap_or_default();
            if !begins.is_empty() {
                let middle = seen.content.strip_prefix(begins).and_then(|rest| rest.strip_suffix(ends.as_str()));
                prop_assert_eq!(middle.map(str::trim), Some(""), "{:?}", seen);
            }
        } else {
            prop_assert!(text.ends_with("\n\ndata: [DONE]\n\n"));
            // A second loop is critical.
            let loops = case.faults.iter().filter(|fault| matches!(fault, Fault::Loop)).count();
            prop_assert!(asks == case.corrections_max || loops > 1);
        }
        let incidents = relay.take_incidents();
        let corrected = incidents.iter().filter(|i| i.decision == Decision::Correct).count() as u32;
        let cut = incidents.iter().filter(|i| i.decision == Decision::Cut).count();
        prop_assert_eq!(corrected, asks, "{:?}", incidents);
        prop_assert_eq!(cut, seen.errors.len());
    }
}
