//! Security groups and their rules. The lab keeps them and does not enforce them.

use axum::{extract::Path, http::StatusCode, response::IntoResponse};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        store::State,
    },
    list::{asked, bad, conflict, created, id_in, not_found, one, page, project},
    networks::rename,
    quotas,
    records::{Base, Group, Network, Rule},
};

impl Network {
    /// The project's group `default`, made when it is first needed.
    pub(in super::super) fn default_group(&mut self, project: Uuid, now: Timestamp) -> Uuid {
        let is_default = |group: &&Group| group.base.project == project && group.base.name == "default";
        if let Some(group) = self.groups.values().find(is_default) {
            return group.base.id;
        }
        let id = self.add_group(project, "default", "Default security group", now);
        for ethertype in ["IPv4", "IPv6"] {
            let mut rule = self.blank_rule(project, id, "ingress", ethertype, now);
            rule.remote_group = Some(id);
            self.rules.insert(rule.base.id, rule);
        }
        id
    }

    /// A new group with the two rules that let everything out.
    pub(in super::super) fn add_group(
        &mut self,
        project: Uuid,
        name: &str,
        about: &str,
        now: Timestamp,
    ) -> Uuid {
        let mut base = Base::new(project, name, now);
        about.clone_into(&mut base.description);
        base.touch(now);
        let id = base.id;
        self.groups.insert(id, Group { base });
        for ethertype in ["IPv4", "IPv6"] {
            let rule = self.blank_rule(project, id, "egress", ethertype, now);
            self.rules.insert(rule.base.id, rule);
        }
        id
    }

    fn blank_rule(
        &mut self,
        project: Uuid,
        group: Uuid,
        direction: &str,
        ethertype: &str,
        now: Timestamp,
    ) -> Rule {
        Rule {
            base: Base::new(project, "", now),
            group,
            about: None,
            direction: direction.to_owned(),
            ethertype: ethertype.to_owned(),
            protocol: None,
            ports: (None, None),
            remote_prefix: None,
            remote_group: None,
            number: self.count(),
        }
    }

    /// Adds an ingress rule for everybody, as the seed needs.
    pub(in super::super) fn let_in(
        &mut self,
        project: Uuid,
        group: Uuid,
        protocol: &str,
        port: Option<u16>,
        now: Timestamp,
    ) {
        let mut rule = self.blank_rule(project, group, "ingress", "IPv4", now);
        rule.about = Some(String::new());
        rule.protocol = Some(protocol.to_owned());
        rule.ports = (port, port);
        rule.remote_prefix = Some("0.0.0.0/0".to_owned());
        self.rules.insert(rule.base.id, rule);
    }
}

pub(super) async fn list(call: Call) -> Answer {
    let mut state = call.state();
    state.network.default_group(call.project(), call.now());
    let seen = state.network.groups.values().filter(|group| call.sees(group.base.project));
    page(&call, "security_groups", seen.map(|group| view(&state.network, group)).collect())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let group = find(&call, &mut state, &id)?.clone();
    one(&call, "security_group", view(&state.network, &group))
}

fn find<'a>(call: &Call, state: &'a mut State, id: &str) -> Result<&'a mut Group, ApiError> {
    let group = Uuid::parse_str(id).ok().and_then(|id| state.network.groups.get_mut(&id));
    let group = group.filter(|group| call.sees(group.base.project));
    group.ok_or_else(|| not_found("SecurityGroupNotFound", "Security group", id))
}

const KNOWN: [&str; 5] = ["name", "description", "project_id", "tenant_id", "stateful"];

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "security_group", &KNOWN)?;
    let mut state = call.state();
    let owner = project(&call, wanted)?;
    state.network.default_group(owner, call.now());
    quotas::check(&state.network, owner, "security_group")?;
    let about = text(wanted, "description").unwrap_or_default();
    let id = state.network.add_group(owner, text(wanted, "name").unwrap_or_default(), about, call.now());
    let group = find(&call, &mut state, &id.to_string())?.clone();
    created("security_group", view(&state.network, &group))
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let wanted = asked(&body, "security_group", &KNOWN)?;
    let mut state = call.state();
    let group = find(&call, &mut state, &id)?;
    rename(&mut group.base, wanted);
    group.base.touch(call.now());
    let group = group.clone();
    one(&call, "security_group", view(&state.network, &group))
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let group = find(&call, &mut state, &id)?.base.clone();
    if group.name == "default" {
        let words = "Insufficient rights for removing default security group.";
        return Err(conflict("SecurityGroupCannotRemoveDefault", words));
    }
    if state.network.ports.values().any(|port| port.groups.contains(&group.id)) {
        return Err(conflict("SecurityGroupInUse", format!("Security Group {id} in use.")));
    }
    state.network.rules.retain(|_, rule| rule.group != group.id);
    state.network.groups.remove(&group.id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn list_rules(call: Call) -> Answer {
    let state = call.state();
    let seen = state.network.rules.values().filter(|rule| call.sees(rule.base.project));
    page(&call, "security_group_rules", seen.map(|rule| rule_view(rule, false)).collect())
}

pub(super) async fn show_rule(call: Call, Path(id): Path<String>) -> Answer {
    let state = call.state();
    one(&call, "security_group_rule", rule_view(find_rule(&call, &state, &id)?, false))
}

fn find_rule<'a>(call: &Call, state: &'a State, id: &str) -> Result<&'a Rule, ApiError> {
    let rule = Uuid::parse_str(id).ok().and_then(|id| state.network.rules.get(&id));
    let rule = rule.filter(|rule| call.sees(rule.base.project));
    rule.ok_or_else(|| not_found("SecurityGroupRuleNotFound", "Security group rule", id))
}

const RULE_KNOWN: [&str; 13] = [
    "security_group_id",
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
    "description",
    "project_id",
    "tenant_id",
    "id",
];

pub(super) async fn create_rule(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "security_group_rule", &RULE_KNOWN)?;
    let mut state = call.state();
    let group = id_in(wanted, "security_group_id")?.unwrap_or_default();
    let owner = find(&call, &mut state, &group.to_string())?.base.project;
    quotas::check(&state.network, owner, "security_group_rule")?;
    let direction = text(wanted, "direction").filter(|word| matches!(*word, "ingress" | "egress"));
    let direction = direction
        .ok_or_else(|| bad("Invalid input for direction. Reason: it must be 'ingress' or 'egress'."))?;
    let mut rule = state.network.blank_rule(
        owner,
        group,
        direction,
        text(wanted, "ethertype").unwrap_or("IPv4"),
        call.now(),
    );
    rule.about = Some(text(wanted, "description").unwrap_or_default().to_owned());
    rule.protocol = wanted
        .get("protocol")
        .filter(|value| !value.is_null())
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_lowercase));
    let port = |name: &str| match wanted.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
            let number = number.and_then(|number| u16::try_from(number).ok());
            number.map(Some).ok_or_else(|| bad(format!("Invalid value for port {value}")))
        }
    };
    rule.ports = (port("port_range_min")?, port("port_range_max")?);
    rule.remote_prefix = text(wanted, "remote_ip_prefix").map(str::to_owned);
    if rule.remote_prefix.as_ref().is_some_and(|prefix| normal(prefix).is_none()) {
        return Err(bad(format!(
            "Invalid input for remote_ip_prefix: {:?} is not a valid IP subnet.",
            rule.remote_prefix
        )));
    }
    rule.remote_group = id_in(wanted, "remote_group_id")?;
    let same = |other: &&Rule| {
        let key = |rule: &Rule| {
            (
                rule.group,
                rule.direction.clone(),
                rule.ethertype.clone(),
                rule.protocol.clone(),
                rule.ports,
                rule.remote_prefix.clone(),
                rule.remote_group,
            )
        };
        key(other) == key(&rule)
    };
    if let Some(other) = state.network.rules.values().find(same) {
        let words = format!("Security group rule already exists. Rule id is {}.", other.base.id);
        return Err(conflict("SecurityGroupRuleExists", words));
    }
    find(&call, &mut state, &group.to_string())?.base.touch(call.now());
    let shown = rule_view(&rule, false);
    state.network.rules.insert(rule.base.id, rule);
    created("security_group_rule", shown)
}

pub(super) async fn delete_rule(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let rule = find_rule(&call, &state, &id)?.clone();
    state.network.rules.remove(&rule.base.id);
    find(&call, &mut state, &rule.group.to_string())?.base.touch(call.now());
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `10.0.0.5` is `10.0.0.5/32`.
fn normal(prefix: &str) -> Option<IpNet> {
    prefix
        .parse::<IpNet>()
        .ok()
        .map(|net| net.trunc())
        .or_else(|| Some(IpNet::from(prefix.parse::<std::net::IpAddr>().ok()?)))
}

fn view(network: &Network, group: &Group) -> Value {
    let rules = network.rules.values().filter(|rule| rule.group == group.base.id);
    let rules: Vec<Value> = rules.map(|rule| rule_view(rule, true)).collect();
    group.base.view(json!({"stateful": true, "shared": false, "security_group_rules": rules}))
}

/// A rule alone, or in its group, where it shows a little more.
fn rule_view(rule: &Rule, nested: bool) -> Value {
    let mut view = rule.base.view(json!({
        "security_group_id": rule.group,
        "ethertype": rule.ethertype,
        "direction": rule.direction,
        "protocol": rule.protocol,
        "port_range_min": rule.ports.0,
        "port_range_max": rule.ports.1,
        "remote_ip_prefix": rule.remote_prefix,
        "remote_address_group_id": null,
        "normalized_cidr": rule.remote_prefix.as_deref().and_then(normal),
        "remote_group_id": rule.remote_group,
    }));
    if let Some(members) = view.as_object_mut() {
        members.shift_remove("name");
        members.insert("description".to_owned(), json!(rule.about));
        if nested {
            members.insert("standard_attr_id".to_owned(), json!(rule.number));
        } else {
            members.shift_remove("tags");
        }
    }
    view
}
