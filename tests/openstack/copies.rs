//! What a clone is made of, and whether there is room for one.

use lbsidecar::{
    core::{
        cloud::{BlueprintText, FailureKind},
        settings::{CloneSettings, CloneSource},
    },
    openstack::{CopyRequest, Reach, Room},
};
use serde_json::{Value, json};
use wiremock::{ResponseTemplate, matchers::query_param};

use crate::stage::{BASE, Stage, answer, copy_request, recorded, to};

const FLAVOR: &str = "6422be10-f117-4b66-a505-59f80bc70223";
const IMAGE: &str = "1c7e98dd-cbbf-4842-95ff-023b92bae56f";
const NETWORK: &str = "65376b91-b7a8-4981-9087-849bf4a99b83";
const GROUP: &str = "02d4a68d-0f53-4bf5-a138-98e35de156da";
const MARK: &str = r#"{"lbsidecar:pool": "web", "lbsidecar:intent": "5f3b1c9e-0000-4000-8000-000000000001", "lbsidecar:generation": "1"}"#;

fn mark() -> Value {
    serde_json::from_str(MARK).unwrap()
}

fn asked(change: impl FnOnce(&mut CloneSettings)) -> CopyRequest {
    let mut request = copy_request();
    change(&mut request.settings);
    request
}

/// Makes the copy and gives the `server` object that Nova was sent.
async fn sent(stage: &Stage, request: &CopyRequest) -> Value {
    stage.on("POST", "compute/servers", answer(202, "server-created")).await;
    assert_eq!(stage.cloud.create_copy(request).await.unwrap().to_string(), BASE);
    let mut body: Value = stage.came("POST", "compute/servers").await[0].body_json().unwrap();
    body["server"].take()
}

/// A stage whose base is this.
async fn with_base(base: Value) -> Stage {
    let stage = Stage::new().await;
    let base = ResponseTemplate::new(200).set_body_json(base);
    stage.on("GET", &format!("compute/servers/{BASE}"), base).await;
    stage.on("GET", "network/ports", answer(200, "ports")).await;
    stage
}

#[tokio::test]
async fn a_clone_is_what_the_base_is() {
    let stage = Stage::new().await.with_base().await;
    let expected = json!({
        "name": "vm-test-clone",
        "flavorRef": FLAVOR,
        "imageRef": IMAGE,
        "networks": [{"uuid": NETWORK}],
        "metadata": mark(),
        "security_groups": [{"name": GROUP}],
        "key_name": "lab-key",
        "availability_zone": "nova",
    });
    assert_eq!(sent(&stage, &copy_request()).await, expected);
    let ports = &stage.came("GET", "network/ports").await[0];
    assert_eq!(ports.url.query(), Some(format!("device_id={BASE}").as_str()));
}

#[tokio::test]
async fn user_data_and_config_drive_are_taken_over_when_the_api_shows_them() {
    let mut base = recorded("server-active");
    base["server"]["OS-EXT-SRV-ATTR:user_data"] = json!("IyEvYmluL3NoCg==");
    base["server"]["config_drive"] = json!("True");
    let sent = sent(&with_base(base).await, &copy_request()).await;
    assert_eq!((&sent["user_data"], &sent["config_drive"]), (&json!("IyEvYmluL3NoCg=="), &json!(true)));
}

#[tokio::test]
async fn the_order_of_network_cards_is_the_bases() {
    let mut base = recorded("server-active");
    let (first, second) = (NETWORK, "0b7bb5a5-0000-4000-8000-000000000001");
    base["server"]["addresses"]["a-net"] = json!([{"version": 4, "addr": "10.0.0.9", "OS-EXT-IPS:type": "fixed",
        "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:02"}]);
    let mut ports = recorded("ports");
    let mut other = ports["ports"][0].clone();
    other["id"] = json!("0b7bb5a5-0000-4000-8000-0000000000aa");
    other["network_id"] = json!(second);
    other["mac_address"] = json!("fa:16:3e:00:00:02");
    // Neutron has them the other way round, and a group twice.
    ports["ports"].as_array_mut().unwrap().insert(0, other);
    let stage = Stage::new().await;
    stage.on("GET", &format!("compute/servers/{BASE}"), ResponseTemplate::new(200).set_body_json(base)).await;
    stage.on("GET", "network/ports", ResponseTemplate::new(200).set_body_json(ports)).await;
    let sent = sent(&stage, &copy_request()).await;
    assert_eq!(sent["networks"], json!([{"uuid": first}, {"uuid": second}]));
    assert_eq!(sent["security_groups"], json!([{"name": GROUP}]));
}

#[tokio::test]
async fn what_the_operator_set_goes_before_the_base() {
    let stage = Stage::new().await.with_base().await;
    stage.on("GET", "compute/flavors/detail", answer(200, "flavors")).await;
    stage.on("GET", "image/images", answer(200, "images")).await;
    stage.on("GET", "network/networks", answer(200, "networks")).await;
    stage.on("GET", "network/security-groups", answer(200, "security-groups")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "#!/bin/sh\n").unwrap();
    let request = asked(|s| {
        s.flavor = Some("m1.small".into());
        s.image = Some("cirros".into());
        s.network = Some("lab-net".into());
        s.key_name = Some("other-key".into());
        s.security_groups = Some(vec!["lab-sg".into()]);
        s.user_data = Some(file.path().into());
    });
    let sent = sent(&stage, &request).await;
    assert_eq!(sent["flavorRef"], "1278697d-b234-49f5-8d92-8da791701a63");
    assert_eq!(sent["imageRef"], IMAGE);
    assert_eq!(sent["networks"], json!([{"uuid": NETWORK}]));
    assert_eq!(sent["key_name"], "other-key");
    assert_eq!(sent["security_groups"], json!([{"name": GROUP}]));
    assert_eq!(sent["user_data"], "IyEvYmluL3NoCg==");
    assert_eq!(stage.came("GET", "network/networks").await[0].url.query(), Some("name=lab-net"));
}

#[tokio::test]
async fn names_that_lead_nowhere_are_refused_before_anything_is_made() {
    for (request, words) in [
        (
            asked(|s| s.flavor = Some("m1.smal".into())),
            "find flavor m1.smal: there is none of this name or id; there are m1.huge, ",
        ),
        (
            asked(|s| s.user_data = Some("/nonexistent/ud".into())),
            "read user data /nonexistent/ud: No such file",
        ),
        (asked(|s| s.source = CloneSource::Snapshot), "no active snapshot of ours"),
    ] {
        let stage = Stage::new().await.with_base().await;
        stage.on("GET", "compute/flavors/detail", answer(200, "flavors")).await;
        stage.on("GET", "image/images", answer(200, "images")).await;
        let error = stage.cloud.create_copy(&request).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Permanent);
        assert!(error.to_string().contains(words), "{error}");
        assert!(stage.came("POST", "compute/servers").await.is_empty());
    }
}

#[tokio::test]
async fn of_two_groups_with_one_name_ours_is_meant() {
    let stage = Stage::new().await.with_base().await;
    let mut groups = recorded("security-groups");
    let mut strangers = groups["security_groups"][0].clone();
    strangers["id"] = json!("0b7bb5a5-0000-4000-8000-000000000009");
    strangers["project_id"] = json!("somebody-else");
    groups["security_groups"].as_array_mut().unwrap().push(strangers.clone());
    stage.once("GET", "network/security-groups", ResponseTemplate::new(200).set_body_json(&groups)).await;
    let request = asked(|s| s.security_groups = Some(vec!["lab-sg".into()]));
    assert_eq!(sent(&stage, &request).await["security_groups"], json!([{"name": GROUP}]));
    groups["security_groups"][0]["project_id"] = json!("somebody-else");
    stage.on("GET", "network/security-groups", ResponseTemplate::new(200).set_body_json(&groups)).await;
    let error = stage.cloud.create_copy(&request).await.unwrap_err().to_string();
    assert!(error.contains("several have this name") && error.contains(GROUP), "{error}");
}

#[tokio::test]
async fn a_base_that_boots_from_a_volume_is_refused_with_a_way_out() {
    for image in [json!(""), Value::Null] {
        let mut base = recorded("server-active");
        base["server"]["image"] = image;
        let stage = with_base(base).await;
        let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Permanent);
        assert!(
            error.to_string().contains("--image") && error.to_string().contains("--clone-source snapshot"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_flavor_that_has_only_a_name_is_looked_up() {
    let stage = with_base(recorded("server-2.79")).await;
    stage.on("GET", "compute/flavors/detail", answer(200, "flavors")).await;
    assert_eq!(sent(&stage, &copy_request()).await["flavorRef"], FLAVOR);
}

#[tokio::test]
async fn a_base_without_a_port_needs_a_network() {
    let stage = Stage::new().await;
    stage.on("GET", &format!("compute/servers/{BASE}"), answer(200, "server-active")).await;
    stage.on("GET", "network/ports", ResponseTemplate::new(200).set_body_json(json!({"ports": []}))).await;
    let error = stage.cloud.create_copy(&copy_request()).await.unwrap_err();
    assert!(error.to_string().contains("give a network with --net"), "{error}");
}

fn flavor() -> ResponseTemplate {
    let flavors = recorded("flavors");
    let flavor = flavors["flavors"].as_array().unwrap().iter().find(|f| f["id"] == FLAVOR).unwrap();
    ResponseTemplate::new(200).set_body_json(json!({"flavor": flavor}))
}

#[tokio::test]
async fn there_is_room_within_the_quotas_and_none_beyond() {
    let fixed = Reach::Fixed { network: None };
    for (key, value, reach, words) in [
        ("maxTotalInstances", 0, &fixed, "quota of instances"),
        ("totalCoresUsed", 20, &fixed, "20 of 20"),
        ("totalRAMUsed", 51_100, &fixed, "a clone needs 128, and 51100 of 51200"),
        ("unrelated", 1, &fixed, ""),
        ("maxTotalInstances", -1, &Reach::Floating, ""),
    ] {
        let stage = Stage::new().await.with_base().await;
        let mut limits = recorded("limits");
        limits["limits"]["absolute"][key] = json!(value);
        stage.on("GET", "compute/limits", ResponseTemplate::new(200).set_body_json(limits)).await;
        stage.on("GET", &format!("compute/flavors/{FLAVOR}"), flavor()).await;
        let project = "network/quotas/95b146571e8b4060abdbd64bdb5e7b82/details.json";
        stage.on("GET", project, answer(200, "quota")).await;
        let base = BASE.parse().unwrap();
        let room = stage.cloud.room_for(base, &copy_request().settings, reach).await.unwrap();
        let blueprint = BlueprintText(json!({"flavorRef": FLAVOR}).to_string());
        assert_eq!(
            stage.cloud.room_again(base, &blueprint, reach).await.unwrap(),
            room,
            "also when it is gone"
        );
        match room {
            Room::Enough { memory_mib } => assert_eq!((memory_mib, words), (128, ""), "{key}"),
            Room::None(why) => assert!(!words.is_empty() && why.contains(words), "{key}: {why}"),
        }
    }
}

#[tokio::test]
async fn floating_ips_are_counted_where_members_need_them() {
    let stage = Stage::new().await.with_base().await;
    stage.on("GET", "compute/limits", answer(200, "limits")).await;
    stage.on("GET", &format!("compute/flavors/{FLAVOR}"), flavor()).await;
    let quotas = "network/quotas/95b146571e8b4060abdbd64bdb5e7b82/details.json";
    let mut quota = recorded("quota");
    quota["quota"]["floatingip"] = json!({"limit": 2, "used": 1, "reserved": 1});
    stage.once("GET", quotas, ResponseTemplate::new(200).set_body_json(quota)).await;
    stage.on("GET", quotas, answer(403, "error-nova-403-policy")).await;
    let base = BASE.parse().unwrap();
    let settings = copy_request().settings;
    let room = stage.cloud.room_for(base, &settings, &Reach::Floating).await.unwrap();
    assert!(matches!(&room, Room::None(why) if why.contains("floating IPs")), "{room:?}");
    let room = stage.cloud.room_for(base, &settings, &Reach::Floating).await.unwrap();
    assert_eq!(room, Room::Enough { memory_mib: 128 }, "a quota that we may not see does not refuse");
}

#[tokio::test]
async fn a_clone_from_a_snapshot_takes_the_newest_of_ours() {
    let stage = Stage::new().await.with_base().await;
    let image = |id: u32, created: &str, status: &str, name: &str, marked: &str| {
        let mut image = recorded("image-snapshot");
        image["id"] = json!(format!("00000000-0000-0000-0000-00000000000{id}"));
        image["created_at"] = json!(created);
        image["status"] = json!(status);
        image["name"] = json!(name);
        image["lbsidecar_pool"] = json!("web");
        image["lbsidecar_name"] = json!(marked);
        image
    };
    let images = json!({"images": [
        image(1, "2026-11-01T00:00:00Z", "active", "a", "a"),
        image(2, "2026-11-03T00:00:00Z", "active", "b", "b"),
        image(3, "2026-11-04T00:00:00Z", "saving", "c", "c"),
        // An operator's snapshot of a server that was booted from ours: it inherited our properties.
        image(4, "2026-11-05T00:00:00Z", "active", "mine", "b"),
    ]});
    let list = to("GET", "image/images").and(query_param("lbsidecar_pool", "web"));
    list.respond_with(ResponseTemplate::new(200).set_body_json(images)).mount(&stage.server).await;
    let sent = sent(&stage, &asked(|s| s.source = CloneSource::Snapshot)).await;
    assert_eq!(sent["imageRef"], "00000000-0000-0000-0000-000000000002");
}

#[tokio::test]
async fn a_server_that_is_gone_is_made_again_from_what_was_written_down_of_it() {
    let before = Stage::new().await.with_base().await;
    let copy = sent(&before, &copy_request()).await;
    let blueprint = before.cloud.study(&copy_request()).await.unwrap();

    // Nova and Neutron know nothing of it any more: only the POST is answered.
    let after = Stage::new().await;
    after.on("POST", "compute/servers", answer(202, "server-created")).await;
    after.cloud.create_again(&copy_request(), &blueprint).await.unwrap();
    let body: Value = after.came("POST", "compute/servers").await[0].body_json().unwrap();
    assert_eq!(body["server"], copy);

    let broken = after.cloud.create_again(&copy_request(), &BlueprintText("{".into())).await.unwrap_err();
    assert!(broken.to_string().contains("written down of it cannot be read"), "{broken}");
}
