//! The lab's server: the world and the cloud in one process, and the sockets by which the lab is reached from outside.

use std::{collections::BTreeMap, fs, sync::Arc, thread};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::UnixListener};

use crate::{
    cloud::{
        self, Urls,
        options::{Options, Ports},
    },
    directory::Directory,
    publish,
    world::{World, WorldSettings, net::HOST},
};

/// Who runs the guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Libvirt {
    /// A libvirtd that the lab starts.
    Own,
    /// The one that runs already.
    Present,
}

/// Runs until it is killed, which `down` does to the whole lab.
pub(crate) fn run(directory: &Directory, libvirt: Libvirt) -> Result<()> {
    let plan = directory.read_plan()?;
    let world = World::start(WorldSettings {
        guests: directory.guests(),
        libvirt_log: (libvirt == Libvirt::Own).then(|| directory.libvirt_log()),
        image: plan.image,
        accelerator: plan.accelerator,
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    let options = Options { seed: plan.seed, lab_key: plan.public_key, ..options() };
    runtime.block_on(serve(directory, world, options))
}

async fn serve(directory: &Directory, world: World, options: Options) -> Result<()> {
    let password = options.admin_password.clone();
    let cloud =
        cloud::serve(Arc::new(world.clone()), options).await.context("failed to start the lab's cloud")?;
    let urls = cloud.urls().clone();
    directory.write_env(&variables(directory, &urls, &password))?;
    publish::serve(listen(&directory.forward())?);
    // Last: whoever can connect to it may rely on all the rest.
    let control = listen(&directory.control())?;
    tracing::info!(keystone = urls.keystone, control = urls.control, "the lab is ready");
    loop {
        let (mut client, _) = control.accept().await.context("failed to listen for status requests")?;
        let (world, urls) = (world.clone(), urls.clone());
        tokio::spawn(async move {
            let guests = tokio::task::spawn_blocking(move || world.guests()).await?;
            let status = json!({ "cloud": { "auth_url": urls.keystone, "control_url": urls.control }, "guests": guests });
            client.write_all((serde_json::to_string_pretty(&status)? + "\n").as_bytes()).await?;
            anyhow::Ok(())
        });
    }
}

/// The cloud on its customary ports, on the host's address on the external network.
fn options() -> Options {
    let mut options = Options {
        bind: HOST.into(),
        public_host: HOST.to_string(),
        ports: Ports::CUSTOMARY,
        ..Options::default()
    };
    options.host.address = HOST;
    options.host.vcpus =
        thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    if let Some(memory) = memory_mib() {
        // Not more than that, or the flavor that fits no host would fit this one.
        options.host.memory_mib = memory.min(16 * 1024);
    }
    options
}

/// This machine's memory.
fn memory_mib() -> Option<u32> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kib / 1024)
}

fn listen(path: &std::path::Path) -> Result<UnixListener> {
    UnixListener::bind(path).with_context(|| format!("failed to listen on {}", path.display()))
}

/// What programs in the lab need to find its cloud, its libvirt and the lab itself.
fn variables(directory: &Directory, urls: &Urls, password: &str) -> BTreeMap<String, String> {
    [
        ("OS_AUTH_URL", urls.keystone.as_str()),
        ("OS_USERNAME", "admin"),
        ("OS_PASSWORD", password),
        ("OS_PROJECT_NAME", "admin"),
        ("OS_USER_DOMAIN_NAME", "Default"),
        ("OS_PROJECT_DOMAIN_NAME", "Default"),
        ("OS_REGION_NAME", "microstack"),
        ("OS_IDENTITY_API_VERSION", "3"),
        ("OS_INTERFACE", "public"),
        ("LIBVIRT_DEFAULT_URI", "qemu:///system"),
        ("LBSIDECAR_GUESTS_URIS", "qemu:///system"),
        // The host's would be used, which an ordinary user may not write and root should not.
        ("LBSIDECAR_DAEMON_STATE_DIR", &directory.state().to_string_lossy()),
        ("LBSIDECAR_LAB_DIR", &directory.path().to_string_lossy()),
        ("LBSIDECAR_LAB_KEY", &directory.key().to_string_lossy()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
