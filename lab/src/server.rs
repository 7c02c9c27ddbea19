//! The lab's server: the world and the cloud in one process, and the sockets by which the lab is reached from outside.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tokio::{io::AsyncWriteExt, net::UnixListener};

use crate::{
    directory::Directory,
    publish,
    world::{World, WorldSettings},
};

/// The cloud's administrator. The password protects nothing: whoever reaches the cloud is in the lab already.
const PASSWORD: &str = "lab-admin";

/// Runs until it is killed, which `down` does to the whole lab.
pub(crate) fn run(directory: &Directory) -> Result<()> {
    let plan = directory.read_plan()?;
    let world = World::start(WorldSettings {
        guests: directory.guests(),
        libvirt_log: directory.path().join("libvirtd.log"),
        image: plan.image,
        accelerator: plan.accelerator,
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(directory, world))
}

async fn serve(directory: &Directory, world: World) -> Result<()> {
    // The cloud's API starts here, over the world as its driver.
    directory.write_env(&variables(directory, "http://10.20.20.1:5000/v3"))?;
    publish::serve(listen(&directory.forward())?);
    // Last: whoever can connect to it may rely on all the rest.
    let control = listen(&directory.control())?;
    loop {
        let (mut client, _) = control.accept().await.context("failed to listen for status requests")?;
        let world = world.clone();
        tokio::spawn(async move {
            let guests = tokio::task::spawn_blocking(move || world.guests()).await?;
            let text = serde_json::to_string_pretty(&serde_json::json!({ "guests": guests }))?;
            client.write_all((text + "\n").as_bytes()).await?;
            anyhow::Ok(())
        });
    }
}

fn listen(path: &std::path::Path) -> Result<UnixListener> {
    UnixListener::bind(path).with_context(|| format!("failed to listen on {}", path.display()))
}

/// What programs in the lab need to find its cloud, its libvirt and the lab itself.
fn variables(directory: &Directory, auth_url: &str) -> BTreeMap<String, String> {
    [
        ("OS_AUTH_URL", auth_url),
        ("OS_USERNAME", "admin"),
        ("OS_PASSWORD", PASSWORD),
        ("OS_PROJECT_NAME", "admin"),
        ("OS_USER_DOMAIN_NAME", "Default"),
        ("OS_PROJECT_DOMAIN_NAME", "Default"),
        ("OS_REGION_NAME", "microstack"),
        ("OS_IDENTITY_API_VERSION", "3"),
        ("OS_INTERFACE", "public"),
        ("LIBVIRT_DEFAULT_URI", "qemu:///system"),
        ("LBSIDECAR_GUESTS_URIS", "qemu:///system"),
        // The host's would be used, which an ordinary user may not write and root should not.
        ("LBSIDECAR_DAEMON_STATE_DIR", &directory.path().join("state").to_string_lossy()),
        ("LBSIDECAR_LAB_DIR", &directory.path().to_string_lossy()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
