//! A cloud of a test's own, empty at first, and a pool to be provisioned there.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use lbsidecar::{
    core::{ids::PoolName, settings::CloneSettings},
    openstack::{
        Cloud,
        settings::{CloudSettings, Credentials, Domain, Project, Tls},
    },
    provision::{
        self, Event, Inventory, Pace, Plan, ProvisionError, Removed, Scope, Seen,
        settings::{ProvisionSettings, Vip},
    },
};
use lbsidecar_lab::cloud::{
    self, CloudHandle, Service,
    faults::{Rule, What},
    null::NullDriver,
    options::{Options, Pace as CloudPace, Seed},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Impatient: nothing in this cloud takes time.
pub(crate) const PACE: Pace =
    Pace { look: Duration::from_millis(5), tries: 4, server: Duration::from_secs(20) };
/// All that can be removed.
pub(crate) const ALL: Scope = Scope { snapshots: true, network: true };

pub(crate) struct Stage {
    pub(crate) handle: CloudHandle,
    pub(crate) cloud: Cloud,
    pub(crate) settings: ProvisionSettings,
    pub(crate) driver: Arc<NullDriver>,
    events: Mutex<Vec<Event>>,
    home: TempDir,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let zero = Duration::ZERO;
        let pace = CloudPace {
            scheduling: zero,
            networking: zero,
            snapshot: zero,
            floating_ip: zero,
            deleted: zero,
            power_sync: Duration::from_secs(20),
        };
        let driver = Arc::new(NullDriver::default());
        let options = Options { seed: Seed::Empty, pace, ..Options::default() };
        let handle = cloud::serve(driver.clone(), options).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let settings = ProvisionSettings {
            pool: PoolName::try_new("web").unwrap(),
            base: "vm-test".into(),
            port: 80,
            address: None,
            vip: Vip::Port,
            network: "lab-net".into(),
            subnet: "lab-subnet".into(),
            cidr: "192.168.100.0/24".parse().unwrap(),
            dns: vec!["8.8.8.8".parse().unwrap(), "1.1.1.1".parse().unwrap()],
            router: "lab-router".into(),
            external: "external".into(),
            security_group: "lab-sg".into(),
            key_name: "lab-key".into(),
            key_file: home.path().join("ssh/lab-key"),
            public_key: None,
            image: "cirros".into(),
            flavor: "m1.tiny".into(),
            user_data: None,
            // The machine that this runs on may have no route at all.
            ssh_from: Some("10.20.20.1/32".parse().unwrap()),
        };
        let cloud = client(&handle, "admin");
        Self { handle, cloud, settings, driver, events: Mutex::default(), home }
    }

    pub(crate) fn home(&self) -> &std::path::Path {
        self.home.path()
    }

    pub(crate) async fn plan(&self) -> Plan {
        let seen = provision::look(&self.cloud, &self.settings).await.unwrap();
        provision::plan(&self.settings, &seen, false)
    }

    /// The steps of the plan, in words.
    pub(crate) async fn steps(&self) -> Vec<String> {
        let plan = self.plan().await;
        assert_eq!(plan.obstacles, Vec::<String>::new());
        plan.steps.iter().map(ToString::to_string).collect()
    }

    pub(crate) async fn obstacles(&self) -> String {
        self.plan().await.obstacles.join("\n")
    }

    /// One run; what was done is in [`Stage::done`].
    pub(crate) async fn provision(&self) -> Result<Seen, ProvisionError> {
        let seen = provision::look(&self.cloud, &self.settings).await?;
        let plan = provision::plan(&self.settings, &seen, false);
        assert_eq!(plan.obstacles, Vec::<String>::new());
        self.events.lock().unwrap().clear();
        let tell = |event| self.events.lock().unwrap().push(event);
        Ok(provision::apply(&self.cloud, &self.settings, seen, &plan, PACE, &tell).await?.seen)
    }

    /// What the last run has done, in words.
    pub(crate) fn done(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let done = events.iter().filter_map(|event| match event {
            Event::Done(what) => Some(what.clone()),
            _ => None,
        });
        done.collect()
    }

    pub(crate) async fn inventory(&self, scope: Scope) -> Inventory {
        provision::inventory(&self.cloud, &self.settings.pool, scope).await.unwrap()
    }

    pub(crate) async fn cleanup(&self, scope: Scope) -> Removed {
        let found = self.inventory(scope).await;
        provision::remove(&self.cloud, &found, PACE, &|_| {}).await
    }

    /// The next `times` requests that match are answered so.
    pub(crate) fn refuse(
        &self,
        service: Service,
        method: &str,
        path: &str,
        times: u32,
        status: u16,
        body: Option<Value>,
    ) {
        self.fault(service, method, path, times, What::Answer { status, body, retry_after: None });
    }

    pub(crate) fn fault(&self, service: Service, method: &str, path: &str, times: u32, what: What) {
        let rule = Rule {
            service: Some(service),
            method: Some(method.into()),
            path: path.into(),
            what,
            times: Some(times),
        };
        self.handle.faults().add(rule).unwrap();
    }

    /// A call of the operator's own.
    pub(crate) async fn call(
        &self,
        service: Service,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let urls = self.handle.urls();
        let domain = json!({"name": "Default"});
        let login = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": "admin", "domain": domain, "password": "lab-admin"}}},
            "scope": {"project": {"name": "admin", "domain": domain}}}});
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let token = client.post(format!("{}/auth/tokens", urls.keystone)).json(&login).send().await.unwrap();
        let token = token.headers()["x-subject-token"].to_str().unwrap().to_owned();
        let root = match service {
            Service::Keystone => urls.keystone.clone(),
            Service::Nova => urls.nova.clone(),
            Service::Neutron => format!("{}/v2.0", urls.neutron),
            Service::Glance => format!("{}/v2", urls.glance),
        };
        let mut request = client.request(method, format!("{root}/{path}")).header("X-Auth-Token", token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Sets a quota; by the sum of what is there already, when `more` is how many more may be made.
    pub(crate) async fn quota(&self, service: Service, name: &str, limit: i64) {
        let project = self.project().await;
        let (path, member) = match service {
            Service::Nova => (format!("os-quota-sets/{project}"), "quota_set"),
            _ => (format!("quotas/{project}"), "quota"),
        };
        self.call(service, Method::PUT, &path, Some(json!({ member: {name: limit} }))).await;
    }

    /// How many of a kind the project has.
    pub(crate) async fn count(&self, list: &str) -> i64 {
        let project = self.project().await;
        let path = format!("{}?project_id={project}", list.replace('_', "-"));
        let all = self.call(Service::Neutron, Method::GET, &path, None).await;
        i64::try_from(all[list].as_array().unwrap().len()).unwrap()
    }

    async fn project(&self) -> String {
        self.cloud.services().await.unwrap().identity.project_id
    }

    /// Everything that the project has, by kind and name.
    pub(crate) async fn everything(&self) -> Vec<String> {
        let project = self.project().await;
        let mut all = Vec::new();
        for list in [
            "networks",
            "subnets",
            "routers",
            "ports",
            "floatingips",
            "security_groups",
            "security_group_rules",
        ] {
            let path = format!("{}?project_id={project}", list.replace('_', "-"));
            let found = self.call(Service::Neutron, Method::GET, &path, None).await;
            all.extend(found[list].as_array().unwrap().iter().map(|one| format!("{list} {}", one["id"])));
        }
        for (service, list) in
            [(Service::Nova, "servers"), (Service::Nova, "os-keypairs"), (Service::Glance, "images")]
        {
            let found = self.call(service, Method::GET, list, None).await;
            let key = list.trim_start_matches("os-");
            all.extend(found[key].as_array().unwrap().iter().map(|one| format!("{list} {one}")));
        }
        all.sort();
        all
    }
}

/// A client of the project of this name.
pub(crate) fn client(handle: &CloudHandle, project: &str) -> Cloud {
    Cloud::new(CloudSettings {
        auth_url: handle.urls().keystone.clone(),
        credentials: Credentials::Password {
            username: "admin".into(),
            user_domain: Domain::Name("Default".into()),
            password: "lab-admin".to_owned().into(),
            project: Project::Name(project.into(), Domain::Name("Default".into())),
        },
        region: Some("microstack".into()),
        interface: "public".into(),
        tls: Tls::System,
        timeout: Duration::from_secs(10),
        origin: "the test".into(),
    })
    .unwrap()
}

/// A clone that is as the base is.
pub(crate) fn as_the_base() -> CloneSettings {
    CloneSettings {
        source: lbsidecar::core::settings::CloneSource::Image,
        image: None,
        flavor: None,
        network: None,
        key_name: None,
        security_groups: None,
        user_data: None,
    }
}
