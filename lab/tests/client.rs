//! lbsidecar's OpenStack client against the lab's cloud: both halves of the same story, each written from the same recordings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test that is how a check fails"
)]
#![allow(missing_docs, reason = "the names of tests say what they are about")]

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use lbsidecar::{
    core::{
        cloud::{FailureKind, Mark, ServerStatus},
        ids::{FloatingIpId, PoolName, ServerId},
        settings::{CloneSettings, CloneSource},
    },
    openstack::{
        Cloud, CopyRequest, LbPortRequest, Reach, Room, Server,
        settings::{CloudSettings, Credentials, Domain, Project, Tls},
    },
};
use lbsidecar_lab::cloud::{
    CloudHandle, Service,
    faults::{Rule, What},
    null::NullDriver,
    options::{Options, Pace},
    serve,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// The lab's cloud, a client of it, and plain HTTP beside it for what the client does not do.
struct Rig {
    lab: CloudHandle,
    cloud: Cloud,
    http: reqwest::Client,
    token: String,
    base: ServerId,
}

impl Rig {
    /// With a base that is ACTIVE and has a port, made as an operator would.
    async fn new() -> Self {
        let pace = Pace {
            scheduling: Duration::from_millis(20),
            networking: Duration::from_millis(20),
            floating_ip: Duration::from_millis(20),
            deleted: Duration::from_millis(20),
            ..Pace::REAL
        };
        let lab =
            serve(Arc::new(NullDriver::default()), Options { pace, ..Options::default() }).await.unwrap();
        let cloud = Cloud::new(settings(&lab)).unwrap();
        let mut rig = Self {
            lab,
            cloud,
            http: reqwest::Client::new(),
            token: String::new(),
            base: ServerId(Uuid::nil()),
        };
        rig.token = rig.get_token().await;
        rig.base = rig.make_base().await;
        rig.until(rig.base, "ACTIVE", |server| server.status() == ServerStatus::Active).await;
        rig
    }

    async fn get_token(&self) -> String {
        let user = json!({"name": "admin", "domain": {"name": "Default"}, "password": "lab-admin"});
        let project = json!({"name": "admin", "domain": {"name": "Default"}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": {"project": project}}});
        let url = format!("{}/auth/tokens", self.lab.urls().keystone);
        let answer = self.http.post(url).json(&body).send().await.unwrap();
        answer.headers()["x-subject-token"].to_str().unwrap().to_owned()
    }

    async fn get(&self, url: String) -> Value {
        let request = self
            .http
            .get(url)
            .header("x-auth-token", &self.token)
            .header("openstack-api-version", "compute 2.3");
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn post(&self, url: String, body: Value) -> Value {
        let request = self.http.post(url).header("x-auth-token", &self.token).json(&body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn make_base(&self) -> ServerId {
        let urls = self.lab.urls().clone();
        let id_of = |list: &Value, name: &str| {
            let list = list.as_object().unwrap().values().find(|v| v.is_array()).unwrap();
            list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["id"].clone()
        };
        let image = id_of(&self.get(format!("{}/v2/images", urls.glance)).await, "cirros");
        let flavor = id_of(&self.get(format!("{}/flavors", urls.nova)).await, "m1.tiny");
        let network = id_of(&self.get(format!("{}/v2.0/networks", urls.neutron)).await, "lab-net");
        let server = json!({
            "name": "vm-test",
            "imageRef": image,
            "flavorRef": flavor,
            "networks": [{"uuid": network}],
            "security_groups": [{"name": "lab-sg"}],
            "key_name": "lab-key",
            "config_drive": true,
            "user_data": "IyEvYmluL3NoCg==",
        });
        let made = self.post(format!("{}/servers", urls.nova), json!({"server": server})).await;
        made["server"]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Looks until the server is as wanted.
    async fn until(&self, id: ServerId, what: &str, wanted: impl Fn(&Server) -> bool) -> Server {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let server = self.cloud.server(id).await.unwrap().unwrap();
            if wanted(&server) {
                return server;
            }
            assert!(Instant::now() < deadline, "{id} is not {what}: {server:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_gone(&self, id: ServerId) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.cloud.server(id).await.unwrap().is_some_and(|s| s.status() != ServerStatus::Deleted) {
            assert!(Instant::now() < deadline, "{id} is not gone");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A server as Nova shows it, without what differs between any two servers.
    async fn shape(&self, id: ServerId) -> Value {
        let mut shown = self.get(format!("{}/servers/{id}", self.lab.urls().nova)).await["server"].take();
        let all = shown.as_object_mut().unwrap();
        let kept = [
            "image",
            "flavor",
            "key_name",
            "config_drive",
            "security_groups",
            "OS-EXT-AZ:availability_zone",
            "OS-EXT-SRV-ATTR:user_data",
        ];
        all.retain(|key, _| kept.contains(&key.as_str()));
        shown
    }

    fn fault(&self, service: Service, method: &str, path: &str, what: What) {
        let (method, path) = (Some(method.to_owned()), path.to_owned());
        self.lab.faults().add(Rule { service: Some(service), method, path, what, times: Some(1) }).unwrap();
    }

    fn wanted(&self, name: &str) -> CopyRequest {
        let mark =
            Mark { pool: pool(), intent: lbsidecar::core::ids::IntentId(Uuid::new_v4()), generation: 1 };
        CopyRequest { base: self.base, name: name.to_owned(), mark, settings: as_base(CloneSource::Image) }
    }
}

fn pool() -> PoolName {
    PoolName::try_new("web").unwrap()
}

fn as_base(source: CloneSource) -> CloneSettings {
    CloneSettings {
        source,
        image: None,
        flavor: None,
        network: None,
        key_name: None,
        security_groups: None,
        user_data: None,
    }
}

fn settings(lab: &CloudHandle) -> CloudSettings {
    CloudSettings {
        auth_url: lab.urls().keystone.clone(),
        credentials: Credentials::Password {
            username: "admin".into(),
            user_domain: Domain::Name("Default".into()),
            password: "lab-admin".to_owned().into(),
            project: Project::Name("admin".into(), Domain::Name("Default".into())),
        },
        region: None,
        interface: "public".into(),
        tls: Tls::System,
        timeout: Duration::from_secs(10),
        origin: "the test".into(),
    }
}

const FIXED: Reach = Reach::Fixed { network: None };

#[tokio::test]
async fn a_clone_is_a_copy_and_lives_and_goes() {
    let rig = Rig::new().await;
    let cloud = &rig.cloud;
    let report = cloud.services().await.unwrap();
    assert!(report.services.iter().all(|s| s.answer.is_ok()), "{report:?}");
    assert_eq!(cloud.find_server("vm-test").await.unwrap().id, rig.base);
    let room = cloud.room_for(rig.base, &as_base(CloneSource::Image), &Reach::Floating).await.unwrap();
    assert_eq!(room, Room::Enough { memory_mib: 128 });

    let wanted = rig.wanted("vm-test-clone");
    let clone = cloud.create_copy(&wanted).await.unwrap();
    assert_eq!(cloud.find_intent(&pool(), wanted.mark.intent).await.unwrap(), Some(clone));
    let server = rig.until(clone, "ACTIVE", |server| server.status() == ServerStatus::Active).await;
    let facts = server.facts(&Reach::Fixed { network: Some("lab-net".into()) });
    assert_eq!((facts.name.as_str(), facts.mark), ("vm-test-clone", Some(wanted.mark)));
    assert!(facts.address.is_some_and(|ip| ip.to_string().starts_with("192.168.100.")));
    assert_eq!(rig.shape(clone).await, rig.shape(rig.base).await);
    let groups = async |id| cloud.ports_of(id).await.unwrap()[0].security_groups.clone();
    assert_eq!(groups(clone).await, groups(rig.base).await);

    cloud.stop(clone).await.unwrap();
    rig.until(clone, "SHUTOFF", |server| server.status() == ServerStatus::Shutoff).await;
    cloud.stop(clone).await.unwrap();
    cloud.start(clone).await.unwrap();
    rig.until(clone, "ACTIVE", |server| server.status() == ServerStatus::Active).await;
    cloud.delete(clone).await.unwrap();
    rig.until_gone(clone).await;
    cloud.delete(clone).await.unwrap();
    assert_eq!(cloud.servers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_floating_ip_goes_to_the_load_balancer_port_and_back() {
    let rig = Rig::new().await;
    let cloud = &rig.cloud;
    let port = cloud.ports_of(rig.base).await.unwrap().remove(0);
    let external = rig.get(format!("{}/v2.0/networks?router:external=True", rig.lab.urls().neutron)).await;
    let external: Uuid = external["networks"][0]["id"].as_str().unwrap().parse().unwrap();
    let body = json!({"floatingip": {"floating_network_id": external, "port_id": port.id}});
    let made = rig.post(format!("{}/v2.0/floatingips", rig.lab.urls().neutron), body).await;
    let address: Ipv4Addr = made["floatingip"]["floating_ip_address"].as_str().unwrap().parse().unwrap();

    let service = cloud.floating_ip(address).await.unwrap().unwrap();
    assert_eq!((service.port, service.network), (Some(port.id), external));
    assert_eq!(cloud.floating_ips_of(rig.base).await.unwrap().len(), 1);
    let request = LbPortRequest {
        pool: pool(),
        network: port.network,
        host: "lab".into(),
        security_groups: port.security_groups.clone(),
    };
    assert_eq!(cloud.lb_port(&pool()).await.unwrap(), None);
    let lb = cloud.ensure_lb_port(&request).await.unwrap();
    assert_eq!((lb.network_name.as_str(), lb.prefix), ("lab-net", 24));
    assert_eq!(lb.gateway, Some(Ipv4Addr::new(192, 168, 100, 1)));
    assert_eq!(cloud.ensure_lb_port(&request).await.unwrap(), lb);
    assert_eq!(cloud.lb_port(&pool()).await.unwrap().as_ref(), Some(&lb));

    let leads_to = async |id: FloatingIpId| cloud.floating_ip_by_id(id).await.unwrap().unwrap().port;
    cloud.associate(service.id, lb.id).await.unwrap();
    assert_eq!(leads_to(service.id).await, Some(lb.id));
    cloud.associate(service.id, port.id).await.unwrap();
    assert_eq!(leads_to(service.id).await, Some(port.id));
    cloud.disassociate(service.id).await.unwrap();
    assert_eq!(leads_to(service.id).await, None);

    let given = cloud.give_floating_ip(rig.base, &pool(), external).await.unwrap();
    assert_eq!(cloud.give_floating_ip(rig.base, &pool(), external).await.unwrap().id, given.id);
    assert_eq!(cloud.floating_ips_of_pool(&pool()).await.unwrap().len(), 1);
    rig.until(rig.base, "reached at its floating IP", |s| s.address(&Reach::Floating).is_some()).await;
    cloud.release_floating_ip(given.id).await.unwrap();
    cloud.release_floating_ip(given.id).await.unwrap();
    assert!(cloud.floating_ip_by_id(given.id).await.unwrap().is_none());
    cloud.delete_port(lb.id).await.unwrap();
    assert_eq!(cloud.lb_port(&pool()).await.unwrap(), None);
}

#[tokio::test]
async fn a_clone_can_come_from_a_snapshot_of_ours() {
    let rig = Rig::new().await;
    let mut wanted = rig.wanted("vm-test-clone");
    wanted.settings = as_base(CloneSource::Snapshot);
    assert_eq!(rig.cloud.create_copy(&wanted).await.unwrap_err().kind(), FailureKind::Permanent);
    let snapshot = rig.cloud.snapshot(rig.base, &pool()).await.unwrap();
    assert_eq!(
        rig.cloud.snapshots(&pool()).await.unwrap().iter().map(|i| i.id).collect::<Vec<_>>(),
        [snapshot]
    );
    let clone = rig.cloud.create_copy(&wanted).await.unwrap();
    assert_eq!(rig.shape(clone).await["image"]["id"], snapshot.to_string());
    rig.cloud.delete(clone).await.unwrap();
    rig.until_gone(clone).await;
    rig.cloud.delete_image(snapshot).await.unwrap();
    assert!(rig.cloud.image(snapshot).await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_whose_answer_was_lost_is_found_and_made_once() {
    for lost in [What::LostReply { status: None }, What::LostReply { status: Some(503) }, What::Truncate] {
        let rig = Rig::new().await;
        let wanted = rig.wanted("vm-test-clone");
        rig.fault(Service::Nova, "POST", "/servers$", lost.clone());
        let error = rig.cloud.create_copy(&wanted).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unknown, "{lost:?}: {error}");
        assert!(rig.cloud.find_intent(&pool(), wanted.mark.intent).await.unwrap().is_some(), "{lost:?}");
        assert_eq!(rig.cloud.servers_named("vm-test-clone").await.unwrap().len(), 1, "{lost:?}");
    }
}

#[tokio::test]
async fn a_cloud_that_stumbles_at_every_call_is_got_through() {
    let rig = Rig::new().await;
    let busy = || What::Answer { status: 503, body: None, retry_after: None };
    for (service, method, path, what) in [
        (Service::Nova, "GET", "/servers/detail", busy()),
        (Service::Nova, "GET", "/servers/", What::Close),
        (Service::Nova, "GET", "/limits", What::Truncate),
        (Service::Nova, "GET", "/flavors/", What::Answer { status: 429, body: None, retry_after: Some(1) }),
        (Service::Neutron, "GET", "/ports", What::LostReply { status: Some(504) }),
        (Service::Nova, "POST", "/action", What::LostReply { status: None }),
        (Service::Nova, "DELETE", "/servers/", What::LostReply { status: Some(502) }),
    ] {
        rig.fault(service, method, path, what);
    }
    assert_eq!(rig.cloud.servers().await.unwrap().len(), 1);
    assert!(matches!(
        rig.cloud.room_for(rig.base, &as_base(CloneSource::Image), &FIXED).await.unwrap(),
        Room::Enough { .. }
    ));
    let clone = rig.cloud.create_copy(&rig.wanted("vm-test-clone")).await.unwrap();
    rig.until(clone, "ACTIVE", |server| server.status() == ServerStatus::Active).await;
    // Carried out, its answer lost, asked for again: Nova calls that a conflict.
    rig.cloud.stop(clone).await.unwrap();
    rig.until(clone, "SHUTOFF", |server| server.status() == ServerStatus::Shutoff).await;
    rig.cloud.delete(clone).await.unwrap();
    rig.until_gone(clone).await;
    assert!(
        rig.lab.faults().list().iter().all(|standing| standing.hits == 1),
        "{:?}",
        rig.lab.faults().list()
    );
}

#[tokio::test]
async fn a_token_that_ran_out_in_between_is_replaced() {
    let rig = Rig::new().await;
    rig.cloud.servers().await.unwrap();
    // For the cloud an hour has passed; for us it was a moment.
    rig.lab.clock().advance(Duration::from_secs(3601));
    assert_eq!(rig.cloud.servers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn refusals_have_their_kind() {
    let rig = Rig::new().await;
    let mut wanted = rig.wanted("vm-test-clone");
    wanted.settings.flavor = Some("m1.overquota".into());
    let room = rig.cloud.room_for(rig.base, &wanted.settings, &FIXED).await.unwrap();
    assert!(matches!(&room, Room::None(why) if why.contains("MiB of memory")), "{room:?}");
    assert_eq!(rig.cloud.create_copy(&wanted).await.unwrap_err().kind(), FailureKind::Capacity);
    wanted.settings.flavor = Some("m1.huge".into());
    let failed = rig.cloud.create_copy(&wanted).await.unwrap();
    let server = rig.until(failed, "ERROR", |server| server.status() == ServerStatus::Error).await;
    assert_eq!(server.facts(&FIXED).fault.as_deref(), Some("No valid host was found."));
    let mut wrong = settings(&rig.lab);
    wrong.credentials =
        Credentials::ApplicationCredential { id: "nope".into(), secret: "x".to_owned().into() };
    let error = Cloud::new(wrong).unwrap().servers().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unauthorized, "{error}");
}
