//! `aegis doctor`: what the upstream is, and which corrections are possible with it.

mod report;
mod words;

use super::{BAD_INPUT, load};
use crate::app;
use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::limits::{LOOK, SLOTS};
use crate::upstream::capabilities::detect::{self, Depth, Undetected};
use crate::upstream::capabilities::evidence::Evidence;
use crate::upstream::client::UpstreamClient;
use crate::upstream::inquiry::{Inquiry, Key, Silent};
use aegis_core::capabilities::Flavour;
use http::StatusCode;
use report::{Report, Slots};
use serde::Deserialize;
use std::env::VarError;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use words::Health;

/// The environment variable with the key of an upstream that wants one.
const KEY: &str = "AEGIS_UPSTREAM_KEY";

/// Asks the upstream and prints what it can do. Exit status 1 when it cannot be reached.
pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    let config = match configure(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let key = match key(std::env::var(KEY)) {
        Ok(key) => key,
        Err(code) => return code,
    };
    match app::run(async { Ok(examine(&config, key.as_ref(), args.model.as_deref()).await) }) {
        Ok(Ok(report)) => print(&report, args.json),
        Ok(Err(silent)) => {
            let base = &config.upstream;
            eprintln!("cannot reach the upstream {base}: {silent}. Is the inference server running there?");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("aegis cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn configure(args: &DoctorArgs) -> Result<Config, ExitCode> {
    let default = Some(Path::new("proxy.toml")).filter(|path| path.exists());
    let mut config = load(args.config.as_deref().or(default))?;
    if let Some(url) = &args.upstream {
        config.upstream = super::upstream(url)?;
    }
    Ok(config)
}

/// The key in the environment; prints what is wrong with it.
fn key(variable: Result<String, VarError>) -> Result<Option<Key>, ExitCode> {
    let key = match variable {
        Ok(key) => Key::bearer(&key).ok(),
        Err(VarError::NotPresent) => return Ok(None),
        Err(VarError::NotUnicode(_)) => None,
    };
    key.map(Some).ok_or_else(|| {
        // The key itself is nobody's to read.
        eprintln!(
            "{KEY} cannot be sent in a header. Does it hold a line break or another control character?"
        );
        ExitCode::from(BAD_INPUT)
    })
}

fn print(report: &Report, json: bool) -> ExitCode {
    let text = if json {
        match serde_json::to_string_pretty(report) {
            Ok(text) => text + "\n",
            Err(error) => {
                eprintln!("the report cannot be written as JSON: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        report.to_string()
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks everything there is to ask.
async fn examine(config: &Config, key: Option<&Key>, model: Option<&str>) -> Result<Report, Silent> {
    let client = Arc::new(UpstreamClient::new(&config.upstream, config.bounds.connect));
    let ask = Inquiry {
        client: &client,
        base: &config.upstream,
        key,
    };
    // A server that did not even take the connection is told from one that takes its time.
    let patience = config.bounds.connect + LOOK;
    let began = Instant::now();
    let health = match ask.get("/health", patience).await {
        Ok(reply) => Health::Said(reply.status, began.elapsed()),
        Err(Silent::Late(_)) => Health::Late(patience),
        Err(silent) => return Err(silent),
    };
    let (mut evidence, late) = match detect::look(&ask, model).await {
        Ok(evidence) => (evidence, None),
        Err(late @ Silent::Late(_)) => (Evidence::default(), Some(late)),
        Err(silent) => return Err(silent),
    };
    let only = match evidence.models.as_slice() {
        [only] => Some(only.id.clone()),
        _ => None,
    };
    let model = model.map(str::to_owned).or(only);
    let model = model.as_deref();
    let found = match (config.flavour, late) {
        (Some(flavour), _) => Ok(configured(flavour)),
        (None, Some(late)) => Err(late.into()),
        (None, None) => find(&ask, &evidence, model).await,
    };
    let flavour = evidence.flavour(model).map_or(Flavour::None, |told| told.flavour);
    detect::look_closer(&ask, flavour, &mut evidence).await;
    let slots = slots(&ask, &evidence).await;
    let seen = Seen {
        evidence,
        health,
        slots,
        has_key: key.is_some(),
    };
    Ok(assemble(config, seen, model, found))
}

/// What the config says is not probed.
fn configured(flavour: Flavour) -> detect::Found {
    detect::Found {
        capabilities: flavour.into(),
        told_by: "upstream.flavour says so".to_owned(),
        prefill_by: "usual for this flavour".to_owned(),
    }
}

/// Probes where that costs no more than a few tokens: of several models, only one that is asked for.
async fn find(
    ask: &Inquiry<'_>,
    evidence: &Evidence,
    model: Option<&str>,
) -> Result<detect::Found, Undetected> {
    if model.is_none() && evidence.models.len() > 1 {
        let mut found = detect::detect(ask, evidence, None, Depth::Looks).await?;
        found.prefill_by = "usual for this flavour; give --model NAME to probe one of its models".to_owned();
        return Ok(found);
    }
    detect::detect(ask, evidence, model, Depth::Probes).await
}

async fn slots(ask: &Inquiry<'_>, evidence: &Evidence) -> Option<Slots> {
    #[derive(Deserialize)]
    struct Slot {
        is_processing: bool,
    }
    let reply = ask.get("/slots", SLOTS).await.ok();
    let read = reply
        .filter(|reply| reply.status == StatusCode::OK)
        .and_then(|reply| serde_json::from_slice::<Vec<Slot>>(&reply.body).ok());
    let total = evidence.props.as_ref().and_then(|props| props.total_slots);
    match read {
        Some(slots) => Some(Slots {
            total: slots.len(),
            busy: Some(slots.iter().filter(|slot| slot.is_processing).count()),
        }),
        None => total.map(|total| Slots {
            total: total as usize,
            busy: None,
        }),
    }
}

/// What the server said without being probed.
struct Seen {
    evidence: Evidence,
    health: Health,
    slots: Option<Slots>,
    /// It was asked with a key.
    has_key: bool,
}

fn assemble(
    config: &Config,
    seen: Seen,
    model: Option<&str>,
    found: Result<detect::Found, Undetected>,
) -> Report {
    let Seen {
        evidence,
        health,
        slots,
        has_key,
    } = seen;
    let told = evidence.flavour(model);
    let mut warnings = config.warnings();
    if matches!(&found, Err(Undetected::Unclear(_) | Undetected::Withheld(_))) && !has_key {
        warnings.push(format!(
            "if the server wants a key, set the environment variable {KEY}."
        ));
    }
    let (capabilities, told_by, prefill_by) = match found {
        Ok(found) => (Some(found.capabilities), found.told_by, found.prefill_by),
        Err(error) => {
            let by = told.as_ref().map_or_else(String::new, |told| told.by.clone());
            (None, by, error.to_string())
        }
    };
    if let (Some(set), Some(told)) = (config.flavour, &told)
        && !same_kind(set, told.flavour)
    {
        warnings.push(format!(
            "upstream.flavour = {:?}, but the server looks like {}: {}.",
            set.name(),
            told.flavour.name(),
            told.by
        ));
    }
    let template = evidence.props.as_ref().map(|props| props.chat_template.as_str());
    Report {
        upstream: config.upstream.to_string(),
        health: words::health(&health),
        version: evidence.version.clone(),
        models: evidence.models.iter().map(|listed| listed.id.clone()).collect(),
        model: model.map(str::to_owned),
        flavour: capabilities
            .map(|capabilities| capabilities.flavour)
            .or(told.map(|told| told.flavour))
            .unwrap_or_default(),
        told_by,
        prefill_by,
        slots,
        template_has_thinking_switch: template.map(|template| template.contains("enable_thinking")),
        corrections: words::corrections(capabilities.as_ref(), &config.guard),
        cannot: words::cannot(capabilities.as_ref(), &config.guard),
        capabilities,
        warnings,
    }
}

/// What the server says does not tell an old llama-server from a new one.
fn same_kind(a: Flavour, b: Flavour) -> bool {
    let kind = |flavour| match flavour {
        Flavour::LlamaServerOld => Flavour::LlamaServer,
        other => other,
    };
    kind(a) == kind(b)
}

#[cfg(test)]
mod tests;
