//! `[corrections]`: hidden requests, and what the primary is told in them.

use super::reader::Section;
use crate::limits;
use aegis_core::correction::{Corrections, Template, Texts, UnknownPlaceholder};
use aegis_core::error::Code;
use aegis_core::limits::CORRECTIONS_BOUND;
use aegis_core::rules::CONFIGURABLE;
use std::time::Duration;

/// The part of `[corrections]` that concerns the proxy: how hidden requests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HiddenSettings {
    /// Hidden requests at once that wait for their answer to begin, over all workers.
    pub(crate) hidden_max: usize,
    /// How long a stream waits for an upstream that died or is loading.
    pub(crate) resume_wait: Duration,
    /// Pause between comments to a client that waits.
    pub(crate) ping: Duration,
    /// Requests that want no stream are asked upstream as streams.
    pub(crate) streamed_upstream: bool,
}

/// Reads the `[corrections]` table.
pub(super) fn read(mut section: Section<'_>) -> (Corrections, HiddenSettings) {
    let default = Corrections::default();
    let fallbacks = "\"cut\" or \"note\"";
    let bound = 0..=CORRECTIONS_BOUND as usize;
    let corrections = Corrections {
        corrections_max: section.count("corrections_max", default.corrections_max as usize, bound) as u32,
        placement: section.read("placement", default.placement, "\"user_tail\" or \"system_turn\""),
        on_exhausted: section.read("on_exhausted", default.on_exhausted, fallbacks),
        on_not_injectable: section.read("on_not_injectable", default.on_not_injectable, fallbacks),
        texts: read_texts(section.section("texts")),
    };
    let hidden = HiddenSettings {
        hidden_max: section.count("hidden_max", limits::HIDDEN_MAX, 1..=limits::HIDDEN_BOUND),
        resume_wait: section.seconds("resume_wait_s", limits::RESUME_WAIT),
        ping: section.seconds("ping_s", limits::PING),
        streamed_upstream: section.read("streamed_upstream", true, "true or false"),
    };
    section.finish();
    (corrections, hidden)
}

fn read_texts(mut section: Section<'_>) -> Texts {
    let mut texts = Texts::default();
    let codes = CONFIGURABLE.iter().map(|(code, _)| (Some(*code), code.name()));
    for (code, key) in std::iter::once((None, "default")).chain(codes) {
        read_text(&mut section, code, key, &mut texts);
    }
    section.finish();
    texts
}

fn read_text(section: &mut Section<'_>, code: Option<Code>, key: &str, texts: &mut Texts) {
    let Some(text) = section.read(key, None::<String>, "a text") else {
        return;
    };
    if text.trim().is_empty() {
        let remedy = "Write what the primary shall be told, or leave the key out.";
        return section.problem(key, Some(format!("{text:?}")), "is empty", remedy);
    }
    match Template::parse(&text) {
        Ok(template) => texts.set(code, template),
        Err(UnknownPlaceholder { name }) => {
            let remedy =
                "Write {detail}, {rule} or {excerpt}; a brace that is meant as text is doubled: {{ or }}.";
            let reason = format!("{{{name}}} is not a placeholder");
            section.problem(key, Some(super::reader::shown(&text.into())), reason, remedy);
        }
    }
}
