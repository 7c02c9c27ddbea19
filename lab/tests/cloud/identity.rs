//! Application credentials and the ends of tokens.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::rig::Rig;

async fn issue(rig: &Rig, identity: Value) -> (StatusCode, Option<String>, Value) {
    let url = format!("{}/auth/tokens", rig.cloud.urls().keystone);
    let answer =
        rig.http.post(url).body(json!({"auth": {"identity": identity}}).to_string()).send().await.unwrap();
    let token = answer.headers().get("x-subject-token").map(|token| token.to_str().unwrap().to_owned());
    (answer.status(), token, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn an_application_credential_opens_the_project_it_was_made_for() {
    let mut rig = Rig::start().await;
    let keystone = rig.cloud.urls().keystone.clone();
    let (_, _, me) = issue(&rig, json!({"methods": ["token"], "token": {"id": rig.token}})).await;
    let user = me["token"]["user"]["id"].as_str().unwrap().to_owned();
    let url = format!("{keystone}/users/{user}/application_credentials");
    let wish = json!({"application_credential": {"name": "side", "roles": [{"name": "member"}]}});
    let made = rig.post(&url, wish).await["application_credential"].clone();
    assert!(rig.get(&url).await["application_credentials"][0].get("secret").is_none(), "it is shown once");

    let by_id = json!({"id": made["id"], "secret": made["secret"]});
    let by_name = json!({"name": "side", "secret": made["secret"], "user": {"name": "admin", "domain": {"name": "Default"}}});
    let wrong = json!({"id": made["id"], "secret": "no"});
    for (given, wanted) in [(by_id, 201), (by_name, 201), (wrong, 401)] {
        let (status, token, body) =
            issue(&rig, json!({"methods": ["application_credential"], "application_credential": given}))
                .await;
        assert_eq!(status, wanted, "{body}");
        if let Some(token) = token {
            assert_eq!(body["token"]["project"]["name"], "admin");
            assert_eq!(body["token"]["roles"].as_array().unwrap().len(), 1, "only the role it was given");
            rig.token = token;
        }
    }
    // The role `member` is no administrator's.
    assert_eq!(rig.call(reqwest::Method::GET, &rig.nova("/os-hypervisors/detail"), Value::Null).await.0, 403);
    rig.get(&rig.nova("/servers")).await;
    assert_eq!(rig.delete(&format!("{url}/{}", made["id"].as_str().unwrap())).await, 204);
    assert_eq!(
        rig.call(reqwest::Method::GET, &rig.nova("/servers"), Value::Null).await.0,
        401,
        "its tokens went with it"
    );
}

#[tokio::test]
async fn a_token_ends_by_the_cloud_s_clock() {
    let mut rig = Rig::start().await;
    rig.cloud.clock().advance(Duration::from_secs(3599));
    rig.get(&rig.nova("/servers")).await;
    rig.cloud.clock().advance(Duration::from_secs(1));
    assert_eq!(rig.call(reqwest::Method::GET, &rig.nova("/servers"), Value::Null).await.0, 401);
    rig.login().await;
    rig.get(&rig.nova("/servers")).await;
}
