//! Deadlines, repetition and limits; and that a call which must not be repeated is not.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use lbsidecar::{
    core::{cloud::FailureKind, ids::ServerId},
    openstack::Exchange,
};
use serde_json::json;
use wiremock::ResponseTemplate;

use crate::stage::{BASE, Stage, answer, copy_request, recorded};

fn base() -> ServerId {
    BASE.parse().unwrap()
}

fn busy(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_string("<html><body><h1>busy</h1></body></html>")
}

#[tokio::test]
async fn a_busy_service_is_asked_again() {
    let stage = Stage::new().await;
    let path = format!("compute/servers/{BASE}");
    for status in [502, 503, 504] {
        stage.once("GET", &path, busy(status)).await;
    }
    stage.on("GET", &path, answer(200, "server-active")).await;
    assert!(stage.cloud.server(base()).await.unwrap().is_some());
    assert_eq!(stage.came("GET", &path).await.len(), 4);
}

#[tokio::test]
async fn a_service_that_stays_busy_is_left() {
    let stage = Stage::new().await;
    stage.on("DELETE", &format!("compute/servers/{BASE}"), busy(503)).await;
    let error = stage.cloud.delete(base()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (FailureKind::Transient, Some(503)));
    assert_eq!(stage.came("DELETE", &format!("compute/servers/{BASE}")).await.len(), 4);
}

#[tokio::test]
async fn retry_after_is_kept_to() {
    let stage = Stage::new().await;
    let path = format!("compute/servers/{BASE}");
    stage.once("GET", &path, busy(429).insert_header("retry-after", "1")).await;
    stage.once("GET", &path, answer(200, "server-active")).await;
    let began = Instant::now();
    stage.cloud.server(base()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    stage.on("GET", &path, busy(429).insert_header("retry-after", "3600")).await;
    let began = Instant::now();
    let error = stage.cloud.server(base()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Transient);
    assert!(began.elapsed() < Duration::from_secs(30), "an hour is not waited for, and not ignored either");
}

#[tokio::test]
async fn a_post_that_may_have_been_done_is_not_repeated() {
    for status in [500, 502, 503, 504] {
        let stage = Stage::new().await.with_base().await;
        stage.on("POST", "compute/servers", busy(status)).await;
        let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (FailureKind::Unknown, Some(status)));
        assert_eq!(stage.came("POST", "compute/servers").await.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_for_what_must_not_be_repeated() {
    let (stage, count) = Stage::rude("").await;
    let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unknown, "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1, "the client must not repeat it by itself");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_where_that_does_no_harm() {
    let (stage, count) = Stage::rude("").await;
    let error = stage.cloud.servers().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Transient, "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_truncated_body_is_no_answer() {
    let truncated = "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n{\"servers\": [";
    let (stage, count) = Stage::rude(truncated).await;
    assert_eq!(stage.cloud.servers().await.unwrap_err().kind(), FailureKind::Transient);
    assert_eq!(count.load(Ordering::SeqCst), 4);
    let (stage, count) = Stage::rude(truncated).await;
    assert_eq!(stage.cloud.create_copy(&copy_request()).await.unwrap_err().kind(), FailureKind::Unknown);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_good_status_with_a_body_that_is_none_leaves_open_what_was_done() {
    for body in ["", "{}", "<html>hello</html>", "{\"server\": {\"id\": 5}}"] {
        let stage = Stage::new().await.with_base().await;
        stage.on("POST", "compute/servers", ResponseTemplate::new(202).set_body_string(body)).await;
        let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unknown, "{body}");
    }
}

#[tokio::test]
async fn a_refused_connection_surely_did_nothing() {
    let stage = Stage::silent().await;
    stage.token_with_compute("", recorded("token"), "http://127.0.0.1:1").await;
    let error = stage.cloud.delete(base()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (FailureKind::Transient, None));
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn the_deadline_holds() {
    let stage = Stage::new().await;
    let slow = answer(200, "server-active").set_delay(Duration::from_secs(30));
    stage.on("GET", &format!("compute/servers/{BASE}"), slow).await;
    let cloud = stage.client(|settings| settings.timeout = Duration::from_millis(300));
    let began = Instant::now();
    let error = cloud.server(base()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(error.kind(), FailureKind::Transient);
    assert!(error.to_string().contains("no answer within 300ms"), "{error}");
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end() {
    let stage = Stage::new().await;
    let huge = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 17 << 20]);
    stage.on("GET", &format!("compute/servers/{BASE}"), huge).await;
    let error = stage.cloud.server(base()).await.unwrap_err();
    assert!(error.to_string().contains("longer than 16777216 bytes"), "{error}");
}

#[tokio::test]
async fn wrong_types_are_named_with_their_path() {
    let stage = Stage::new().await;
    let mut server = recorded("server-active");
    server["server"]["metadata"] = json!({"a": 1});
    let body = ResponseTemplate::new(200).set_body_json(server);
    stage.on("GET", &format!("compute/servers/{BASE}"), body).await;
    let error = stage.cloud.server(base()).await.unwrap_err().to_string();
    assert!(error.contains("server.metadata.a: invalid type"), "{error}");
    let mut servers = recorded("servers");
    servers["servers"][0]["created"] = json!("yesterday");
    stage.on("GET", "compute/servers/detail", ResponseTemplate::new(200).set_body_json(servers)).await;
    let error = stage.cloud.servers().await.unwrap_err().to_string();
    assert!(error.contains("servers[0].created"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let stage = Stage::new().await;
    let moved = ResponseTemplate::new(301).insert_header("location", "http://elsewhere.invalid/");
    stage.on("DELETE", &format!("compute/servers/{BASE}"), moved).await;
    let error = stage.cloud.delete(base()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Permanent);
    assert!(error.to_string().contains("redirects to http://elsewhere.invalid/"), "{error}");
}

#[tokio::test]
async fn every_exchange_is_counted() {
    let stage = Stage::new().await;
    stage.once("GET", &format!("compute/servers/{BASE}"), busy(503)).await;
    stage.on("GET", &format!("compute/servers/{BASE}"), answer(200, "server-active")).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let cloud = stage.observed(move |e: &Exchange| {
        sink.lock().unwrap().push((format!("{} {}", e.service, e.operation), e.status));
    });
    cloud.server(base()).await.unwrap();
    let expected = [
        ("identity get token", 201),
        ("compute read version", 200),
        ("compute look at server", 503),
        ("compute look at server", 200),
    ];
    let expected: Vec<(String, Option<u16>)> =
        expected.map(|(what, code)| (what.to_owned(), Some(code))).to_vec();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn calls_can_be_made_from_any_task() {
    let stage = Stage::new().await.with_base().await;
    let cloud = stage.cloud.clone();
    let server = tokio::spawn(async move { cloud.server(base()).await }).await.unwrap();
    assert!(server.unwrap().is_some());
}
