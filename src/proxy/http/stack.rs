//! The way of a request, top to bottom.

use super::admit::Admit;
use super::body::ClientBody;
use super::headers::Hygiene;
use super::identify::Identify;
use super::rescue::Rescue;
use crate::app::App;
use crate::session::Router;
use http::{Request, Response};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::sync::Arc;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

/// What serves every request of a worker. It never fails: failures are answers by then.
pub(crate) type Stack = BoxCloneSyncService<Request<Incoming>, Response<ClientBody>, Infallible>;

/// Builds the stack.
pub(crate) fn build(app: &Arc<App>) -> Stack {
    let stack = ServiceBuilder::new()
        // A request id for the answer, the log and the incidents; the access log.
        .layer_fn(Identify::new)
        // Failures, panics too, become answers with status, code and whether a retry helps.
        .layer_fn(Rescue::new)
        // No upgrade leaves the checks unseen; hop-by-hop headers end here, in both directions.
        .layer_fn(Hygiene::new)
        // A place among the requests in progress, kept until the answer's body is gone.
        .layer_fn(|inner| Admit::new(inner, Arc::clone(&app.places)))
        // Chat and legacy completions are guarded; everything else passes untouched.
        .service(Router::new(Arc::clone(app)));
    BoxCloneSyncService::new(stack)
}
