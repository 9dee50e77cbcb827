//! What the upstream can do: known from the config, or found out in the background at the first request of a model.

pub(crate) mod detect;
pub(crate) mod evidence;
mod probe;

use super::base::BaseUrl;
use super::client::UpstreamClient;
use super::inquiry::{Inquiry, Key};
use crate::limits::{SCOUT_DOUBT, SCOUT_PAUSE, SCOUTED_MODELS_MAX, SCOUTED_NAME_BYTES_MAX, SCOUTS_MAX};
use aegis_core::capabilities::{Flavour, Known, Prefill};
use aegis_core::decide::Mode;
use aegis_core::dialect::Dialect;
use aegis_core::relay::Guard;
use detect::{Depth, Found, Undetected};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Knows the capabilities of each model, or finds them out. One for all workers: clones share what they know.
#[derive(Clone)]
pub(crate) struct Scout(Arc<Shared>);

struct Shared {
    base: BaseUrl,
    /// The flavour that the config names.
    configured: Option<Known>,
    /// That nothing more needs to be known.
    nothing: Known,
    /// `None` where no hidden request is ever made, so that nothing needs to be known.
    depth: Option<Depth>,
    models: Mutex<Models>,
    places: Arc<Semaphore>,
}

impl Scout {
    /// A scout for the upstream at `base`. A shadowed stream is never changed, and neither is the server's work: nothing
    /// is probed then.
    pub(crate) fn new(base: BaseUrl, flavour: Option<Flavour>, guard: &Guard) -> Self {
        let depth = match guard.policy.mode {
            _ if guard.corrections.corrections_max == 0 => None,
            Mode::Shadow => Some(Depth::Looks),
            Mode::Enforce => Some(Depth::Probes),
        };
        Self(Arc::new(Shared {
            base,
            configured: flavour.map(|flavour| Known::new(flavour.into())),
            nothing: Known::new(Flavour::None.into()),
            depth,
            models: Mutex::default(),
            places: Arc::new(Semaphore::new(SCOUTS_MAX)),
        }))
    }

    /// What is known of `model`, as far as requests in `dialect` need it. Where nothing is, a task begins to find it out with the calling worker's `client` and
    /// the `key` of the request's client, and fills the handle in. To be called on a worker.
    pub(crate) fn known(
        &self,
        dialect: Dialect,
        client: &Arc<UpstreamClient>,
        key: Option<&Key>,
        model: Option<&str>,
    ) -> Known {
        // A prompt is made longer, which every server understands: no stream is to wait for more. And a model that only
        // completes may have no chat endpoint to probe.
        if dialect == Dialect::Completions {
            return self.0.nothing.clone();
        }
        if let Some(known) = &self.0.configured {
            return known.clone();
        }
        let name = model.unwrap_or_default();
        let Some(depth) = self.0.depth.filter(|_| name.len() <= SCOUTED_NAME_BYTES_MAX) else {
            return Known::default();
        };
        let (known, ticket) = {
            let mut models = self.0.models.lock().unwrap_or_else(PoisonError::into_inner);
            models.look_up(name, Instant::now(), &self.0.places)
        };
        if let Some(ticket) = ticket {
            let trip = Trip {
                client: Arc::clone(client),
                base: self.0.base.clone(),
                key: key.cloned(),
                model: model.map(str::to_owned),
                depth,
                known: known.clone(),
            };
            // It ends by itself: everything in it has a time limit.
            tokio::spawn(trip.supervised(ticket));
        }
        known
    }

    /// Whether a task is finding out about `model` at the moment: waiting for it can help.
    pub(crate) fn is_out(&self, model: Option<&str>) -> bool {
        let models = self.0.models.lock().unwrap_or_else(PoisonError::into_inner);
        let model = models.by_name.get(model.unwrap_or_default());
        let left = model.and_then(|model| model.left.as_ref());
        left.is_some_and(|(_, task)| task.strong_count() > 0)
    }
}

/// Held by a task that is finding something out; a place among [`SCOUTS_MAX`] is in it.
type Ticket = Arc<OwnedSemaphorePermit>;

struct Model {
    known: Known,
    /// When it was first asked for, as a count: the oldest is forgotten first.
    age: u64,
    /// When a task last left, and whether it is still out.
    left: Option<(Instant, Weak<OwnedSemaphorePermit>)>,
}

impl Model {
    fn new(age: u64) -> Self {
        Self {
            known: Known::default(),
            age,
            left: None,
        }
    }

    /// Nothing is known for certain, no task is out, and the last one left a while ago. What is believed meanwhile stays
    /// until a task comes back with something better.
    fn due(&self, now: Instant) -> bool {
        let Some(pause) = pause(&self.known) else {
            return false;
        };
        let waits = |(at, task): &(Instant, Weak<_>)| task.strong_count() > 0 || now < *at + pause;
        !self.left.as_ref().is_some_and(waits)
    }
}

/// How long after a task another one may leave; `None` where all is known for certain.
fn pause(known: &Known) -> Option<Duration> {
    match known.get() {
        None => Some(SCOUT_PAUSE),
        Some(known) if known.prefill == Prefill::No => Some(SCOUT_DOUBT),
        Some(_) => None,
    }
}

/// The models that were asked for.
#[derive(Default)]
struct Models {
    by_name: HashMap<String, Model>,
    asked: u64,
}

impl Models {
    /// The handle of a model, and a ticket when it is time to find out about it and there is a place.
    fn look_up(&mut self, name: &str, now: Instant, places: &Arc<Semaphore>) -> (Known, Option<Ticket>) {
        if !self.by_name.contains_key(name) {
            self.make_room();
            self.asked += 1;
            let age = self.asked;
            self.by_name.insert(name.to_owned(), Model::new(age));
        }
        let Some(model) = self.by_name.get_mut(name).filter(|model| model.due(now)) else {
            let known = self.by_name.get(name).map(|model| model.known.clone());
            return (known.unwrap_or_default(), None);
        };
        let ticket = Arc::clone(places).try_acquire_owned().ok().map(Arc::new);
        if let Some(ticket) = &ticket {
            model.left = Some((now, Arc::downgrade(ticket)));
        }
        (model.known.clone(), ticket)
    }

    fn make_room(&mut self) {
        if self.by_name.len() < SCOUTED_MODELS_MAX {
            return;
        }
        let oldest = self.by_name.iter().min_by_key(|(_, model)| model.age);
        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
            self.by_name.remove(&oldest);
        }
    }
}

/// What a task needs to find out about one model.
struct Trip {
    client: Arc<UpstreamClient>,
    base: BaseUrl,
    key: Option<Key>,
    model: Option<String>,
    depth: Depth,
    known: Known,
}

impl Trip {
    /// Finds out, and says in the log what came of it, a panic included.
    async fn supervised(self, ticket: Ticket) {
        let model = self.model.clone();
        let model = model.as_deref().unwrap_or_default();
        let known = self.known.clone();
        match tokio::spawn(async move { self.find().await }).await {
            Ok(Ok(found)) => {
                let Found {
                    capabilities,
                    told_by,
                    prefill_by,
                } = found;
                tracing::info!(
                    model,
                    ?capabilities,
                    told_by,
                    prefill_by,
                    "what the upstream can do"
                );
                known.set(capabilities);
            }
            Ok(Err(error)) => {
                let again_s = pause(&known).unwrap_or(SCOUT_PAUSE).as_secs();
                let believed = known.get().is_some();
                tracing::warn!(model, %error, again_s, believed, "cannot find out what the upstream can do; setting upstream.flavour says it");
            }
            Err(error) => tracing::error!(model, %error, "finding out what the upstream can do failed"),
        }
        // Only now: nobody else leaves for this model before what was found is known.
        drop(ticket);
    }

    async fn find(&self) -> Result<Found, Undetected> {
        let ask = Inquiry {
            client: &self.client,
            base: &self.base,
            key: self.key.as_ref(),
        };
        let model = self.model.as_deref();
        let evidence = detect::look(&ask, model).await?;
        detect::detect(&ask, &evidence, model, self.depth).await
    }
}

#[cfg(test)]
mod tests;
