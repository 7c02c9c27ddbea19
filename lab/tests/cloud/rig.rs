//! A cloud over a driver that only says yes, with a clock that stands still, and a client that hides nothing.

use std::{sync::Arc, time::Duration};

use lbsidecar_lab::cloud::{
    CloudHandle,
    clock::Clock,
    faults::{Rule, What},
    null::NullDriver,
    options::{Options, Seed},
    serve,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// The cloud and all that a test needs to play with it.
pub(crate) struct Rig {
    pub(crate) cloud: CloudHandle,
    pub(crate) driver: Arc<NullDriver>,
    pub(crate) http: Client,
    pub(crate) token: String,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(Seed::Lab).await
    }

    pub(crate) async fn with(seed: Seed) -> Self {
        let driver = Arc::new(NullDriver::default());
        let options = Options { seed, clock: Arc::new(Clock::manual()), ..Options::default() };
        let cloud = serve(driver.clone(), options).await.unwrap();
        let mut rig = Self { cloud, driver, http: Client::new(), token: String::new() };
        rig.login().await;
        rig
    }

    pub(crate) async fn login(&mut self) {
        let user = json!({"name": "admin", "domain": {"id": "default"}, "password": "lab-admin"});
        let auth = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }});
        let url = format!("{}/auth/tokens", self.cloud.urls().keystone);
        let answer = self.http.post(url).body(auth.to_string()).send().await.unwrap();
        self.token = answer.headers()["x-subject-token"].to_str().unwrap().to_owned();
    }

    pub(crate) fn nova(&self, path: &str) -> String {
        format!("{}{path}", self.cloud.urls().nova)
    }

    pub(crate) fn neutron(&self, path: &str) -> String {
        format!("{}/v2.0{path}", self.cloud.urls().neutron)
    }

    pub(crate) fn glance(&self, path: &str) -> String {
        format!("{}/v2{path}", self.cloud.urls().glance)
    }

    /// Status and body of an answer; 0 and null when none came.
    pub(crate) async fn call(&self, method: Method, url: &str, body: Value) -> (u16, Value) {
        let mut call = self.http.request(method, url).header("X-Auth-Token", &self.token);
        call = call.header("X-OpenStack-Nova-API-Version", "2.45");
        if !body.is_null() {
            call = call.body(body.to_string());
        }
        let Ok(answer) = call.send().await else { return (0, Value::Null) };
        let status = answer.status().as_u16();
        match answer.text().await {
            Ok(text) => (status, serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Err(_) => (status, Value::Null),
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Value {
        let (status, body) = self.call(Method::GET, url, Value::Null).await;
        assert_eq!(status, 200, "GET {url}: {body}");
        body
    }

    /// A POST that must be taken.
    pub(crate) async fn post(&self, url: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, url, body).await;
        assert!((200..300).contains(&status), "POST {url}: {status} {answer}");
        answer
    }

    pub(crate) async fn put(&self, url: &str, body: Value) -> (u16, Value) {
        self.call(Method::PUT, url, body).await
    }

    pub(crate) async fn delete(&self, url: &str) -> u16 {
        self.call(Method::DELETE, url, Value::Null).await.0
    }

    /// Lets time pass until what is at `pointer` of the answer to a GET is `wanted`.
    pub(crate) async fn until(&self, url: &str, pointer: &str, wanted: Value) -> Value {
        let mut last = Value::Null;
        for _ in 0..500 {
            let (_, body) = self.call(Method::GET, url, Value::Null).await;
            if body.pointer(pointer) == Some(&wanted) {
                return body;
            }
            last = body;
            self.cloud.clock().advance(Duration::from_millis(100));
        }
        panic!("{pointer} of {url} never became {wanted}: {last}");
    }

    /// The id of the one object of this name in a collection.
    pub(crate) async fn id(&self, url: &str, collection: &str, name: &str) -> String {
        let all = self.get(url).await;
        let found = all[collection].as_array().unwrap().iter().find(|one| one["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is not in {all}"))["id"].as_str().unwrap().to_owned()
    }

    /// The body of a request for a server.
    pub(crate) async fn wish(&self, name: &str) -> Value {
        json!({"server": {
            "name": name,
            "imageRef": self.id(&self.glance("/images"), "images", "cirros").await,
            "flavorRef": self.id(&self.nova("/flavors"), "flavors", "m1.tiny").await,
            "networks": [{"uuid": self.id(&self.neutron("/networks"), "networks", "lab-net").await}],
            "security_groups": [{"name": "lab-sg"}],
            "key_name": "lab-key",
            "user_data": "IyEvYmluL3NoCg==",
        }})
    }

    /// Asks for a server; answers its URL.
    pub(crate) async fn ask(&self, name: &str) -> String {
        let answer = self.post(&self.nova("/servers"), self.wish(name).await).await;
        self.nova(&format!("/servers/{}", answer["server"]["id"].as_str().unwrap()))
    }

    /// A running server's URL.
    pub(crate) async fn server(&self, name: &str) -> String {
        let url = self.ask(name).await;
        self.until(&url, "/server/status", json!("ACTIVE")).await;
        url
    }

    /// The port of a server.
    pub(crate) async fn port_of(&self, server: &str) -> Value {
        let id = server.rsplit('/').next().unwrap();
        self.get(&self.neutron(&format!("/ports?device_id={id}"))).await["ports"][0].clone()
    }

    /// A new floating IP that leads to a port or nowhere.
    pub(crate) async fn floating_ip(&self, port: &Value) -> Value {
        let external = self.id(&self.neutron("/networks"), "networks", "external").await;
        let wish = json!({"floatingip": {"floating_network_id": external, "port_id": port}});
        self.post(&self.neutron("/floatingips"), wish).await["floatingip"].clone()
    }

    /// Puts a fault in force, once.
    pub(crate) fn fault(&self, method: &str, path: &str, what: What) {
        let rule =
            Rule { service: None, method: Some(method.into()), path: path.into(), what, times: Some(1) };
        self.cloud.faults().add(rule).unwrap();
    }
}
