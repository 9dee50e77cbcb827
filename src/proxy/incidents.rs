//! The incident log: one JSON object per line, written before anything else happens.

use crate::config::IncidentSettings;
use aegis_core::decide::Decision;
use aegis_core::incident::Incident;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Whose incident it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The request's id, as in the `x-aegis-request-id` header.
    pub(crate) request_id: Uuid,
    /// Base URL of the upstream.
    pub(crate) upstream: &'a str,
    /// The model, as far as known.
    pub(crate) model: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: Uuid,
    time: String,
    request_id: Uuid,
    #[serde(flatten)]
    incident: &'a Incident,
    upstream: &'a str,
    model: Option<&'a str>,
}

/// Where incidents are written. They are rare and must not be lost, so the line is written by the stream's own task,
/// in one call, without a queue in between.
pub(crate) struct IncidentLog {
    sink: Mutex<Box<dyn Write + Send>>,
}

impl IncidentLog {
    /// Opens the log.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub(crate) fn open(settings: &IncidentSettings) -> std::io::Result<Self> {
        let sink: Box<dyn Write + Send> = match &settings.file {
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(std::io::stderr()),
        };
        Ok(Self {
            sink: Mutex::new(sink),
        })
    }

    /// Records one incident, and says so in the log.
    pub(crate) fn record(&self, subject: Subject<'_>, incident: &Incident) {
        let line = Line {
            id: Uuid::now_v7(),
            time: jiff::Timestamp::now().to_string(),
            request_id: subject.request_id,
            incident,
            upstream: subject.upstream,
            model: subject.model,
        };
        report(&line);
        let mut text = match serde_json::to_vec(&line) {
            Ok(text) => text,
            Err(error) => {
                return tracing::error!(%error, code = %incident.code, "incident cannot be written as JSON");
            }
        };
        text.push(b'\n');
        // A writer that panicked left at worst half a line; the next one starts its own.
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = sink.write_all(&text).and_then(|()| sink.flush()) {
            tracing::error!(%error, code = %incident.code, "incident could not be written");
        }
    }
}

fn report(line: &Line<'_>) {
    let Incident {
        code,
        decision,
        shadow,
        detail,
        action,
        ..
    } = line.incident;
    let lane = line
        .incident
        .lane
        .map(|lane| lane.to_string())
        .unwrap_or_default();
    let request_id = line.request_id;
    let unavailable = line
        .incident
        .unavailable
        .as_ref()
        .map(|why| why.why.as_str())
        .unwrap_or_default();
    match decision {
        Decision::Pass | Decision::Hold => {
            tracing::info!(%request_id, %code, lane, detail, ?action, unavailable, shadow, "noted");
        }
        Decision::Repair => tracing::info!(%request_id, %code, lane, detail, shadow, "mended"),
        Decision::Correct => {
            let correction = line.incident.correction.as_ref();
            let (plan, waited_ms) = (correction.map(|c| c.plan), correction.map(|c| c.waited_ms));
            tracing::info!(%request_id, %code, lane, detail, ?plan, waited_ms, shadow, "corrected");
        }
        Decision::Cut => {
            tracing::warn!(%request_id, %code, lane, detail, ?action, unavailable, shadow, "cut");
        }
    }
}
