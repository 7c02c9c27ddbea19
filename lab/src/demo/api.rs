//! The lab's cloud as its user: boot the base, give it an address, look at what there is.

use std::{env, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cloud::options::Ports;

/// A client of the lab's cloud. Its token outlives every demo and test.
#[derive(Debug)]
pub struct Api {
    http: reqwest::Client,
    token: String,
    catalog: Vec<CatalogEntry>,
}

#[derive(Debug, Deserialize)]
struct CatalogEntry {
    #[serde(rename = "type")]
    kind: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    interface: String,
    url: String,
}

/// A server as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServerSeen {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `BUILD`, …
    pub status: String,
}

impl Api {
    /// Asks Keystone for a token, with the lab's `OS_*` variables.
    ///
    /// # Errors
    /// When a variable is missing or Keystone says no.
    pub async fn open() -> Result<Self> {
        let set = |name: &str| {
            env::var(name).with_context(|| format!("{name} is not set: is this process in the lab?"))
        };
        let domain = json!({"name": set("OS_USER_DOMAIN_NAME")?});
        let user =
            json!({"name": set("OS_USERNAME")?, "password": set("OS_PASSWORD")?, "domain": domain.clone()});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": set("OS_PROJECT_NAME")?, "domain": domain}},
        }});
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let url = format!("{}/auth/tokens", set("OS_AUTH_URL")?);
        let answer = http.post(url).json(&body).send().await?.error_for_status()?;
        let token = answer.headers().get("x-subject-token").context("Keystone gave no token")?;
        let token = token.to_str()?.to_owned();
        let catalog = answer.json::<Value>().await?["token"]["catalog"].take();
        Ok(Self { http, token, catalog: serde_json::from_value(catalog)? })
    }

    /// Boots a server of the smallest flavor in the lab's network and waits until it is ACTIVE.
    ///
    /// # Errors
    /// What the cloud says, or that it took too long.
    pub async fn boot(&self, name: &str, flavor: &str) -> Result<Uuid> {
        let flavor = self.named("compute", "/flavors", "flavors", flavor).await?;
        let image = self.named("image", "/v2/images", "images", "cirros").await?;
        let network = self.named("network", "/v2.0/networks", "networks", "lab-net").await?;
        let server = json!({
            "name": name, "flavorRef": flavor, "imageRef": image, "networks": [{"uuid": network}],
            "key_name": "lab-key", "security_groups": [{"name": "lab-sg"}],
        });
        let made = self.ask(Method::POST, "compute", "/servers", Some(json!({"server": server}))).await?;
        let id: Uuid = serde_json::from_value(made["server"]["id"].clone())?;
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let seen = self.ask(Method::GET, "compute", &format!("/servers/{id}"), None).await?;
            match seen["server"]["status"].as_str() {
                Some("ACTIVE") => return Ok(id),
                Some("ERROR") => bail!("failed to boot {name}: {}", seen["server"]["fault"]),
                status if Instant::now() > end => bail!("{name} is {status:?} after two minutes"),
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Gives a server a floating IP.
    ///
    /// # Errors
    /// What the cloud says.
    pub async fn give_address(&self, server: Uuid, address: Ipv4Addr) -> Result<()> {
        let external = self.named("network", "/v2.0/networks?router:external=true", "networks", "").await?;
        let ports =
            self.ask(Method::GET, "network", &format!("/v2.0/ports?device_id={server}"), None).await?;
        let body = json!({"floatingip": {
            "floating_network_id": external, "port_id": ports["ports"][0]["id"], "floating_ip_address": address,
        }});
        self.ask(Method::POST, "network", "/v2.0/floatingips", Some(body)).await?;
        Ok(())
    }

    /// All servers.
    ///
    /// # Errors
    /// What the cloud says.
    pub async fn servers(&self) -> Result<Vec<ServerSeen>> {
        let mut all = self.ask(Method::GET, "compute", "/servers/detail", None).await?;
        Ok(serde_json::from_value(all["servers"].take())?)
    }

    /// All floating IPs, each with the port that it is on.
    ///
    /// # Errors
    /// What the cloud says.
    pub async fn floating_ips(&self) -> Result<Vec<(Ipv4Addr, Option<Uuid>)>> {
        let mut all = self.ask(Method::GET, "network", "/v2.0/floatingips", None).await?;
        let list: Vec<Value> = serde_json::from_value(all["floatingips"].take())?;
        let one = |mut ip: Value| -> Result<_> {
            Ok((
                serde_json::from_value(ip["floating_ip_address"].take())?,
                serde_json::from_value(ip["port_id"].take())?,
            ))
        };
        list.into_iter().map(one).collect()
    }

    /// How many servers were asked for since the lab's start, by the cloud's own log: those that were answered with 202.
    ///
    /// # Errors
    /// When the control port does not answer.
    pub async fn creations(&self) -> Result<usize> {
        let log: Vec<Value> = self.control(Method::GET, "/log", None).await?;
        let path = |entry: &Value| entry["path"].as_str().is_some_and(|path| path.ends_with("/servers"));
        Ok(log.iter().filter(|e| e["method"] == "POST" && e["status"] == 202 && path(e)).count())
    }

    /// Makes the cloud misbehave by this rule.
    ///
    /// # Errors
    /// When the control port does not take the rule.
    pub async fn misbehave(&self, rule: Value) -> Result<()> {
        self.control::<Value>(Method::POST, "/faults", Some(rule)).await.map(drop)
    }

    async fn control<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T> {
        let url = format!("http://127.0.0.1:{}{path}", Ports::CUSTOMARY.control);
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// The id of the first with this name, or simply the first for an empty one.
    async fn named(&self, service: &str, path: &str, what: &str, name: &str) -> Result<Uuid> {
        let list = self.ask(Method::GET, service, path, None).await?;
        let list = list[what].as_array().with_context(|| format!("{path} has no {what}"))?;
        let found = list.iter().find(|one| name.is_empty() || one["name"] == name);
        let found = found.with_context(|| format!("none of the {what} is named {name}"))?;
        Ok(serde_json::from_value(found["id"].clone())?)
    }

    async fn ask(&self, method: Method, service: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let entry = self.catalog.iter().find(|entry| entry.kind == service);
        let endpoint = entry.and_then(|entry| entry.endpoints.iter().find(|e| e.interface == "public"));
        let url = &endpoint.with_context(|| format!("the catalog has no public {service}"))?.url;
        let mut request =
            self.http.request(method.clone(), format!("{url}{path}")).header("x-auth-token", &self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{method} {path}: {status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}
