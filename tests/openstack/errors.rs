//! Every recorded error: its kind for the core, and its sentence for people.

use lbsidecar::core::cloud::FailureKind::{self, Capacity, Conflict, NotFound, Permanent, Unknown};
use wiremock::ResponseTemplate;

use crate::stage::{BASE, FLOATING, PORT, Stage, answer, copy_request};

#[tokio::test]
async fn nova_refusing_a_server() {
    let cases: [(u16, &str, FailureKind, &str); 5] = [
        (
            403,
            "error-nova-403-quota",
            Capacity,
            "Quota exceeded for ram: Requested 1000000, but already used 384 of 51200 ram",
        ),
        (
            403,
            "error-nova-403-policy",
            Permanent,
            "Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed.",
        ),
        (409, "error-nova-409", Conflict, "Cannot 'start' instance"),
        (
            406,
            "error-nova-406",
            Permanent,
            "Version 2.999 is not supported by the API. Minimum is 2.1 and maximum is 2.93.",
        ),
        (404, "error-nova-404", NotFound, "could not be found."),
    ];
    for (status, name, kind, words) in cases {
        let stage = Stage::new().await.with_base().await;
        stage.on("POST", "compute/servers", answer(status, name)).await;
        let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{name}");
        let text = error.to_string();
        let start = format!("create server vm-test-clone: POST compute/servers answered {status}: ");
        assert!(text.starts_with(&start) && text.contains(words), "{text}");
        assert!(text.ends_with(&format!("(request req-of-{name})")), "{text}");
    }
}

#[tokio::test]
async fn neutron_refusing_a_floating_ip() {
    let (id, port) = (FLOATING.parse().unwrap(), PORT.parse().unwrap());
    for (status, name, kind) in [
        (409, "error-neutron-409-quota", Capacity),
        (409, "error-neutron-409-associated", Conflict),
        (404, "error-neutron-404", NotFound),
    ] {
        let stage = Stage::new().await;
        stage.on("PUT", &format!("network/floatingips/{FLOATING}"), answer(status, name)).await;
        let error = stage.cloud.associate(id, port).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            error
                .to_string()
                .starts_with(&format!("associate floating IP {FLOATING}: PUT network/floatingips/")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn glance_writes_for_browsers_and_we_do_not() {
    let stage = Stage::new().await;
    stage.on("GET", "image/images", answer(404, "error-glance-404")).await;
    let error = stage.cloud.snapshots(&"web".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), NotFound);
    assert_eq!(error.message(), "No image found with ID 9e3e2acb-b381-45ac-ab16-951e05febdf9");
}

#[tokio::test]
async fn errors_without_a_known_shape_are_quoted_within_reason() {
    for (body, words) in [
        ("", "no explanation was given"),
        ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        ("upstream\r\n\u{1b}[31mconnect error", "upstream [31mconnect error"),
        (&"x".repeat(100_000), "xxx…"),
        (r#"{"error": "a text"}"#, r#"{"error": "a text"}"#),
        (&"[".repeat(100_000), "[[[…"),
    ] {
        let stage = Stage::new().await.with_base().await;
        stage.on("POST", "compute/servers", ResponseTemplate::new(500).set_body_string(body)).await;
        let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
        assert_eq!(error.kind(), Unknown);
        let text = error.to_string();
        assert!(text.contains(words) && text.len() < 600 && !text.contains(['\n', '\u{1b}']), "{text:?}");
    }
}

#[tokio::test]
async fn what_to_do_next_is_said_where_it_is_known() {
    let bad = |message: &str| {
        let body = serde_json::json!({"badRequest": {"code": 400, "message": message}});
        ResponseTemplate::new(400).set_body_json(body)
    };
    for (message, advice) in [
        ("Can not find requested image", "--clone-source snapshot"),
        ("Invalid key_name provided.", "--key-name"),
    ] {
        let stage = Stage::new().await.with_base().await;
        stage.on("POST", "compute/servers", bad(message)).await;
        let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
        assert!(error.to_string().contains(advice), "{error}");
    }
    let stage = Stage::new().await;
    stage.on("GET", &format!("compute/servers/{BASE}"), answer(404, "error-nova-404")).await;
    stage.on("GET", "network/ports", ResponseTemplate::new(200).set_body_string(r#"{"ports": []}"#)).await;
    let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (NotFound, format!("copy server {BASE}: it is gone")));
}
