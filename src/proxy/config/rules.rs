//! `[rules.<id>]`: the three keys every rule has, and each rule's own.

use super::reader::Section;
use aegis_core::decide::default_action;
use aegis_core::error::Code;
use aegis_core::limits::RING_BYTES_MAX;
use aegis_core::rule::{Action, Severity};
use aegis_core::rules::forbidden_phrase::Phrases;
use aegis_core::rules::{CONFIGURABLE, CodePolicy, Rulebook};
use std::sync::Arc;

/// Reads the `[rules]` table.
pub(super) fn read(mut rules: Section<'_>, json_depth_max: usize) -> Rulebook {
    let mut book = Rulebook::default();
    book.broken_json.depth_max = json_depth_max;
    for &(code, severity) in CONFIGURABLE {
        let mut section = rules.section(code.name());
        let severity = section.read("severity", severity, "\"minor\" or \"critical\"");
        let chosen = section.has("action");
        let action = read_action(&mut section, code, severity);
        let enabled = section.read("enabled", true, "true or false");
        book.set(
            code,
            CodePolicy {
                enabled,
                severity,
                action,
                chosen,
            },
        );
        read_own(&mut section, code, &mut book);
        section.finish();
    }
    rules.finish();
    book
}

fn read_action(section: &mut Section<'_>, code: Code, severity: Severity) -> Action {
    let wanted = "\"note\", \"repair\", \"correct\" or \"cut\"";
    let action = section.read("action", default_action(severity), wanted);
    if code == Code::UpstreamLost && action == Action::Note {
        // A stream that broke off must not look as if it had ended well.
        let remedy = "Use \"correct\" or \"cut\", or enabled = false to break the client's connection as the upstream broke yours.";
        section.problem(
            "action",
            Some("\"note\"".into()),
            "a lost stream cannot be passed over",
            remedy,
        );
    }
    action
}

fn read_own(section: &mut Section<'_>, code: Code, book: &mut Rulebook) {
    match code {
        Code::BrokenJson => {
            let own = &mut book.broken_json;
            own.always = section.read("always", own.always, "true or false");
            own.fence = section.read("fence", own.fence, "\"forbid\" or \"allow\"");
        }
        Code::ToolArguments => {
            let own = &mut book.tool_arguments;
            own.schema = section.read("schema", own.schema, "true or false");
            own.text_form = section.read("text_form", own.text_form, "true or false");
            own.heal_history = section.read("heal_history", own.heal_history, "true or false");
        }
        Code::TokenLoop => {
            let own = &mut book.token_loop;
            own.repeats_min = section.count("repeats_min", own.repeats_min as usize, 3..=1000) as u32;
            own.chars_min = section.count("chars_min", own.chars_min as usize, 20..=100_000) as u32;
            own.whitespace_chars_max = section.count(
                "whitespace_chars_max",
                own.whitespace_chars_max as usize,
                16..=1_000_000,
            ) as u32;
            own.whitespace_lines_max = section.count(
                "whitespace_lines_max",
                own.whitespace_lines_max as usize,
                4..=1_000_000,
            ) as u32;
            own.counters = section.read("counters", own.counters, "true or false");
        }
        Code::FirstTokenStall => {
            book.stall.first_token_after = section.seconds("after_s", book.stall.first_token_after);
        }
        Code::Stall => {
            let own = &mut book.stall;
            own.after = section.seconds("after_s", own.after);
            own.silence_max = section.seconds("silence_max_s", own.silence_max);
            own.strikes = section.count("strikes", own.strikes as usize, 1..=100) as u32;
        }
        Code::ForbiddenPhrase => read_phrases(section, book),
        _ => {}
    }
}

fn read_phrases(section: &mut Section<'_>, book: &mut Rulebook) {
    let mut own = aegis_core::rules::forbidden_phrase::Settings::default();
    own.literals = section.read("literals", own.literals, "a list of texts");
    own.patterns = section.read("patterns", own.patterns, "a list of regular expressions");
    own.case_insensitive = section.read("case_insensitive", own.case_insensitive, "true or false");
    let lanes = "a list of \"content\", \"reasoning\", \"refusal\" and \"tool_arguments\"";
    own.lanes = section.read("lanes", own.lanes, lanes);
    own.pattern_hold_bytes = section.count(
        "pattern_hold_bytes",
        own.pattern_hold_bytes,
        1..=RING_BYTES_MAX / 2,
    );
    match Phrases::compile(&own) {
        Ok(_) if own.literals.is_empty() && own.patterns.is_empty() => book.phrases = None,
        Ok(phrases) => book.phrases = Some(Arc::new(phrases)),
        Err(error) => {
            let key = error
                .key
                .strip_prefix("forbidden_phrase.")
                .unwrap_or(&error.key)
                .to_owned();
            section.problem(
                &key,
                Some(format!("{:?}", error.text)),
                error.reason,
                error.remedy,
            );
        }
    }
}
