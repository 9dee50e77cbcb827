use super::*;
use crate::limits::HEALTH;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn config(url: &str) -> Config {
    Config::parse(&format!("[upstream]\nurl = \"{url}\"\n[limits]\nconnect_s = 1")).unwrap()
}

#[tokio::test]
async fn a_busy_server_is_not_an_unreachable_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                let read = socket.read(&mut bytes).await.unwrap();
                if bytes[..read].starts_with(b"GET /v1/models") {
                    std::future::pending::<()>().await;
                } else if bytes[..read].starts_with(b"GET /health") {
                    tokio::time::sleep(HEALTH + Duration::from_millis(200)).await;
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
                socket.write_all(answer).await.unwrap();
            });
        }
    });
    let report = examine(&config(&url), None, None).await.unwrap();
    assert!(report.health.starts_with("ok, but slow"), "{}", report.health);
    assert_eq!(report.capabilities, None);
    assert!(report.prefill_by.contains("/v1/models"), "{}", report.prefill_by);
}

#[tokio::test]
async fn nobody_at_the_address_is_nobody() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = examine(&config(&format!("http://{free}")), None, None).await;
    assert!(matches!(silent, Err(Silent::Failed(_))));
}

#[test]
fn a_key_that_cannot_be_sent_is_not_dropped() {
    assert!(key(Err(VarError::NotPresent)).is_ok_and(|key| key.is_none()));
    assert!(key(Ok("sk-1".to_owned())).is_ok_and(|key| key.is_some()));
    assert!(key(Ok("sk-1\n".to_owned())).is_err());
    let bytes = OsString::from_vec(vec![0xff]);
    assert!(key(Err(VarError::NotUnicode(bytes))).is_err());
}
