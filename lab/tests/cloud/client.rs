//! The product's own client against the cloud.

use std::time::Duration;

use lbsidecar::{
    core::{
        cloud::{FailureKind, Mark, ServerStatus},
        ids::{IntentId, PoolName, ServerId},
        settings::{CloneSettings, CloneSource},
    },
    openstack::{
        Cloud, CopyRequest, LbPortRequest, Reach, Room,
        settings::{CloudSettings, Credentials, Domain, Project, Tls},
    },
};
use lbsidecar_lab::cloud::faults::What;
use uuid::Uuid;

use super::rig::Rig;

fn client(rig: &Rig) -> Cloud {
    let default = || Domain::Name("Default".into());
    Cloud::new(CloudSettings {
        auth_url: rig.cloud.urls().keystone.clone(),
        credentials: Credentials::Password {
            username: "admin".into(),
            user_domain: default(),
            password: "lab-admin".into(),
            project: Project::Name("admin".into(), default()),
        },
        region: Some("microstack".into()),
        interface: "public".into(),
        tls: Tls::System,
        timeout: Duration::from_secs(5),
        origin: "test".into(),
    })
    .unwrap()
}

fn copy_of(base: ServerId) -> CopyRequest {
    CopyRequest {
        base,
        name: "vm-clone".into(),
        mark: Mark { pool: pool(), intent: IntentId(Uuid::new_v4()), generation: 1 },
        settings: CloneSettings {
            source: CloneSource::Image,
            image: None,
            flavor: None,
            network: None,
            key_name: None,
            security_groups: None,
            user_data: None,
        },
    }
}

/// The id at the end of a server's URL.
fn id_in(url: &str) -> ServerId {
    url.rsplit('/').next().unwrap().parse().unwrap()
}

fn pool() -> PoolName {
    PoolName::try_new("web").unwrap()
}

#[tokio::test]
async fn a_pool_grows_and_shrinks() {
    let rig = Rig::start().await;
    let url = rig.server("vm").await;
    let cloud = client(&rig);
    let reach = Reach::Fixed { network: None };
    let base = cloud.find_server("vm").await.unwrap();
    let request = copy_of(base.id);
    assert_eq!(
        cloud.room_for(base.id, &request.settings, &reach).await.unwrap(),
        Room::Enough { memory_mib: 128 }
    );

    let clone = cloud.create_copy(&request).await.unwrap();
    assert_eq!(cloud.find_intent(&pool(), request.mark.intent).await.unwrap(), Some(clone));
    rig.until(&rig.nova(&format!("/servers/{clone}")), "/server/status", "ACTIVE".into()).await;
    let facts = cloud.server(clone).await.unwrap().unwrap().facts(&reach);
    assert_eq!((facts.status, &facts.mark), (ServerStatus::Active, &Some(request.mark)));
    assert!(facts.address.is_some());

    // The service's floating IP goes from the base to the load balancer, and back.
    let port = rig.port_of(&url).await;
    let floating = rig.floating_ip(&port["id"]).await;
    let address = floating["floating_ip_address"].as_str().unwrap().parse().unwrap();
    let floating = cloud.floating_ip(address).await.unwrap().unwrap();
    let network = port["network_id"].as_str().unwrap().parse().unwrap();
    let wish = LbPortRequest { pool: pool(), network, host: "lab".into(), security_groups: Vec::new() };
    let lb = cloud.ensure_lb_port(&wish).await.unwrap();
    assert_eq!(cloud.ensure_lb_port(&wish).await.unwrap(), lb);
    cloud.associate(floating.id, lb.id).await.unwrap();
    cloud.disassociate(floating.id).await.unwrap();

    let external = rig.id(&rig.neutron("/networks"), "networks", "external").await.parse().unwrap();
    let own = cloud.give_floating_ip(clone, &pool(), external).await.unwrap();
    assert_eq!(cloud.floating_ips_of_pool(&pool()).await.unwrap().len(), 1);
    cloud.release_floating_ip(own.id).await.unwrap();

    cloud.stop(base.id).await.unwrap();
    rig.until(&url, "/server/status", "SHUTOFF".into()).await;
    cloud.delete(base.id).await.unwrap();
    rig.until(&url, "/itemNotFound/code", 404.into()).await;
    assert!(cloud.server(base.id).await.unwrap().is_none());
    cloud.delete_port(lb.id).await.unwrap();
}

#[tokio::test]
async fn a_clone_is_made_of_what_the_base_is_made_of() {
    let rig = Rig::start().await;
    let base = rig.server("vm").await;
    let cloud = client(&rig);
    let clone = cloud.create_copy(&copy_of(id_in(&base))).await.unwrap();
    let clone = rig.nova(&format!("/servers/{clone}"));
    rig.until(&clone, "/server/status", "ACTIVE".into()).await;
    let made_of = async |url: &str| {
        let mut server = rig.get(url).await["server"].take();
        let kept = [
            "image",
            "flavor",
            "key_name",
            "config_drive",
            "security_groups",
            "OS-EXT-AZ:availability_zone",
            "OS-EXT-SRV-ATTR:user_data",
        ];
        server.as_object_mut().unwrap().retain(|key, _| kept.contains(&key.as_str()));
        (server, rig.port_of(url).await["network_id"].clone())
    };
    let of_base = made_of(&base).await;
    assert_eq!(of_base.0["OS-EXT-SRV-ATTR:user_data"], "IyEvYmluL3NoCg==");
    assert_eq!(made_of(&clone).await, of_base);
}

#[tokio::test]
async fn a_lost_answer_is_found_again_by_its_mark() {
    for lost in [What::LostReply { status: None }, What::LostReply { status: Some(503) }, What::Truncate] {
        let rig = Rig::start().await;
        rig.server("vm").await;
        let cloud = client(&rig);
        let request = copy_of(cloud.find_server("vm").await.unwrap().id);
        rig.fault("POST", "/servers$", lost.clone());
        let error = cloud.create_copy(&request).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unknown, "{lost:?}: {error}");
        assert!(cloud.find_intent(&pool(), request.mark.intent).await.unwrap().is_some(), "{lost:?}");
        assert_eq!(rig.cloud.journal().count("POST", "/servers"), 2, "{lost:?}: the base, and the copy once");
    }
}

#[tokio::test]
async fn why_no_host_took_a_server_is_told_though_the_list_keeps_it_back() {
    let rig = Rig::start().await;
    rig.fault("POST", "/servers$", What::BuildError { message: None });
    let url = rig.ask("vm").await;
    rig.until(&url, "/server/status", "ERROR".into()).await;
    let listed = rig.get(&rig.nova("/servers/detail")).await;
    assert_eq!((&listed["servers"][0]["status"], listed["servers"][0].get("fault")), (&"ERROR".into(), None));
    let servers = client(&rig).servers().await.unwrap();
    let facts = servers[0].facts(&Reach::Fixed { network: None });
    assert_eq!(facts.fault.as_deref(), Some("No valid host was found."));
}

#[tokio::test]
async fn a_cloud_that_stumbles_at_every_call_is_got_through() {
    let rig = Rig::start().await;
    let base = rig.server("vm").await;
    let cloud = client(&rig);
    let busy = |status| What::Answer { status, body: None, retry_after: None };
    rig.fault("POST", "/auth/tokens", busy(503));
    rig.fault("GET", "/servers/detail", busy(503));
    rig.fault("GET", "/limits", What::Truncate);
    rig.fault("GET", "/flavors/", What::Answer { status: 429, body: None, retry_after: Some(1) });
    rig.fault("GET", "/ports", What::LostReply { status: Some(504) });
    assert_eq!(cloud.servers().await.unwrap().len(), 1);
    let request = copy_of(id_in(&base));
    cloud.room_for(request.base, &request.settings, &Reach::Fixed { network: None }).await.unwrap();
    let clone = cloud.create_copy(&request).await.unwrap();
    let url = rig.nova(&format!("/servers/{clone}"));
    rig.until(&url, "/server/status", "ACTIVE".into()).await;
    rig.fault("GET", "/servers/", What::Close);
    assert!(cloud.server(clone).await.unwrap().is_some());
    // Carried out, its answer lost, asked for again: Nova calls that a conflict, and it is none.
    rig.fault("POST", "/action", What::LostReply { status: None });
    cloud.stop(clone).await.unwrap();
    rig.until(&url, "/server/status", "SHUTOFF".into()).await;
    rig.fault("DELETE", "/servers/", What::LostReply { status: Some(502) });
    cloud.delete(clone).await.unwrap();
    rig.until(&url, "/itemNotFound/code", 404.into()).await;
    let faults = rig.cloud.faults().list();
    assert!(faults.iter().all(|fault| fault.hits == 1), "{faults:?}");
}

#[tokio::test]
async fn a_token_that_ended_is_renewed() {
    let rig = Rig::start().await;
    let cloud = client(&rig);
    cloud.servers().await.unwrap();
    rig.cloud.clock().advance(Duration::from_secs(3601));
    cloud.servers().await.unwrap();
    assert_eq!(rig.cloud.journal().count("POST", "/auth/tokens"), 3, "the rig's, and two of the client's");
}

#[tokio::test]
async fn no_room_is_said_before_anything_is_asked_for() {
    let rig = Rig::start().await;
    rig.server("vm").await;
    let cloud = client(&rig);
    let base = cloud.find_server("vm").await.unwrap().id;
    let mut request = copy_of(base);
    request.settings.flavor = Some("m1.overquota".into());
    let room = cloud.room_for(base, &request.settings, &Reach::Floating).await.unwrap();
    assert!(matches!(room, Room::None(_)), "{room:?}");
    let refused = cloud.create_copy(&request).await.unwrap_err();
    assert_eq!(refused.kind(), FailureKind::Capacity, "{refused}");
    assert!(refused.request_id().is_some());
}

#[tokio::test]
async fn a_snapshot_is_waited_for() {
    let rig = Rig::start().await;
    rig.server("vm").await;
    let cloud = client(&rig);
    let base = cloud.find_server("vm").await.unwrap().id;
    let taken = tokio::spawn({
        let cloud = cloud.clone();
        async move { cloud.snapshot(base, &pool()).await }
    });
    while !taken.is_finished() {
        rig.cloud.clock().advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let image = taken.await.unwrap().unwrap();
    assert_eq!(cloud.snapshots(&pool()).await.unwrap().first().map(|image| image.id), Some(image));
    let mut request = copy_of(base);
    request.settings.source = CloneSource::Snapshot;
    let clone = cloud.create_copy(&request).await.unwrap();
    let shown = rig.get(&rig.nova(&format!("/servers/{clone}"))).await;
    assert_eq!(shown["server"]["image"]["id"], image.to_string());
    cloud.delete_image(image).await.unwrap();
}
