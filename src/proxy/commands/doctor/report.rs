//! The doctor's report, for people and as JSON.

use super::words::{self, Correction};
use aegis_core::capabilities::{Capabilities, Flavour};
use serde::Serialize;
use std::fmt;

/// Models that are listed by name.
const MODELS_SHOWN: usize = 8;
/// Characters of a line; longer ones go on below.
const COLUMNS: usize = 110;
/// Width of the first column.
const LABEL: usize = 15;

/// What was found out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) upstream: String,
    pub(super) health: String,
    pub(super) version: Option<String>,
    pub(super) models: Vec<String>,
    /// The model that was asked for.
    pub(super) model: Option<String>,
    pub(super) flavour: Flavour,
    pub(super) told_by: String,
    pub(super) slots: Option<Slots>,
    /// `None` when it could not be found out.
    pub(super) capabilities: Option<Capabilities>,
    /// What shows the way of prefilling, or why it could not be found out.
    pub(super) prefill_by: String,
    pub(super) template_has_thinking_switch: Option<bool>,
    pub(super) corrections: [Correction; 3],
    pub(super) cannot: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Requests that the server can work on at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Slots {
    pub(super) total: usize,
    pub(super) busy: Option<usize>,
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.busy {
            Some(busy) => write!(f, "{}, {busy} of them busy", self.total),
            None => write!(f, "{}", self.total),
        }
    }
}

impl Report {
    fn models(&self) -> String {
        let shown = self.models.iter().take(MODELS_SHOWN).cloned();
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if self.models.is_empty() {
            text = "none listed".to_owned();
        } else if self.models.len() > MODELS_SHOWN {
            text += &format!(" and {} more", self.models.len() - MODELS_SHOWN);
        }
        text
    }

    fn capabilities(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(capabilities) = &self.capabilities else {
            return line(
                f,
                "Capabilities",
                &format!(
                    "could not be found out: {}. Until they are, only redo and append are used; \
                     upstream.flavour = \"...\" says them.",
                    self.prefill_by
                ),
            );
        };
        for (label, words) in words::capabilities(capabilities, self.template_has_thinking_switch) {
            line(f, label, &words)?;
            if label == "Prefill" {
                line(f, "", &format!("({})", self.prefill_by))?;
            }
        }
        Ok(())
    }
}

/// A label, and text that goes on below itself.
fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    let mut label = label;
    let mut row = String::new();
    for word in text.split_whitespace() {
        if !row.is_empty() && LABEL + row.chars().count() + word.chars().count() >= COLUMNS {
            writeln!(f, "{label:LABEL$}{row}")?;
            label = "";
            row.clear();
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    writeln!(f, "{label:LABEL$}{row}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "Upstream", &self.upstream)?;
        line(f, "Health", &self.health)?;
        line(f, "Version", self.version.as_deref().unwrap_or("not said"))?;
        line(f, "Models", &self.models())?;
        if let Some(model) = self.model.as_ref().filter(|_| self.models.len() != 1) {
            line(f, "Asked for", model)?;
        }
        let slots = self
            .slots
            .map_or_else(|| "not said".to_owned(), |slots| slots.to_string());
        line(f, "Slots", &slots)?;
        line(f, "Flavour", self.flavour.name())?;
        if !self.told_by.is_empty() {
            line(f, "", &format!("({})", self.told_by))?;
        }
        writeln!(f)?;
        self.capabilities(f)?;
        writeln!(f, "\nCorrections")?;
        for correction in &self.corrections {
            let possible = if correction.possible { "yes" } else { "no " };
            let label = format!("  {:8}{possible}", correction.plan);
            line(f, &label, correction.when)?;
        }
        writeln!(f, "\nCannot be corrected")?;
        for what in &self.cannot {
            writeln!(f, "  - {what}")?;
        }
        for warning in &self.warnings {
            writeln!(f)?;
            line(f, "Warning", warning)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_core::relay::Guard;

    fn report(capabilities: Option<Capabilities>) -> Report {
        let guard = Guard::default();
        Report {
            upstream: "http://127.0.0.1:8080".into(),
            health: "ok".into(),
            version: Some("b11669".into()),
            models: (0..10).map(|n| format!("model-{n}")).collect(),
            model: Some("model-3".into()),
            flavour: Flavour::LlamaServer,
            told_by: "/v1/models says owned_by \"llamacpp\"".into(),
            slots: Some(Slots {
                total: 4,
                busy: Some(1),
            }),
            capabilities,
            prefill_by: "it refused contradicting flags, so it knows continue_final_message".into(),
            template_has_thinking_switch: Some(true),
            corrections: words::corrections(capabilities.as_ref(), &guard),
            cannot: words::cannot(capabilities.as_ref(), &guard),
            warnings: vec!["upstream.flavour = \"vllm\", but the server looks like llama-server.".into()],
        }
    }

    #[test]
    fn what_is_known_stands_in_columns() {
        insta::assert_snapshot!(report(Some(Flavour::LlamaServer.into())));
    }

    #[test]
    fn what_is_not_known_is_said() {
        insta::assert_snapshot!(Report {
            prefill_by: "the probe was not answered: 401 Unauthorized: Invalid API Key".into(),
            warnings: Vec::new(),
            ..report(None)
        });
    }
}
