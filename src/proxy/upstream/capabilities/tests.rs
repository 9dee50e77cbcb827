use super::*;
use aegis_core::capabilities::{Capabilities, Prefill};
use aegis_core::correction::Corrections;
use aegis_core::decide::Policy;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LISTED: &str = r#"{"data":[{"id":"m","owned_by":"llamacpp"}]}"#;
const REFUSED: &str = r#"{"error":{"code":400,"message":"Cannot set both add_generation_prompt and continue_final_message to true."}}"#;

/// A server that counts requests and answers each, by its path and body, with a status and a body.
async fn server(answer: fn(&str, &str) -> (u16, &'static str)) -> (BaseUrl, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (path, body) = request(&mut socket).await;
            count.fetch_add(1, SeqCst);
            let (status, body) = answer(&path, &body);
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
            socket.write_all(text.as_bytes()).await.unwrap();
        }
    });
    (base, asked)
}

/// Path and body of a request.
async fn request(socket: &mut TcpStream) -> (String, String) {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 4096];
        let read = socket.read(&mut bytes).await.unwrap();
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let announced = head.split_once("content-length: ").map_or(0, |(_, rest)| {
            rest.lines().next().unwrap_or_default().parse().unwrap()
        });
        if body.len() >= announced {
            return (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned());
        }
    }
}

fn client(base: &BaseUrl) -> Arc<UpstreamClient> {
    Arc::new(UpstreamClient::new(base, Duration::from_secs(5)))
}

/// Waits until every task is back: only then all places are free again.
async fn back(scout: &Scout) {
    drop(scout.0.places.acquire_many(SCOUTS_MAX as u32).await.unwrap());
}

fn guard(mode: Mode, corrections_max: u32) -> Guard {
    Guard {
        policy: Policy {
            mode,
            ..Policy::default()
        },
        corrections: Corrections {
            corrections_max,
            ..Corrections::default()
        },
        ..Guard::default()
    }
}

#[tokio::test]
async fn a_model_is_looked_at_once() {
    let (base, asked) = server(|path, _| match path {
        "/v1/models" => (200, LISTED),
        _ => (400, REFUSED),
    })
    .await;
    let scout = Scout::new(base.clone(), None, &guard(Mode::Enforce, 2));
    let client = client(&base);
    let first = scout.known(Dialect::Chat, &client, None, Some("m"));
    let second = scout.clone().known(Dialect::Chat, &client, None, Some("m"));
    assert_eq!(first.get(), None);
    back(&scout).await;
    assert_eq!(first.get(), Some(Flavour::LlamaServer.into()));
    assert_eq!(second.get(), first.get());
    assert_eq!(
        scout.known(Dialect::Chat, &client, None, Some("m")).get(),
        first.get()
    );
    assert_eq!(asked.load(SeqCst), 2, "one list, one probe");
}

#[tokio::test]
async fn a_failure_is_not_repeated_at_once() {
    let (base, asked) = server(|_, _| (503, r#"{"error":{"message":"Loading model"}}"#)).await;
    let scout = Scout::new(base.clone(), None, &guard(Mode::Enforce, 2));
    let client = client(&base);
    let known = scout.known(Dialect::Chat, &client, None, None);
    back(&scout).await;
    let looks = asked.load(SeqCst);
    assert_eq!(scout.known(Dialect::Chat, &client, None, None).get(), None);
    back(&scout).await;
    assert_eq!((known.get(), asked.load(SeqCst)), (None, looks));
}

#[tokio::test]
async fn an_unknown_server_is_probed_as_a_stream() {
    let (base, asked) = server(|path, body| match path {
        "/v1/chat/completions" if body.contains("\"stream\":true") => (
            200,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"en, eight\"},\"finish_reason\":\"length\"}]}\n\n",
        ),
        "/v1/chat/completions" => (200, "{}"),
        _ => (404, ""),
    })
    .await;
    let scout = Scout::new(base.clone(), None, &guard(Mode::Enforce, 2));
    let known = scout.known(Dialect::Chat, &client(&base), None, Some("m"));
    back(&scout).await;
    let expected = Capabilities {
        prefill: Prefill::Trailing,
        ..Flavour::None.into()
    };
    assert_eq!(known.get(), Some(expected));
    assert_eq!(asked.load(SeqCst), 6, "four pages, two probes");
}

/// What is found behind a router that names nobody, when the first probe is refused with these words.
async fn behind_a_router(answer: fn(&str, &str) -> (u16, &'static str)) -> Option<Capabilities> {
    let (base, asked) = server(answer).await;
    let scout = Scout::new(base.clone(), None, &guard(Mode::Enforce, 2));
    let known = scout.known(Dialect::Chat, &client(&base), None, Some("m"));
    back(&scout).await;
    assert_eq!(asked.load(SeqCst), 5, "four pages, one probe");
    known.get()
}

#[tokio::test]
async fn a_llama_server_behind_a_router_is_known_by_its_words() {
    const SWAP: &str = r#"{"data":[{"id":"m","owned_by":"llama-swap"}]}"#;
    let new = behind_a_router(|path, _| match path {
        "/v1/models" => (200, SWAP),
        "/v1/chat/completions" => (400, REFUSED),
        _ => (404, ""),
    });
    assert_eq!(new.await, Some(Flavour::LlamaServer.into()));
    let old = behind_a_router(|path, _| match path {
        "/v1/models" => (200, SWAP),
        "/v1/chat/completions" => (
            400,
            r#"{"error":{"message":"Cannot have 2 or more assistant messages at the end of the list."}}"#,
        ),
        _ => (404, ""),
    });
    assert_eq!(old.await, Some(Flavour::LlamaServerOld.into()));
}

#[tokio::test]
async fn an_older_tabbyapi_that_ignores_the_flags_is_not_taken_to_continue() {
    let (base, asked) = server(|path, body| match path {
        "/v1/models" => (200, r#"{"data":[{"id":"m","owned_by":"tabbyAPI"}]}"#),
        _ if body.contains("continue_final_message") => (
            200,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one, two\"},\"finish_reason\":\"length\"}]}\n\n",
        ),
        _ => (500, "the flags were not sent"),
    })
    .await;
    let scout = Scout::new(base.clone(), None, &guard(Mode::Enforce, 2));
    let known = scout.known(Dialect::Chat, &client(&base), None, Some("m"));
    back(&scout).await;
    let known = known.get().map(|known| (known.flavour, known.prefill));
    assert_eq!(known, Some((Flavour::Tabbyapi, Prefill::No)));
    assert_eq!(asked.load(SeqCst), 2, "one list, one probe");
}

#[test]
fn a_failure_is_repeated_after_a_pause() {
    let mut models = Models::default();
    let places = Arc::new(Semaphore::new(2));
    let now = Instant::now();
    let ticket = models.look_up("m", now, &places).1;
    assert!(ticket.is_some());
    let later = now + SCOUT_PAUSE;
    assert!(models.look_up("m", later, &places).1.is_none(), "still out");
    drop(ticket);
    assert!(models.look_up("m", now, &places).1.is_none(), "too soon");
    let (known, ticket) = models.look_up("m", later, &places);
    assert!(ticket.is_some());
    drop(ticket);
    known.set(Flavour::LlamaServer.into());
    assert!(
        models.look_up("m", later + SCOUT_DOUBT, &places).1.is_none(),
        "known"
    );
}

#[test]
fn that_a_model_cannot_continue_is_not_believed_for_ever() {
    let mut models = Models::default();
    let places = Arc::new(Semaphore::new(2));
    let now = Instant::now();
    let (known, ticket) = models.look_up("m", now, &places);
    known.set(Capabilities::default());
    drop(ticket);
    let soon = now + SCOUT_PAUSE;
    assert!(models.look_up("m", soon, &places).1.is_none(), "believed");
    let later = now + SCOUT_DOUBT;
    let (meanwhile, ticket) = models.look_up("m", later, &places);
    assert!(ticket.is_some(), "doubted");
    assert_eq!(
        meanwhile.get(),
        Some(Capabilities::default()),
        "nobody waits for it"
    );
    drop(ticket);
    known.set(Flavour::LmStudio.into());
    assert!(models.look_up("m", later + SCOUT_DOUBT, &places).1.is_none());
}

#[tokio::test]
async fn a_list_that_is_not_shown_leaves_the_server_unknown() {
    for (depth, answer) in [
        (Mode::Enforce, (|_, _| (401, "")) as fn(&str, &str) -> _),
        (Mode::Shadow, |_, _| (503, "")),
        (Mode::Enforce, |path, _| match path {
            "/v1/models" => (429, ""),
            "/v1/chat/completions" => (200, "{}"),
            _ => (404, ""),
        }),
    ] {
        let (base, asked) = server(answer).await;
        let scout = Scout::new(base.clone(), None, &guard(depth, 2));
        let known = scout.known(Dialect::Chat, &client(&base), None, Some("m"));
        back(&scout).await;
        assert_eq!(
            (known.get(), asked.load(SeqCst)),
            (None, 4),
            "four pages, no probe"
        );
    }
}

#[test]
fn without_a_place_nobody_leaves_yet() {
    let mut models = Models::default();
    let (none, one) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
    let now = Instant::now();
    assert!(models.look_up("m", now, &none).1.is_none());
    assert!(
        models.look_up("m", now, &one).1.is_some(),
        "no pause for who never left"
    );
}

#[tokio::test]
async fn what_is_not_needed_is_not_asked() {
    let (base, asked) = server(|path, _| match path {
        "/v1/models" => (200, LISTED),
        _ => (500, "a shadowed stream must not cost the server anything"),
    })
    .await;
    let client = client(&base);
    let configured = Scout::new(base.clone(), Some(Flavour::Vllm), &guard(Mode::Enforce, 2));
    assert_eq!(
        configured.known(Dialect::Chat, &client, None, None).get(),
        Some(Flavour::Vllm.into())
    );
    let off = Scout::new(base.clone(), None, &guard(Mode::Enforce, 0));
    assert_eq!(off.known(Dialect::Chat, &client, None, None).get(), None);
    assert_eq!(asked.load(SeqCst), 0);
    let shadow = Scout::new(base.clone(), None, &guard(Mode::Shadow, 2));
    let known = shadow.known(Dialect::Chat, &client, None, None);
    back(&shadow).await;
    assert_eq!(known.get().map(|c| c.prefill), Some(Prefill::BothFlags));
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test]
async fn for_completions_nothing_is_asked_or_waited_for() {
    let (base, asked) = server(|_, _| (200, LISTED)).await;
    let scout = Scout::new(base.clone(), None, &guard(Mode::Enforce, 2));
    let known = scout.known(Dialect::Completions, &client(&base), None, Some("m"));
    back(&scout).await;
    assert_eq!(known.get(), Some(Flavour::None.into()));
    assert_eq!(asked.load(SeqCst), 0);
}

#[test]
fn the_oldest_of_too_many_models_is_forgotten() {
    let mut models = Models::default();
    let places = Arc::new(Semaphore::new(0));
    for number in 0..=SCOUTED_MODELS_MAX {
        models.look_up(&number.to_string(), Instant::now(), &places);
    }
    assert_eq!(models.by_name.len(), SCOUTED_MODELS_MAX);
    assert!(models.by_name.contains_key("1") && !models.by_name.contains_key("0"));
}
