//! From questions and probes to capabilities.

use super::evidence::{Evidence, Told};
use super::probe::{Continuation, Flags, continuation_request, flags_request, read_continuation, read_flags};
use crate::limits::{LOOK, PROBE};
use crate::upstream::inquiry::{Inquiry, Reply, Silent};
use aegis_core::capabilities::{Capabilities, Flavour, Prefill};
use http::StatusCode;

const CHAT: &str = "/v1/chat/completions";

/// Where a server says something, and how it is read.
type Page = (&'static str, fn(&mut Evidence, &Reply));

/// How far Aegis goes to find something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only questions about the server, and what is generally true of its flavour.
    Looks,
    /// Also probes of the chat endpoint, where that is not certain.
    Probes,
}

/// What was found, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) capabilities: Capabilities,
    /// What gave the flavour away.
    pub(crate) told_by: String,
    /// What shows how a message is continued.
    pub(crate) prefill_by: String,
}

/// Nothing was found out this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undetected {
    #[error("{0}")]
    Silent(#[from] Silent),
    #[error("the probe was not answered: {0}")]
    Unclear(String),
    #[error("/v1/models was answered with {0}")]
    Withheld(StatusCode),
}

/// Asks the server what it is, until its flavour shows.
///
/// # Errors
/// When it does not answer at all.
pub(crate) async fn look(ask: &Inquiry<'_>, model: Option<&str>) -> Result<Evidence, Silent> {
    let mut evidence = Evidence::default();
    evidence.models(&ask.get("/v1/models", LOOK).await?);
    // Further pages tell servers apart whose list does not. One that has no such page may well break off.
    let pages: [Page; 3] = [
        ("/", Evidence::root),
        ("/props", Evidence::props),
        ("/api/v0/models", Evidence::lm_studio_models),
    ];
    for (path, read) in pages {
        if evidence.flavour(model).is_some() {
            break;
        }
        if let Ok(reply) = ask.get(path, LOOK).await {
            read(&mut evidence, &reply);
        }
    }
    Ok(evidence)
}

/// Asks for what is only of interest to people: version, slots, template.
pub(crate) async fn look_closer(ask: &Inquiry<'_>, flavour: Flavour, evidence: &mut Evidence) {
    let page: Page = match flavour {
        Flavour::LlamaServer | Flavour::LlamaServerOld => ("/props", Evidence::props),
        Flavour::Vllm => ("/version", Evidence::version),
        Flavour::Sglang => ("/get_server_info", Evidence::version),
        Flavour::Ollama => ("/api/version", Evidence::version),
        Flavour::Tabbyapi | Flavour::LmStudio | Flavour::None => return,
    };
    if let Ok(reply) = ask.get(page.0, LOOK).await {
        page.1(evidence, &reply);
    }
}

/// Finds the capabilities of a model of the server that gave `evidence`.
///
/// # Errors
/// When a probe is needed and was not answered, or nothing shows what the server is because it did not list its models.
pub(crate) async fn detect(
    ask: &Inquiry<'_>,
    evidence: &Evidence,
    model: Option<&str>,
    depth: Depth,
) -> Result<Found, Undetected> {
    let told = match (evidence.flavour(model), evidence.withheld) {
        (Some(told), _) => told,
        // With the right key, or later, the list may well name the server.
        (None, Some(status)) => return Err(Undetected::Withheld(status)),
        (None, None) => Told {
            flavour: Flavour::None,
            by: "nothing that the server says is known".to_owned(),
        },
    };
    let usual = Capabilities::from(told.flavour);
    let found = |capabilities, prefill_by: &str| Found {
        capabilities,
        told_by: told.by.clone(),
        prefill_by: prefill_by.to_owned(),
    };
    if depth == Depth::Looks {
        return Ok(found(usual, "not probed"));
    }
    match told.flavour {
        Flavour::LlamaServer | Flavour::LlamaServerOld => {
            let (capabilities, by) = llama_server(flags(ask, model).await?)?;
            Ok(found(capabilities, by))
        }
        // Their flags do not depend on the model.
        Flavour::Vllm | Flavour::Sglang => Ok(found(usual, "true of this flavour")),
        // Theirs depends on the build (TabbyAPI took the flags before it heeded them) or on the model's template, so the
        // model is asked.
        Flavour::Tabbyapi | Flavour::Ollama | Flavour::LmStudio => {
            let way = usual.prefill;
            let (capabilities, by) = continued(usual, way, false, &continuation(ask, model, way).await?)?;
            Ok(found(capabilities, by))
        }
        Flavour::None => {
            let flags = flags(ask, model).await?;
            // A router lists its own name, and passes on the words of the server behind it.
            if matches!(flags, Flags::LlamaServer | Flags::LlamaServerOld) {
                let (capabilities, by) = llama_server(flags)?;
                return Ok(Found {
                    told_by: "the chat endpoint refuses in llama-server's words".to_owned(),
                    ..found(capabilities, by)
                });
            }
            let known = flags == Flags::Known;
            let way = if known {
                Prefill::BothFlags
            } else {
                Prefill::Trailing
            };
            let continuation = continuation(ask, model, way).await?;
            let (capabilities, by) = continued(usual, way, known, &continuation)?;
            Ok(found(capabilities, by))
        }
    }
}

async fn flags(ask: &Inquiry<'_>, model: Option<&str>) -> Result<Flags, Undetected> {
    // A server of several models may have to load this one first.
    let reply = ask.post(CHAT, flags_request(model), PROBE).await?;
    match read_flags(&reply) {
        Flags::Unclear(why) => Err(Undetected::Unclear(why)),
        flags => Ok(flags),
    }
}

async fn continuation(
    ask: &Inquiry<'_>,
    model: Option<&str>,
    way: Prefill,
) -> Result<Continuation, Undetected> {
    let request = continuation_request(model, way == Prefill::BothFlags);
    let reply = ask.post(CHAT, request, PROBE).await?;
    Ok(read_continuation(&reply))
}

/// llama-server shows all of it in how it refuses the first probe.
fn llama_server(flags: Flags) -> Result<(Capabilities, &'static str), Undetected> {
    match flags {
        Flags::LlamaServer | Flags::Known => Ok((
            Flavour::LlamaServer.into(),
            "it refused contradicting flags, so it knows continue_final_message",
        )),
        Flags::LlamaServerOld => Ok((
            Flavour::LlamaServerOld.into(),
            "it refused two trailing assistant messages, and does not know continue_final_message",
        )),
        // Too old, or started with --no-prefill-assistant.
        Flags::Taken => Ok((
            Capabilities {
                prefill: Prefill::No,
                ..Flavour::LlamaServerOld.into()
            },
            "it took two trailing assistant messages, so it continues none",
        )),
        Flags::Refused(why) | Flags::Unclear(why) => Err(Undetected::Unclear(why)),
    }
}

/// What the second probe, which went out that `way`, adds to what is usual.
fn continued(
    usual: Capabilities,
    way: Prefill,
    flags_known: bool,
    continuation: &Continuation,
) -> Result<(Capabilities, &'static str), Undetected> {
    let with = |prefill, echoes| Capabilities {
        prefill,
        echoes,
        ..usual
    };
    Ok(match continuation {
        Continuation::Continues => (with(way, false), "a probe went on inside the begun word"),
        Continuation::Echoes => (with(way, true), "a probe repeated the begun message"),
        // Whoever knows the flags means them; a small model need not know how the word goes on.
        Continuation::Restarts | Continuation::Nothing if flags_known => (
            with(way, true),
            "it refused contradicting flags, so it knows continue_final_message",
        ),
        Continuation::Restarts => (
            with(Prefill::No, false),
            "a probe was answered with a new message",
        ),
        Continuation::Nothing => (
            with(Prefill::No, false),
            "a probe was answered without content, as while a model thinks",
        ),
        Continuation::Refused(_) => (with(Prefill::No, false), "it refuses a begun message"),
        Continuation::Unclear(why) => return Err(Undetected::Unclear(why.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_server_old_and_new() {
        let prefill = |flags| llama_server(flags).map(|(c, _)| (c.flavour, c.prefill));
        for new in [Flags::LlamaServer, Flags::Known] {
            assert_eq!(prefill(new), Ok((Flavour::LlamaServer, Prefill::BothFlags)));
        }
        assert_eq!(
            prefill(Flags::LlamaServerOld),
            Ok((Flavour::LlamaServerOld, Prefill::Trailing))
        );
        assert_eq!(prefill(Flags::Taken), Ok((Flavour::LlamaServerOld, Prefill::No)));
        assert!(
            prefill(Flags::Refused("400".into())).is_err(),
            "says nothing about prefill"
        );
    }

    #[test]
    fn only_what_continued_is_taken_to_continue() {
        use Continuation as C;
        use Prefill::{BothFlags, No, Trailing};
        let of = |way, flags_known, continuation| {
            continued(Flavour::None.into(), way, flags_known, &continuation)
                .map(|(c, _)| (c.prefill, c.echoes))
        };
        for (way, flags_known, continuation, expected) in [
            (Trailing, false, C::Continues, (Trailing, false)),
            (Trailing, false, C::Echoes, (Trailing, true)),
            (Trailing, false, C::Restarts, (No, false)),
            (Trailing, false, C::Nothing, (No, false)),
            (Trailing, false, C::Refused(String::new()), (No, false)),
            (BothFlags, true, C::Continues, (BothFlags, false)),
            (BothFlags, true, C::Restarts, (BothFlags, true)),
            (BothFlags, true, C::Refused(String::new()), (No, false)),
            // As TabbyAPI is asked.
            (BothFlags, false, C::Continues, (BothFlags, false)),
            (BothFlags, false, C::Echoes, (BothFlags, true)),
            (BothFlags, false, C::Restarts, (No, false)),
            (BothFlags, false, C::Nothing, (No, false)),
        ] {
            assert_eq!(
                of(way, flags_known, continuation.clone()),
                Ok(expected),
                "{way:?} {continuation:?}"
            );
        }
        assert!(of(Trailing, false, C::Unclear("503".into())).is_err());
        let ollama = continued(Flavour::Ollama.into(), Trailing, false, &C::Restarts)
            .unwrap()
            .0;
        assert_eq!((ollama.flavour, ollama.prefill), (Flavour::Ollama, Prefill::No));
    }
}
