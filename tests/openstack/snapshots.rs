//! Snapshots: made once, waited for, told apart from other people's.

use lbsidecar::core::{cloud::FailureKind, ids::PoolName};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::stage::{BASE, Stage, answer, recorded};

const IMAGE: &str = "9e3e2acb-b381-45ac-ab16-951e05febdf9";

fn pool() -> PoolName {
    PoolName::try_new("web").unwrap()
}

fn images(images: &[Value]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"images": images}))
}

/// The recorded answer to createImage: no body, and a location with a doubled slash.
fn accepted() -> ResponseTemplate {
    ResponseTemplate::new(202)
        .insert_header("location", format!("http://10.20.20.1:9292//images/{IMAGE}").as_str())
}

#[tokio::test]
async fn a_snapshot_is_made_marked_and_waited_for() {
    let stage = Stage::new().await;
    let (server, action) = (format!("compute/servers/{BASE}"), format!("compute/servers/{BASE}/action"));
    let image = format!("image/images/{IMAGE}");
    stage.on("GET", "image/images", images(&[])).await;
    stage.on("POST", &action, accepted()).await;
    stage.once("GET", &image, answer(200, "image-queued")).await;
    stage.on("GET", &image, answer(200, "image-snapshot")).await;
    stage.once("GET", &server, answer(200, "server-active")).await;
    let mut busy = recorded("server-active");
    busy["server"]["OS-EXT-STS:task_state"] = json!("image_uploading");
    stage.once("GET", &server, ResponseTemplate::new(200).set_body_json(busy)).await;
    stage.on("GET", &server, answer(200, "server-active")).await;
    let made = stage.cloud.snapshot(BASE.parse().unwrap(), &pool()).await.unwrap();
    assert_eq!(made.to_string(), IMAGE);
    let asked = stage.came("POST", &action).await;
    let body: Value = asked[0].body_json().unwrap();
    let name = body["createImage"]["name"].as_str().unwrap();
    assert!(name.starts_with("cap-base-2"), "{name}");
    assert_eq!(body["createImage"]["metadata"], json!({"lbsidecar_pool": "web", "lbsidecar_name": name}));
    assert_eq!(stage.came("GET", &image).await.len(), 3);
}

#[tokio::test]
async fn one_that_is_being_made_is_waited_for() {
    let stage = Stage::new().await.with_base().await;
    let mut saving = recorded("image-snapshot");
    saving["status"] = json!("saving");
    saving["lbsidecar_pool"] = json!("web");
    saving["lbsidecar_name"] = saving["name"].clone();
    stage.on("GET", "image/images", images(&[saving])).await;
    stage.on("GET", &format!("image/images/{IMAGE}"), answer(200, "image-snapshot")).await;
    let made = stage.cloud.snapshot(BASE.parse().unwrap(), &pool()).await.unwrap();
    assert_eq!(made.to_string(), IMAGE);
    assert!(stage.came("POST", &format!("compute/servers/{BASE}/action")).await.is_empty());
}

#[tokio::test]
async fn one_that_fails_is_an_error() {
    let killed = {
        let mut image = recorded("image-snapshot");
        image["status"] = json!("killed");
        ResponseTemplate::new(200).set_body_json(image)
    };
    for (image, words) in
        [(answer(404, "error-glance-404"), "Nova gave it up"), (killed, "Glance says that it is killed")]
    {
        let stage = Stage::new().await.with_base().await;
        stage.on("GET", "image/images", images(&[])).await;
        stage.on("POST", &format!("compute/servers/{BASE}/action"), accepted()).await;
        stage.on("GET", &format!("image/images/{IMAGE}"), image).await;
        let error = stage.cloud.snapshot(BASE.parse().unwrap(), &pool()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Permanent);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_later_novas_answer_names_the_image_in_its_body() {
    let stage = Stage::new().await.with_base().await;
    stage.on("GET", "image/images", images(&[])).await;
    let accepted = ResponseTemplate::new(202).set_body_json(json!({"image_id": IMAGE}));
    stage.on("POST", &format!("compute/servers/{BASE}/action"), accepted).await;
    stage.on("GET", &format!("image/images/{IMAGE}"), answer(200, "image-snapshot")).await;
    assert_eq!(stage.cloud.snapshot(BASE.parse().unwrap(), &pool()).await.unwrap().to_string(), IMAGE);
}

#[tokio::test]
async fn deleting_an_image_twice_is_fine() {
    let stage = Stage::new().await;
    let path = format!("image/images/{IMAGE}");
    stage.once("DELETE", &path, ResponseTemplate::new(204)).await;
    stage.on("DELETE", &path, answer(404, "error-glance-404")).await;
    for _ in 0..2 {
        stage.cloud.delete_image(IMAGE.parse().unwrap()).await.unwrap();
    }
}
