//! Tokens: how they are asked for, and that they are renewed once.

use std::time::Duration;

use lbsidecar::{
    core::{cloud::FailureKind, ids::ServerId},
    openstack::settings::{Credentials, Domain, Project},
};
use serde_json::{Value, json};
use wiremock::{ResponseTemplate, matchers::header};

use crate::stage::{BASE, Stage, answer, recorded, to};

fn base() -> ServerId {
    BASE.parse().unwrap()
}

/// A stage that hands out `token-one`, which Nova refuses, and then `token-two`, which is good.
async fn first_token_revoked() -> Stage {
    let stage = Stage::silent().await;
    stage.token("one", recorded("token")).await;
    stage.token("two", recorded("token")).await;
    let path = format!("compute/servers/{BASE}");
    let refuse = to("GET", &path).and(header("x-auth-token", "token-one"));
    refuse.respond_with(answer(401, "error-keystone-401")).mount(&stage.server).await;
    let accept = to("GET", &path).and(header("x-auth-token", "token-two"));
    accept.respond_with(answer(200, "server-active")).mount(&stage.server).await;
    stage
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let stage = first_token_revoked().await;
    assert!(stage.cloud.server(base()).await.unwrap().is_some());
    assert!(stage.cloud.server(base()).await.unwrap().is_some());
    assert_eq!(stage.came("POST", "identity/auth/tokens").await.len(), 2);
    assert_eq!(stage.came("GET", &format!("compute/servers/{BASE}")).await.len(), 3);
}

#[tokio::test]
async fn many_refusals_at_once_replace_it_once() {
    let stage = first_token_revoked().await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let cloud = stage.cloud.clone();
            tokio::spawn(async move { cloud.server(base()).await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().is_some());
    }
    assert_eq!(stage.came("POST", "identity/auth/tokens").await.len(), 2);
}

#[tokio::test]
async fn a_refused_post_is_sent_again_with_the_new_token() {
    let stage = Stage::silent().await.with_base().await;
    stage.token("one", recorded("token")).await;
    stage.token("two", recorded("token")).await;
    stage.once("POST", "compute/servers", answer(401, "error-keystone-401")).await;
    stage.once("POST", "compute/servers", answer(202, "server-created")).await;
    assert_eq!(stage.cloud.create_copy(&crate::stage::copy_request()).await.unwrap(), base());
}

#[tokio::test]
async fn a_service_that_refuses_every_token_does_not_wear_keystone_out() {
    let stage = Stage::new().await;
    stage.on("GET", &format!("compute/servers/{BASE}"), answer(401, "error-keystone-401")).await;
    for _ in 0..5 {
        assert_eq!(stage.cloud.server(base()).await.unwrap_err().kind(), FailureKind::Unauthorized);
    }
    assert_eq!(stage.came("POST", "identity/auth/tokens").await.len(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_after_four_fifths_of_its_life() {
    let stage = Stage::silent().await.with_base().await;
    let mut short = recorded("token");
    short["token"]["issued_at"] = json!("2026-11-24T04:25:35.000000Z");
    short["token"]["expires_at"] = json!("2026-11-24T04:25:36.000000Z");
    stage.token("one", short).await;
    stage.token("two", recorded("token")).await;
    stage.cloud.server(base()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(810)).await;
    stage.cloud.server(base()).await.unwrap();
    stage.cloud.server(base()).await.unwrap();
    assert_eq!(stage.came("POST", "identity/auth/tokens").await.len(), 2);
    let last = stage.came("GET", &format!("compute/servers/{BASE}")).await.pop().unwrap();
    assert_eq!(last.headers["x-auth-token"], "token-two");
}

#[tokio::test]
async fn wrong_credentials_are_tried_once() {
    let stage = Stage::silent().await;
    stage.on("POST", "identity/auth/tokens", answer(401, "error-keystone-401")).await;
    for _ in 0..3 {
        let error = stage.cloud.server(base()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unauthorized);
        let text = error.to_string();
        assert!(
            text.starts_with("get token for user admin: POST identity/auth/tokens answered 401: "),
            "{text}"
        );
        assert!(text.contains("check user, password and project in the test"), "{text}");
        assert!(text.ends_with("(request req-of-error-keystone-401)"), "{text}");
    }
    assert_eq!(
        stage.came("POST", "identity/auth/tokens").await.len(),
        1,
        "a wrong password may lock the user out"
    );
}

#[tokio::test]
async fn a_busy_keystone_is_asked_again() {
    let stage = Stage::silent().await.with_base().await;
    stage.once("POST", "identity/auth/tokens", ResponseTemplate::new(503)).await;
    stage.token("", recorded("token")).await;
    assert!(stage.cloud.server(base()).await.is_ok());
}

#[tokio::test]
async fn each_kind_of_credential_is_written_as_keystone_wants_it() {
    let default = || Domain::Name("Default".into());
    let secret = || "a-secret".to_owned().into();
    let password = |project| Credentials::Password {
        username: "u".into(),
        user_domain: Domain::Id("d1".into()),
        password: secret(),
        project,
    };
    let user = json!({"name": "u", "domain": {"id": "d1"}, "password": "a-secret"});
    let by_password = json!({"methods": ["password"], "password": {"user": user}});
    let cases: [(Credentials, Value); 4] = [
        (
            password(Project::Name("p".into(), default())),
            json!({"identity": by_password, "scope": {"project": {"name": "p", "domain": {"name": "Default"}}}}),
        ),
        (
            password(Project::Id("p1".into())),
            json!({"identity": by_password, "scope": {"project": {"id": "p1"}}}),
        ),
        (
            Credentials::ApplicationCredential { id: "a1".into(), secret: secret() },
            json!({"identity": {"methods": ["application_credential"],
                "application_credential": {"id": "a1", "secret": "a-secret"}}}),
        ),
        (
            Credentials::NamedApplicationCredential {
                name: "n".into(),
                secret: secret(),
                username: "u".into(),
                user_domain: default(),
            },
            json!({"identity": {"methods": ["application_credential"], "application_credential":
                {"name": "n", "user": {"name": "u", "domain": {"name": "Default"}}, "secret": "a-secret"}}}),
        ),
    ];
    for (credentials, auth) in cases {
        let stage = Stage::new().await.with_base().await;
        stage.client(|settings| settings.credentials = credentials).server(base()).await.unwrap();
        let asked = stage.came("POST", "identity/auth/tokens").await;
        assert_eq!(asked[0].body_json::<Value>().unwrap(), json!({"auth": auth}));
    }
}

#[tokio::test]
async fn no_secret_is_shown() {
    let stage = Stage::silent().await;
    stage.token("hidden", recorded("token")).await;
    stage.on("POST", "identity/auth/tokens", answer(401, "error-keystone-401")).await;
    stage.on("GET", &format!("compute/servers/{BASE}"), answer(401, "error-keystone-401")).await;
    let error = stage.cloud.server(base()).await.unwrap_err();
    for shown in [format!("{error:?}"), error.to_string(), format!("{:?}", stage.cloud)] {
        assert!(!shown.contains("a-secret") && !shown.contains("token-hidden"), "{shown}");
    }
}

#[tokio::test]
async fn what_the_catalog_lacks_is_said_with_what_it_has() {
    let stage = Stage::new().await;
    let fail = async |region: &str, interface: &str| {
        let (region, interface) = (region.to_owned(), interface.to_owned());
        let cloud = stage.client(|settings| {
            settings.region = Some(region);
            settings.interface = interface;
        });
        cloud.server(base()).await.unwrap_err()
    };
    let error = fail("elsewhere", "public").await;
    assert_eq!(error.kind(), FailureKind::Permanent);
    assert!(
        error.to_string().contains("region elsewhere; it has admin in microstack, internal in microstack"),
        "{error}"
    );
    let error = fail("microstack", "secret").await;
    assert!(error.to_string().contains("interface secret, region microstack; it has"), "{error}");
}

#[tokio::test]
async fn a_token_for_no_project_is_refused() {
    let stage = Stage::silent().await;
    let mut unscoped = recorded("token");
    unscoped["token"].as_object_mut().unwrap().remove("project");
    stage.token("", unscoped).await;
    let error = stage.cloud.server(base()).await.unwrap_err();
    assert!(error.to_string().contains("the token is for no project"), "{error}");
}

#[tokio::test]
async fn something_that_is_not_keystone_is_told_apart() {
    let stage = Stage::silent().await;
    stage.on("POST", "identity/auth/tokens", ResponseTemplate::new(200).set_body_string("It works!")).await;
    let error = stage.cloud.server(base()).await.unwrap_err();
    assert!(error.to_string().contains("is the authentication URL that of Keystone?"), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
    use lbsidecar::openstack::{Cloud, settings::Tls};
    let stage = Stage::silent().await;
    let refused = |change: &dyn Fn(&mut lbsidecar::openstack::settings::CloudSettings)| {
        let mut settings = stage.settings();
        change(&mut settings);
        Cloud::new(settings).unwrap_err().to_string()
    };
    let error = refused(&|s| s.auth_url = "keystone:5000/v3".into());
    assert!(
        error.starts_with("use cloud settings of the test: ") && error.contains("keystone:5000/v3"),
        "{error}"
    );
    let error = refused(&|s| s.tls = Tls::CaFile("/nonexistent/ca.pem".into()));
    assert!(error.contains("the CA file /nonexistent/ca.pem: No such file"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = refused(&|s| s.tls = Tls::CaFile(file.path().into()));
    assert!(error.contains("it holds no certificate in PEM form"), "{error}");
}
