//! What Aegis says it did: the lines of the incident log that belong to one answer.

use aegis_core::error::Code;
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::Path;

/// One decision of Aegis's on an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) code: String,
    /// `repair`, `correct` or `cut`.
    pub(super) decision: String,
    /// Of a hidden request: how the answer was asked for again, and what became of that.
    pub(super) plan: Option<(String, String)>,
}

impl Record {
    fn read(incident: &Value) -> Self {
        let text = |pointer: &str| {
            incident
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Self {
            code: text("/code").unwrap_or_default(),
            decision: text("/decision").unwrap_or_default(),
            plan: text("/correction/plan").zip(text("/correction/outcome")),
        }
    }

    /// In a word or two.
    pub(super) fn deed(&self) -> String {
        match (self.decision.as_str(), &self.plan) {
            // Nothing was wrong with the text of an answer that broke off.
            ("correct", Some(_)) if self.code == Code::UpstreamLost.as_str() => "resumed".to_owned(),
            ("correct", Some((plan, _))) => format!("corrected ({plan})"),
            ("repair", _) => "mended".to_owned(),
            (other, _) => other.to_owned(),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.decision)?;
        if let Some((plan, outcome)) = &self.plan {
            write!(f, " {plan} {outcome}")?;
        }
        Ok(())
    }
}

/// The records of the request with that id in the log at `path`, oldest first.
///
/// # Errors
/// When the log cannot be read.
pub(super) fn of_request(path: &Path, id: &str) -> io::Result<Vec<Record>> {
    let log = std::fs::read_to_string(path)?;
    let incidents = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|incident| incident["request_id"] == id);
    Ok(incidents.map(|incident| Record::read(&incident)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_said_in_words() {
        let mut incident = json!({"code": "A201_token_loop", "decision": "correct",
            "correction": {"plan": "resume", "outcome": "joined", "attempt": 1}});
        let record = Record::read(&incident);
        assert_eq!(record.to_string(), "A201_token_loop correct resume joined");
        assert_eq!(record.deed(), "corrected (resume)");
        incident["code"] = json!("A204_upstream_lost");
        assert_eq!(Record::read(&incident).deed(), "resumed");
        incident["decision"] = json!("repair");
        assert_eq!(Record::read(&incident).deed(), "mended");
        let cut = Record::read(&json!({"code": "A203_stall", "decision": "cut"}));
        assert_eq!(
            (cut.to_string().as_str(), cut.deed().as_str()),
            ("A203_stall cut", "cut")
        );
    }
}
