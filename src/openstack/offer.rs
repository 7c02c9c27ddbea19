//! What an installation offers to pools: images, flavors, networks with floating IPs. Read for people, by `check`.

use std::net::IpAddr;

use serde::Deserialize;
use uuid::Uuid;

use super::{
    Cloud,
    call::{
        Call,
        Service::{Compute, Image as Glance, Network as Neutron},
    },
    error::CloudError,
    glance::Image,
    resources::{Network, Subnet},
};

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Cloud {
    /// The images that servers can boot from.
    ///
    /// # Errors
    /// When Glance does not answer well.
    pub async fn active_images(&self) -> Result<Vec<Image>, CloudError> {
        let call = Call::get(Glance, "list images", "of the cloud", &["images"]).with("status", "active");
        let mut all: Vec<Image> = self.client.list(call, "images").await?;
        all.retain(|image| image.status == "active");
        Ok(all)
    }

    /// The names of the flavors.
    ///
    /// # Errors
    /// When Nova does not answer well.
    pub async fn flavor_names(&self) -> Result<Vec<String>, CloudError> {
        let call = Call::get(Compute, "list flavors", "of the cloud", &["flavors"]);
        let all: Vec<Named> = self.client.list(call, "flavors").await?;
        Ok(all.into_iter().map(|flavor| flavor.name).collect())
    }

    /// The networks that floating IPs come from.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn networks_outside(&self) -> Result<Vec<Network>, CloudError> {
        let call = Call::get(Neutron, "list external networks", "of the cloud", &["networks"])
            .with("router:external", true);
        let mut all: Vec<Network> = self.client.list(call, "networks").await?;
        all.retain(|network| network.external);
        Ok(all)
    }

    /// The gateways of a network's subnets; none where the API shows its subnets to administrators only.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn gateways_of(&self, network: Uuid) -> Result<Vec<IpAddr>, CloudError> {
        let call =
            Call::get(Neutron, "list subnets of network", network, &["subnets"]).with("network_id", network);
        let all: Vec<Subnet> = self.client.list(call, "subnets").await?;
        Ok(all
            .into_iter()
            .filter(|subnet| subnet.network == network)
            .filter_map(|subnet| subnet.gateway)
            .collect())
    }
}
