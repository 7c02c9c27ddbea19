//! Whether the project has room for a copy of a server: quotas of instances, cores, memory, and floating IPs where members have
//! their own. Whether the host has room is not asked here.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Cloud,
    call::{
        Call,
        Service::{Compute, Network as Neutron},
    },
    copy::read_blueprint,
    error::{CloudError, or_none},
    find::Flavor,
    server::Reach,
};
use crate::core::{
    cloud::{BlueprintText, FailureKind},
    ids::ServerId,
    settings::CloneSettings,
};

/// The answer to "is there room?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// There is; the copy will take this much.
    Enough {
        /// Memory of its flavor, MiB.
        memory_mib: u64,
    },
    /// There is not; the sentence says of what.
    None(String),
}

#[derive(Deserialize)]
struct LimitsBody {
    limits: Limits,
}

#[derive(Deserialize)]
struct Limits {
    absolute: Absolute,
}

/// Nova's limits of the project; -1 is "no limit".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Absolute {
    max_total_instances: i64,
    total_instances_used: i64,
    max_total_cores: i64,
    total_cores_used: i64,
    #[serde(rename = "maxTotalRAMSize")]
    max_total_ram: i64,
    #[serde(rename = "totalRAMUsed")]
    total_ram_used: i64,
}

#[derive(Deserialize)]
struct QuotaBody {
    quota: Quotas,
}

#[derive(Deserialize)]
struct Quotas {
    floatingip: Quota,
}

#[derive(Deserialize)]
struct Quota {
    limit: i64,
    used: i64,
    #[serde(default)]
    reserved: i64,
}

#[derive(Deserialize)]
struct FlavorBody {
    flavor: Flavor,
}

impl Cloud {
    /// Whether the project's quotas have room for a copy of this server.
    ///
    /// # Errors
    /// When the server is gone or a service does not answer well.
    pub async fn room_for(
        &self,
        base: ServerId,
        settings: &CloneSettings,
        reach: &Reach,
    ) -> Result<Room, CloudError> {
        let (server, limits) = tokio::try_join!(self.server(base), self.limits())?;
        let server = server.ok_or_else(|| {
            CloudError::new(FailureKind::NotFound, "copy server", base.to_string(), "it is gone")
        })?;
        let flavor = self.flavor_id(&server, settings).await?;
        self.room_within(limits, &flavor, &server.name, reach).await
    }

    /// Whether they have room for a copy of a server that is gone, from what [`Cloud::study`] wrote down of it.
    ///
    /// # Errors
    /// When that cannot be read or a service does not answer well.
    pub async fn room_again(
        &self,
        base: ServerId,
        blueprint: &BlueprintText,
        reach: &Reach,
    ) -> Result<Room, CloudError> {
        let blueprint = read_blueprint(base, blueprint)?;
        let flavor = blueprint.get("flavorRef").and_then(Value::as_str).unwrap_or_default();
        self.room_within(self.limits().await?, flavor, &base.to_string(), reach).await
    }

    async fn limits(&self) -> Result<Absolute, CloudError> {
        let call = Call::get(Compute, "read limits", "of the project", &["limits"]);
        Ok(self.client.json::<LimitsBody>(&call).await?.limits.absolute)
    }

    async fn room_within(
        &self,
        limits: Absolute,
        id: &str,
        of: &str,
        reach: &Reach,
    ) -> Result<Room, CloudError> {
        let call = Call::get(Compute, "look at flavor", id, &["flavors", id]);
        let Some(FlavorBody { flavor }) = or_none(self.client.json(&call).await)? else {
            return Ok(Room::None(format!("flavor {id} of {of} was deleted: give another with --flavor")));
        };
        let needs = [
            ("instances", 1, limits.max_total_instances, limits.total_instances_used),
            ("cores", flavor.vcpus, limits.max_total_cores, limits.total_cores_used),
            ("MiB of memory", flavor.ram, limits.max_total_ram, limits.total_ram_used),
        ];
        for (what, needed, limit, used) in needs {
            if let Some(why) = lacks(what, needed, limit, used) {
                return Ok(Room::None(why));
            }
        }
        if *reach == Reach::Floating
            && let Some(quota) = self.floating_ip_quota().await?
            && let Some(why) =
                lacks("floating IPs", 1, quota.limit, quota.used.saturating_add(quota.reserved))
        {
            return Ok(Room::None(why));
        }
        Ok(Room::Enough { memory_mib: flavor.ram })
    }

    /// The floating IPs' quota; `None` when Neutron does not show it to us.
    async fn floating_ip_quota(&self) -> Result<Option<Quota>, CloudError> {
        let project = self.client.session().await?.identity.project_id.clone();
        let call = Call::get(Neutron, "read quota", "of floating IPs", &["quotas", &project, "details.json"]);
        match self.client.json::<QuotaBody>(&call).await {
            Ok(body) => Ok(Some(body.quota.floatingip)),
            Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn lacks(what: &str, needed: u64, limit: i64, used: i64) -> Option<String> {
    // Negative: no limit.
    let limit = u64::try_from(limit).ok()?;
    let used = u64::try_from(used).unwrap_or_default();
    (used.saturating_add(needed) > limit)
        .then(|| format!("the project's quota of {what} is used up: a clone needs {needed}, and {used} of {limit} are taken"))
}

#[cfg(test)]
mod tests {
    use super::lacks;

    #[test]
    fn quotas_are_counted_with_the_clone() {
        assert_eq!(lacks("cores", 2, 20, 18), None);
        assert_eq!(lacks("cores", 2, -1, 1000), None);
        let why = lacks("cores", 2, 20, 19).unwrap_or_default();
        assert!(why.contains("needs 2") && why.contains("19 of 20"), "{why}");
        assert!(lacks("cores", u64::MAX, i64::MAX, i64::MAX).is_some());
    }
}
