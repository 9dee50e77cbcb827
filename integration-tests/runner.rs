//! Runs a case: against Aegis, in all the ways the case allows, and straight against the scripted upstream to check
//! the harness itself.

use crate::asked;
use crate::case::Case;
use crate::client::{self, Answer, Manner};
use crate::events;
use crate::h2c;
use crate::process::Aegis;
use crate::script::Step;
use crate::scripted::Upstream;
use crate::seen::Seen;
use crate::verdict::{check_answer, diff};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One way to run a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    split: usize,
    h2c: bool,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = if self.h2c { "h2c" } else { "http/1.1" };
        match self.split {
            0 => write!(f, "{protocol}, upstream writes whole"),
            n => write!(f, "{protocol}, upstream writes {n} bytes at a time"),
        }
    }
}

/// What came of one way.
struct Run {
    way: Way,
    answer: Answer,
    seen: Vec<Arc<Seen>>,
}

fn ways(case: &Case) -> Vec<Way> {
    let mut ways = vec![Way { split: 0, h2c: false }];
    if case.splits {
        ways.extend([7, 1].map(|split| Way { split, h2c: false }));
    }
    if case.h2c {
        ways.push(Way { split: 0, h2c: true });
    }
    ways
}

async fn upstream_of(case: &Case) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.describes(case.upstream.describes.clone());
    upstream.refuses(&case.upstream.refuses);
    upstream.health(case.upstream.health);
    upstream.slots(case.upstream.slots);
    upstream
}

/// Sets the answers to those of the case, from the first on.
fn rewind(upstream: &Upstream, case: &Case) {
    match case.upstream.answers.as_slice() {
        [] => upstream.answers(std::slice::from_ref(&case.upstream.answer)),
        answers => upstream.answers(answers),
    }
}

async fn ask(addr: SocketAddr, case: &Case, way: Way) -> Answer {
    let manner = Manner {
        leave_after: case.request.leave_after,
        ..Manner::default()
    };
    let request = case.request();
    if way.h2c {
        h2c::send(addr, &request, manner).await
    } else {
        client::send(addr, &request, manner).await
    }
}

/// Runs a case against Aegis.
///
/// # Errors
/// All that disagrees with the expectation, readable.
pub async fn run(case: &Case) -> Result<(), String> {
    let upstream = upstream_of(case).await;
    let url = if case.upstream.absent {
        closed_port().await
    } else {
        upstream.url()
    };
    let mut aegis = Aegis::in_front_of_script(&url, &case.aegis.to_string()).await;
    let mut complaints = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for way in ways(case) {
        upstream.split(way.split);
        rewind(&upstream, case);
        let before = upstream.seen().len();
        let answer = ask(aegis.addr(), case, way).await;
        // A client that leaves may be gone before its last request has been read.
        if let Some(last) = asked::requests(case).checked_sub(1) {
            upstream.wait_seen(before + last, Duration::from_secs(10)).await;
        }
        let seen = upstream.seen().split_off(before);
        for seen in &seen {
            seen.wait_ended(Duration::from_secs(10)).await;
        }
        let mut found = check_answer(case, &answer, &seen);
        found.extend(asked::check(case, &seen));
        complaints.extend(found.into_iter().map(|c| format!("[{way}] {c}")));
        if let Some(first) = runs.first()
            && answer.body != first.answer.body
            && case.request.leave_after.is_none()
        {
            complaints.push(format!(
                "[{way}] the body differs from that of [{}]:\n{}",
                first.way,
                diff(&first.answer.body, &answer.body)
            ));
        }
        runs.push(Run { way, answer, seen });
    }
    if case.expect.upstream.looked && upstream.looks() == 0 {
        complaints.push("nobody looked at /health or /slots".to_owned());
    }
    complaints.extend(check_incidents(case, &mut aegis, &runs).await);
    if complaints.is_empty() {
        return Ok(());
    }
    let answer = &runs[0].answer;
    complaints.push(format!("the first answer: {answer}"));
    complaints.push(format!("its headers: {:?}", answer.headers));
    complaints.push(format!("incidents: {:#?}", aegis.incidents()));
    complaints.push(format!("stderr of aegis:\n{}", aegis.stderr()));
    Err(format!("{}\n- {}", case.description, complaints.join("\n- ")))
}

/// Whether [`run_direct`] can run a case: the upstream's bytes reach the client unchanged, its end is a proper one, and
/// nothing in the request needs an answer that only a real server gives.
#[must_use]
pub fn runs_direct(case: &Case) -> bool {
    let ends_badly = matches!(case.upstream.answer.steps.last(), Some(Step::End { .. }));
    let expects = case
        .request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("expect"));
    case.expect.body_equals_upstream && !ends_badly && !expects && case.upstream.answers.is_empty()
}

/// Runs a case that passes unchanged straight against the scripted upstream: a check of the harness, not of Aegis.
///
/// # Errors
/// All that disagrees with the expectation of the body.
pub async fn run_direct(case: &Case) -> Result<(), String> {
    let upstream = upstream_of(case).await;
    rewind(&upstream, case);
    for way in ways(case).into_iter().filter(|w| !w.h2c) {
        upstream.split(way.split);
        rewind(&upstream, case);
        let before = upstream.seen().len();
        let answer = ask(upstream.addr(), case, way).await;
        let seen = upstream.seen().split_off(before);
        let seen = seen.first().ok_or("the upstream saw no request")?;
        seen.wait_ended(Duration::from_secs(10)).await;
        if answer.body != seen.sent() {
            return Err(format!(
                "[{way}] client and upstream disagree:\n{}",
                diff(&seen.sent(), &answer.body)
            ));
        }
        if answer.status != case.expect.status || answer.ended != case.expect.ended {
            return Err(format!("[{way}] {answer}"));
        }
        if case.request_body().is_some_and(|body| body != seen.body) {
            return Err(format!("[{way}] the request's body changed"));
        }
        let reading = events::read(&answer.body);
        let wrong: Vec<_> = case
            .expect
            .lanes
            .iter()
            .filter(|(lane, text)| reading.lane(lane) != *text)
            .collect();
        if !wrong.is_empty() {
            return Err(format!(
                "[{way}] lanes: expected {wrong:?}, got {:?}",
                reading.lanes
            ));
        }
    }
    Ok(())
}

async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free loopback port");
    format!(
        "http://{}",
        listener.local_addr().expect("a bound socket has an address")
    )
}

async fn check_incidents(case: &Case, aegis: &mut Aegis, runs: &[Run]) -> Vec<String> {
    let wanted = &case.expect.incidents;
    let mut found = Vec::new();
    aegis.wait_incidents(wanted.len() * runs.len()).await;
    aegis.terminate();
    // After its end nothing can be written any more, so "no more than these" is certain.
    if aegis.wait_exit(Duration::from_secs(60)).await.is_none() {
        found.push("aegis did not end after SIGTERM".to_owned());
    }
    if case.expect.incidents_unchecked {
        return found;
    }
    let all = aegis.incidents();
    if all.len() != wanted.len() * runs.len() {
        found.push(format!(
            "{} incidents instead of {} in each of {} runs",
            all.len(),
            wanted.len(),
            runs.len()
        ));
    }
    for Run { way, answer, seen } in runs {
        let Some(id) = answer.header("x-aegis-request-id") else {
            continue;
        };
        let mut own: Vec<&Value> = all.iter().filter(|i| i["request_id"] == id).collect();
        for want in wanted {
            match own.iter().position(|incident| matches(incident, want)) {
                Some(at) => drop(own.swap_remove(at)),
                None => found.push(format!(
                    "[{way}] no incident like {{{}}}",
                    want.to_string().trim().replace('\n', ", ")
                )),
            }
        }
        for incident in all.iter().filter(|i| i["request_id"] == id) {
            found.extend(check_hidden_id(incident, seen).map(|c| format!("[{way}] {c}")));
        }
        found.extend(
            own.iter()
                .map(|incident| format!("[{way}] an unexpected incident: {incident}")),
        );
    }
    found
}

/// The id that an incident gives its hidden request is that of a request which the upstream got, and not of the first.
fn check_hidden_id(incident: &Value, seen: &[Arc<Seen>]) -> Option<String> {
    let correction = incident.get("correction")?;
    let id = correction["hidden_request_id"].as_str();
    let hidden = seen.iter().skip(1);
    let mut asked = hidden.filter(|seen| id.is_some() && seen.header("x-aegis-request-id") == id);
    // A hidden request that never reached the upstream has an id all the same.
    let must_have_come = correction["outcome"] == "joined";
    (must_have_come && asked.next().is_none())
        .then(|| format!("no hidden request has the id {id:?} of the incident {incident}"))
}

/// Whether an incident, or a table in it, has the members that are wanted.
fn matches(incident: &Value, want: &toml::Table) -> bool {
    want.iter().all(|(key, value)| {
        if let (Some(key), Some(part)) = (key.strip_suffix("_contains"), value.as_str()) {
            return incident[key].as_str().is_some_and(|text| text.contains(part));
        }
        if let Some(key) = key.strip_suffix("_absent") {
            return incident.get(key).is_none();
        }
        match value {
            toml::Value::Table(inner) => matches(&incident[key], inner),
            value => serde_json::to_value(value).is_ok_and(|value| incident[key] == value),
        }
    })
}
