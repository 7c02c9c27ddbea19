//! What exists from the start, with the names that MicroStack's users know.

use uuid::Uuid;

use super::{
    Cloud, Urls,
    glance::Images,
    keystone::{self, Identity},
    neutron::{self, Network},
    nova::{self, Compute, Flavor, KeyPair},
    options::{Options, Seed},
    store::State,
};

/// Name, vCPUs, MiB. The last two are there to fail: no host has so much, and no quota allows so much.
const FLAVORS: [(&str, u32, u32); 5] = [
    ("m1.nano", 1, 96),
    ("m1.tiny", 1, 128),
    ("m1.small", 2, 256),
    ("m1.huge", 1, 45_000),
    ("m1.overquota", 1, 1_000_000),
];

/// The first records.
pub(super) fn state(options: &Options, urls: &Urls) -> State {
    let now = options.clock.now();
    let identity = Identity::new(options, keystone::catalog(urls, &options.region));
    let (user, project) = identity.owner();

    let mut compute = Compute::default();
    compute.flavors.extend(FLAVORS.map(|(name, vcpus, memory_mib)| Flavor {
        id: Uuid::new_v4().to_string(),
        name: name.to_owned(),
        vcpus,
        memory_mib,
        disk_gib: 1,
    }));
    let mut images = Images::default();
    for name in ["cirros", "ubuntu-22.04"] {
        images.seed(project, name, now);
    }
    let mut network = Network::default();
    // The pools are empty before, so that there is an address for each of these.
    let external = network.seed_external(project, &options.host, now).ok();
    if let Some(external) = external.filter(|_| options.seed == Seed::Lab) {
        let _ = network.seed_lab(project, external, now);
        compute.keypairs.push(KeyPair {
            number: 1,
            user,
            name: "lab-key".to_owned(),
            public_key: options.lab_key.clone(),
            fingerprint: nova::fingerprint(&options.lab_key).unwrap_or_default(),
            created: now,
        });
    }
    State { identity, compute, network, images }
}

/// Makes the seed's networks and routers real.
pub(super) async fn wire(cloud: &Cloud) -> Result<(), String> {
    let (networks, routers): (Vec<Uuid>, Vec<Uuid>) = {
        let network = &cloud.state().network;
        let inner = network.networks.values().filter(|net| !net.external);
        (inner.map(|net| net.base.id).collect(), network.routers.keys().copied().collect())
    };
    for id in networks {
        cloud.driver.network_up(id).await?;
    }
    for id in routers {
        neutron::bring_up(cloud, id).await?;
    }
    Ok(())
}
