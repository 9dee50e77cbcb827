//! What belongs to one guarded call from its request to its last byte, and the records that it leaves.

use crate::app::App;
use crate::http::rescue::Failure;
use crate::incidents::Subject;
use crate::upstream::client::{Cause, RequestBody};
use crate::upstream::inquiry::Key;
use aegis_core::decide::{Finding, Means, Outcome, Unavailable, decide};
use aegis_core::error::Code;
use aegis_core::incident::Incident;
use aegis_core::request::RequestFacts;
use aegis_core::stall::Stalled;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use uuid::Uuid;

/// One guarded call.
pub(crate) struct Session {
    pub(crate) app: Arc<App>,
    pub(crate) request_id: Uuid,
    /// The client's key, for heartbeats to servers that want it.
    pub(crate) key: Option<Key>,
    pub(crate) facts: Arc<RequestFacts>,
    /// The head of the request as it went upstream: hidden requests have the same.
    pub(crate) head: Parts,
}

impl Session {
    /// Records an incident of this call.
    pub(crate) fn record(&self, model: Option<&str>, incident: &Incident) {
        let subject = Subject {
            request_id: self.request_id,
            upstream: &self.app.upstream_name,
            model: model.or(self.facts.model.as_deref()),
        };
        self.app.incidents.record(subject, incident);
    }

    /// The client's request with this body.
    pub(super) fn request(&self, body: Bytes) -> Request<RequestBody> {
        let body: RequestBody = Full::new(body)
            .map_err(|never| -> Cause { match never {} })
            .boxed_unsync();
        let mut request = Request::new(body);
        request.method_mut().clone_from(&self.head.method);
        request.uri_mut().clone_from(&self.head.uri);
        request.headers_mut().clone_from(&self.head.headers);
        request
    }

    /// The upstream stalled before it sent a head: a failure, unless the policy passes over it.
    pub(super) fn stalled_before_head(&self, stalled: &Stalled) -> Result<(), Failure> {
        if !self.app.config.guard.rulebook.policy(stalled.code).enabled {
            return Ok(());
        }
        match self.settle(stalled.code, &stalled.detail) {
            true => Err(Failure::new(stalled.code, stalled.detail.clone())),
            false => Ok(()),
        }
    }

    /// Whether the policy ends a request that stalls like this before its head. Nothing is recorded: a hidden request is
    /// part of the incident that it was made for.
    pub(super) fn ends_stalled(&self, stalled: &Stalled) -> bool {
        let enabled = self.app.config.guard.rulebook.policy(stalled.code).enabled;
        enabled && self.decide(stalled.code, &stalled.detail).1.takes_effect()
    }

    /// Records a fault of an answer of which the client has nothing yet. Whether the policy keeps the answer back.
    pub(super) fn settle(&self, code: Code, detail: &str) -> bool {
        let (finding, outcome) = self.decide(code, detail);
        let takes_effect = outcome.takes_effect();
        self.record(None, &Incident::new(finding, outcome, 0));
        takes_effect
    }

    /// Records why an answer that the client has nothing of is kept back, and makes the failure of it.
    pub(super) fn refused(&self, code: Code, message: String) -> Failure {
        self.settle(code, &message);
        Failure::new(code, message)
    }

    fn decide(&self, code: Code, detail: &str) -> (Finding, Outcome) {
        let guard = &self.app.config.guard;
        let finding = guard.rulebook.stream_finding(code, 0, detail.to_owned());
        let unavailable = Unavailable {
            code: Code::NotInjectable,
            why: "the answer has not begun".to_owned(),
            fallback: guard.corrections.on_not_injectable,
        };
        let means = Means {
            mend: false,
            correct: Err(unavailable),
        };
        let outcome = decide(&finding, &guard.policy, means);
        (finding, outcome)
    }
}
