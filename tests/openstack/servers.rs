//! Servers: what is read of them, lists in pages, and what is done to them.

use std::net::IpAddr;

use lbsidecar::{
    core::{
        cloud::{FailureKind, ServerStatus},
        ids::{PoolName, ServerId},
    },
    openstack::Reach,
};
use serde_json::{Value, json};
use wiremock::{ResponseTemplate, matchers::query_param, matchers::query_param_is_missing};

use crate::stage::{BASE, Stage, answer, recorded, to};

fn base() -> ServerId {
    BASE.parse().unwrap()
}

/// A recorded server with other ids, names and metadata.
fn server(id: &str, name: &str, metadata: Value) -> Value {
    let mut server = recorded("server-active")["server"].take();
    server["id"] = json!(id);
    server["name"] = json!(name);
    server["metadata"] = metadata;
    server
}

fn list(servers: &[Value]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"servers": servers}))
}

#[tokio::test]
async fn a_recorded_server_gives_the_cores_facts() {
    let stage = Stage::new().await;
    stage.on("GET", &format!("compute/servers/{BASE}"), answer(200, "server-active")).await;
    let server = stage.cloud.server(base()).await.unwrap().unwrap();
    let facts = server.facts(&Reach::Fixed { network: Some("lab-net".into()) });
    assert_eq!((facts.id, facts.name.as_str(), facts.status), (base(), "cap-base", ServerStatus::Active));
    assert_eq!(facts.address, Some("192.168.100.180".parse::<IpAddr>().unwrap()));
    assert_eq!((facts.task_state, facts.fault, facts.mark, facts.locked), (None, None, None, false));
    assert_eq!(facts.created.0, 1_795_494_342_000);
    assert_eq!(server.address(&Reach::Floating), None);
    assert_eq!(server.address(&Reach::Fixed { network: Some("other-net".into()) }), None);
    let asked = &stage.came("GET", &format!("compute/servers/{BASE}")).await[0];
    assert_eq!(asked.headers["openstack-api-version"], "compute 2.9");
    assert_eq!(asked.headers["x-auth-token"], "token-");
}

#[tokio::test]
async fn of_several_addresses_the_one_is_taken_that_haproxy_reaches() {
    let stage = Stage::new().await;
    let mut server = recorded("server-active");
    let address = |addr: &str, kind: &str| json!({"addr": addr, "OS-EXT-IPS:type": kind});
    server["server"]["addresses"] = json!({
        "b-net": [address("fd00::5", "fixed"), address("10.1.0.5", "fixed"), address("10.20.20.7", "floating")],
        "a-net": [address("10.2.0.5", "fixed")],
    });
    stage
        .on("GET", &format!("compute/servers/{BASE}"), ResponseTemplate::new(200).set_body_json(server))
        .await;
    let server = stage.cloud.server(base()).await.unwrap().unwrap();
    let at = |reach: &Reach| server.address(reach).map(|ip| ip.to_string()).unwrap_or_default();
    assert_eq!(at(&Reach::Fixed { network: None }), "10.1.0.5", "the first card's, IPv4 before IPv6");
    assert_eq!(at(&Reach::Fixed { network: Some("a-net".into()) }), "10.2.0.5");
    assert_eq!(at(&Reach::Floating), "10.20.20.7");
}

#[tokio::test]
async fn every_recorded_form_of_a_server_can_be_read() {
    let stage = Stage::new().await;
    for (name, status) in [
        ("server-error", ServerStatus::Error),
        ("server-deleted", ServerStatus::Deleted),
        ("server-shutoff", ServerStatus::Shutoff),
        ("server-2.79", ServerStatus::Active),
    ] {
        stage.once("GET", &format!("compute/servers/{BASE}"), answer(200, name)).await;
        let facts = stage.cloud.server(base()).await.unwrap().unwrap().facts(&Reach::Fixed { network: None });
        assert_eq!(facts.status, status, "{name}");
        if name == "server-error" {
            assert_eq!(facts.fault.as_deref(), Some("No valid host was found."));
        }
    }
}

#[tokio::test]
async fn a_server_that_nova_does_not_know_is_none_and_a_proxys_404_is_not() {
    let stage = Stage::new().await;
    let path = format!("compute/servers/{BASE}");
    stage.once("GET", &path, answer(404, "error-nova-404")).await;
    assert!(stage.cloud.server(base()).await.unwrap().is_none());
    stage.on("GET", &path, ResponseTemplate::new(404).set_body_string("<h1>404 not here</h1>")).await;
    let error = stage.cloud.server(base()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Permanent);
    assert!(error.to_string().contains("is the endpoint right?"), "{error}");
    stage.on("DELETE", &path, ResponseTemplate::new(404).set_body_string("<h1>404 not here</h1>")).await;
    assert!(stage.cloud.delete(base()).await.is_err(), "a proxy's 404 does not mean that the server is gone");
}

/// The list is asked for every second while something is under way, and somebody else's failed servers may be many.
#[tokio::test]
async fn why_a_server_failed_is_asked_of_the_wanted_ones_alone() {
    let stage = Stage::new().await;
    let (ours, other) = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");
    let failed = |id| {
        let mut server = server(id, "vm", json!({}));
        server["status"] = json!("ERROR");
        server
    };
    stage.on("GET", "compute/servers/detail", list(&[failed(ours), failed(other)])).await;
    let alone = |id| {
        let mut server = failed(id);
        server["fault"] = json!({"message": "why"});
        json!({"server": server})
    };
    for id in [ours, other] {
        let answer = ResponseTemplate::new(200).set_body_json(alone(id));
        stage.on("GET", &format!("compute/servers/{id}"), answer).await;
    }
    let found = stage.cloud.servers_where(|server| server.id.to_string() == ours).await.unwrap();
    let faults: Vec<_> =
        found.iter().map(|one| one.fault.as_ref().map(|fault| fault.message.as_str())).collect();
    assert_eq!(faults, [Some("why")]);
    assert!(stage.came("GET", &format!("compute/servers/{other}")).await.is_empty());
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let stage = Stage::new().await;
    let ids: Vec<String> = (1..=5).map(|n| format!("00000000-0000-0000-0000-00000000000{n}")).collect();
    let page = |ids: &[String], next: bool| {
        let servers: Vec<Value> = ids.iter().map(|id| server(id, "vm", json!({}))).collect();
        let mut body = json!({"servers": servers});
        if next {
            // A link as services behind a proxy give it: not to be followed.
            body["servers_links"] =
                json!([{"rel": "next", "href": "http://inside.invalid/servers?marker=x"}]);
        }
        ResponseTemplate::new(200).set_body_json(body)
    };
    for (marker, ids, next) in
        [(None, &ids[..2], true), (Some(&ids[1]), &ids[2..4], true), (Some(&ids[3]), &ids[4..], false)]
    {
        let request = to("GET", "compute/servers/detail");
        let request = match marker {
            Some(marker) => request.and(query_param("marker", marker)),
            None => request.and(query_param_is_missing("marker")),
        };
        request.respond_with(page(ids, next)).mount(&stage.server).await;
    }
    let found: Vec<String> = stage.cloud.servers().await.unwrap().iter().map(|s| s.id.to_string()).collect();
    assert_eq!(found, ids);
}

#[tokio::test]
async fn a_list_whose_pages_repeat_ends() {
    let stage = Stage::new().await;
    let servers = [server(BASE, "vm", json!({}))];
    let body = json!({"servers": servers, "servers_links": [{"rel": "next", "href": "x"}]});
    stage.on("GET", "compute/servers/detail", ResponseTemplate::new(200).set_body_json(body)).await;
    assert_eq!(stage.cloud.servers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn names_must_be_exact_and_the_only_one() {
    let stage = Stage::new().await;
    let (a, b) = ("00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b");
    let all = [
        server(a, "twice", json!({})),
        server(b, "twice", json!({})),
        server(BASE, "vm-test", json!({})),
        server("00000000-0000-0000-0000-00000000000c", "vm-test-clone", json!({})),
    ];
    stage.on("GET", "compute/servers/detail", list(&all)).await;
    assert_eq!(stage.cloud.find_server("vm-test").await.unwrap().id, base());
    let error = stage.cloud.find_server("twice").await.unwrap_err();
    assert!(error.to_string().contains(a) && error.to_string().contains(b), "{error}");
    let error = stage.cloud.find_server("vm-tes.").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    assert!(error.to_string().starts_with("find server vm-tes.: no server"), "{error}");
    // A UUID that is no server's id may still be one's name.
    stage.on("GET", &format!("compute/servers/{a}"), answer(404, "error-nova-404")).await;
    assert_eq!(stage.cloud.find_server(a).await.unwrap_err().kind(), FailureKind::NotFound);
}

#[tokio::test]
async fn an_intent_is_found_by_the_whole_mark() {
    let stage = Stage::new().await;
    let intent = "5f3b1c9e-0000-4000-8000-000000000001";
    let mark = |pool: &str, intent: &str| json!({"lbsidecar:pool": pool, "lbsidecar:intent": intent, "lbsidecar:generation": "3"});
    let all = [
        server("00000000-0000-0000-0000-000000000001", "vm", mark("other", intent)),
        server(
            "00000000-0000-0000-0000-000000000002",
            "vm",
            mark("web", "5f3b1c9e-0000-4000-8000-000000000002"),
        ),
        server("00000000-0000-0000-0000-000000000003", "vm", json!({"lbsidecar:intent": intent})),
        server(BASE, "vm", mark("web", intent)),
    ];
    stage.on("GET", "compute/servers/detail", list(&all)).await;
    let pool = PoolName::try_new("web").unwrap();
    assert_eq!(stage.cloud.find_intent(&pool, intent.parse().unwrap()).await.unwrap(), Some(base()));
    let unknown = "5f3b1c9e-0000-4000-8000-000000000009".parse().unwrap();
    assert_eq!(stage.cloud.find_intent(&pool, unknown).await.unwrap(), None);
    let servers = stage.cloud.servers().await.unwrap();
    assert_eq!(servers[3].mark().map(|m| m.generation), Some(3));
}

#[tokio::test]
async fn power_and_delete_may_be_asked_for_twice() {
    let stage = Stage::new().await;
    let (server, action) = (format!("compute/servers/{BASE}"), format!("compute/servers/{BASE}/action"));
    stage.once("POST", &action, ResponseTemplate::new(202)).await;
    stage.cloud.stop(base()).await.unwrap();
    assert_eq!(stage.came("POST", &action).await[0].body_json::<Value>().unwrap(), json!({"os-stop": null}));
    stage.on("POST", &action, answer(409, "error-nova-409")).await;
    stage.once("GET", &server, answer(200, "server-shutoff")).await;
    stage.cloud.stop(base()).await.unwrap();
    stage.on("GET", &server, answer(200, "server-active")).await;
    stage.cloud.start(base()).await.unwrap();
    assert_eq!(stage.cloud.stop(base()).await.unwrap_err().kind(), FailureKind::Conflict);
    stage.once("DELETE", &server, ResponseTemplate::new(204)).await;
    stage.cloud.delete(base()).await.unwrap();
    stage.on("DELETE", &server, answer(404, "error-nova-404")).await;
    stage.cloud.delete(base()).await.unwrap();
}

#[tokio::test]
async fn hostile_names_and_statuses_do_no_harm() {
    let stage = Stage::new().await;
    let mut evil = server(BASE, "vm\n\u{1b}[2J\u{202e}; rm -rf /", json!({"lbsidecar:pool": "../etc"}));
    evil["status"] = json!("ACTIVE\u{0}");
    stage.on("GET", "compute/servers/detail", list(&[evil])).await;
    let servers = stage.cloud.servers().await.unwrap();
    assert_eq!(servers[0].status(), ServerStatus::Other);
    assert_eq!(servers[0].mark(), None);
    let error = stage.cloud.find_server("nope\n\u{1b}[2J").await.unwrap_err().to_string();
    assert!(!error.contains(['\n', '\u{1b}']), "{error:?}");
}

#[tokio::test]
async fn the_console_is_text() {
    let stage = Stage::new().await;
    stage.on("POST", &format!("compute/servers/{BASE}/action"), answer(200, "console")).await;
    assert!(stage.cloud.console_log(base(), 20).await.unwrap().contains("BOOT-OK"));
}
