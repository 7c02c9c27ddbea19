//! Each kind of fault, and the log of requests.

use std::time::Duration;

use lbsidecar_lab::cloud::faults::What;
use reqwest::Method;
use serde_json::{Value, json};

use super::rig::Rig;

#[tokio::test]
async fn an_answer_is_replaced_as_often_as_asked() {
    let rig = Rig::start().await;
    let flavors = rig.nova("/flavors");
    rig.fault("GET", "/flavors$", What::Answer { status: 503, body: None, retry_after: Some(7) });
    let answer = rig.http.get(&flavors).header("X-Auth-Token", &rig.token).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "7");
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(body["serviceUnavailable"]["code"], 503);
    rig.get(&flavors).await;

    let body = Some(json!("<html>"));
    rig.fault("GET", "/flavors$", What::Answer { status: 502, body, retry_after: None });
    assert_eq!(rig.call(Method::GET, &flavors, Value::Null).await, (502, json!("<html>")));
}

#[tokio::test]
async fn a_request_is_lost_before_or_after_it_was_carried_out() {
    let rig = Rig::start().await;
    let servers = rig.nova("/servers");
    let wish = rig.wish("one").await;
    rig.fault("POST", "/servers$", What::Close);
    assert_eq!(rig.call(Method::POST, &servers, wish.clone()).await.0, 0);
    assert_eq!(rig.get(&servers).await["servers"], json!([]), "it was not carried out");

    rig.fault("POST", "/servers$", What::LostReply { status: None });
    assert_eq!(rig.call(Method::POST, &servers, wish.clone()).await.0, 0);
    rig.fault("POST", "/servers$", What::LostReply { status: Some(504) });
    assert_eq!(rig.call(Method::POST, &servers, wish).await.0, 504);
    assert_eq!(rig.get(&servers).await["servers"].as_array().unwrap().len(), 2, "both were carried out");

    assert_eq!(rig.cloud.journal().count("POST", "/servers"), 3);
    let log = rig.cloud.journal().entries();
    let posts: Vec<Option<u16>> = log
        .iter()
        .filter(|one| one.method == "POST" && one.path == "/v2.1/servers")
        .map(|one| one.status)
        .collect();
    assert_eq!(posts, [None, None, Some(504)]);
}

#[tokio::test]
async fn a_body_is_torn() {
    let rig = Rig::start().await;
    let flavors = rig.nova("/flavors/detail");
    rig.fault("GET", "/flavors", What::Truncate);
    let answer = rig.http.get(&flavors).header("X-Auth-Token", &rig.token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let announced = answer.content_length().unwrap();
    assert!(answer.text().await.is_err(), "fewer bytes than the announced {announced}");
    rig.get(&flavors).await;
}

#[tokio::test]
async fn an_answer_is_late_or_never_comes() {
    let rig = Rig::start().await;
    let flavors = rig.nova("/flavors");
    let asked = || {
        rig.http.get(&flavors).header("X-Auth-Token", &rig.token).timeout(Duration::from_millis(300)).send()
    };
    rig.fault("GET", "/flavors$", What::Hang);
    assert!(asked().await.unwrap_err().is_timeout());
    rig.fault("GET", "/flavors$", What::Delay { ms: 60_000 });
    assert!(asked().await.unwrap_err().is_timeout(), "the clock stands still");
    rig.fault("GET", "/flavors$", What::Delay { ms: 60_000 });
    let (answer, ()) = tokio::join!(rig.call(Method::GET, &flavors, Value::Null), async {
        while rig.cloud.faults().list().iter().any(|one| one.hits == 0) {
            tokio::task::yield_now().await;
        }
        rig.cloud.clock().advance(Duration::from_secs(60));
    });
    assert_eq!(answer.0, 200);
}

#[tokio::test]
async fn builds_and_deletions_get_stuck_or_fail() {
    let rig = Rig::start().await;
    rig.fault("POST", "/servers$", What::StuckBuild);
    let stuck = rig.ask("stuck").await;
    let good = rig.server("good").await;
    assert_eq!(rig.get(&stuck).await["server"]["status"], "BUILD");

    rig.fault("DELETE", "/servers/", What::StuckDelete);
    assert_eq!(rig.delete(&good).await, 204);
    rig.cloud.clock().advance(Duration::from_secs(600));
    assert_eq!(rig.get(&good).await["server"]["OS-EXT-STS:task_state"], "deleting");
    // Asked again, it is done; and a server that is stuck in BUILD can be deleted.
    for server in [&good, &stuck] {
        assert_eq!(rig.delete(server).await, 204);
        rig.until(server, "/itemNotFound/code", json!(404)).await;
    }

    rig.fault("POST", "/servers$", What::BuildError { message: None });
    let failed = rig.ask("failed").await;
    let failed = rig.until(&failed, "/server/status", json!("ERROR")).await;
    assert_eq!(failed["server"]["fault"]["message"], "No valid host was found. ");
    assert_eq!(
        rig.driver.calls().iter().filter(|call| call.starts_with("boot")).count(),
        1,
        "only the good one"
    );
}

#[tokio::test]
async fn a_list_lags_behind() {
    let rig = Rig::start().await;
    let detail = rig.nova("/servers/detail");
    let server = rig.server("new").await;
    let rule = json!({"path": "/servers/detail", "what": {"kind": "list-lag", "seconds": 5}});
    let control = &rig.cloud.urls().control;
    let added = rig.http.post(format!("{control}/faults")).json(&rule).send().await.unwrap();
    assert_eq!(added.status(), 200);
    let shown = async || rig.get(&detail).await["servers"].as_array().unwrap().len();
    assert_eq!(shown().await, 0);
    rig.get(&server).await;
    let pushed =
        rig.http.post(format!("{control}/clock")).json(&json!({"advance_seconds": 5})).send().await.unwrap();
    assert_eq!(pushed.status(), 200);
    assert_eq!(shown().await, 1);

    let hits = rig.http.get(format!("{control}/faults")).send().await.unwrap().text().await.unwrap();
    assert!(hits.contains(r#""hits":2"#), "{hits}");
    let log = rig.http.get(format!("{control}/log")).send().await.unwrap().text().await.unwrap();
    assert!(log.contains(r#""path":"/v2.1/servers/detail""#), "{log}");
    assert_eq!(rig.http.delete(format!("{control}/faults")).send().await.unwrap().status(), 204);
    assert!(rig.cloud.faults().list().is_empty());
    let bad = rig
        .http
        .post(format!("{control}/faults"))
        .json(&json!({"path": "(", "what": {"kind": "hang"}}))
        .send();
    assert_eq!(bad.await.unwrap().status(), 400);
}
