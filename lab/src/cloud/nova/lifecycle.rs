//! What becomes of a server after its request was answered: build, stop, start, reboot, snapshot, delete.
//!
//! ```text
//! BUILD scheduling ─► (none) ─► networking ─► spawning ─► ACTIVE ⇄ SHUTOFF
//!        └──────────┴──────────┴────────────┴─► ERROR          any ─► (task deleting) ─► DELETED ─► 404
//! ```
//! Whoever works on a guest holds the server's gate; a delete therefore waits for a boot that is under way.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::Uuid;

use super::{
    super::{Cloud, driver::Boot, faults::What, neutron, store::State},
    records::{Attachment, Fault, KeyPair, Server, VmState},
};

/// Nova's default for memory that may be promised beyond what there is: 1.5.
const MEMORY_RATIO_PERCENT: u32 = 150;

/// Changes a server, if it is still there.
fn change(cloud: &Cloud, id: Uuid, with: impl FnOnce(&mut Server)) {
    let now = cloud.now();
    if let Some(server) = cloud.state().compute.servers.get_mut(&id) {
        with(server);
        server.updated = now;
    }
}

/// The work is done: there is no task any more, unless the next one is to delete it.
fn settle(server: &mut Server) {
    server.task = server.task.filter(|task| *task == "deleting");
}

/// Starts work on a guest, after all earlier work on it.
fn work<F>(cloud: &Arc<Cloud>, id: Uuid, job: impl FnOnce(Arc<Cloud>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(gate) = cloud.state().compute.servers.get(&id).map(|server| server.gate.clone()) else { return };
    let cloud_of_job = cloud.clone();
    cloud.spawn(async move {
        let _held = gate.lock().await;
        job(cloud_of_job).await;
    });
}

/// A step of a build went wrong, or the server is being deleted and `None` is to be done.
type Stop = Option<String>;

pub(super) fn build(cloud: &Arc<Cloud>, id: Uuid, played: Option<What>) {
    let verdict = match played {
        Some(What::StuckBuild) => return,
        Some(What::BuildError { message }) => {
            Some(message.unwrap_or_else(|| "No valid host was found. ".to_owned()))
        }
        _ => None,
    };
    work(cloud, id, move |cloud| async move {
        if let Err(Some(why)) = steps(&cloud, id, verdict).await {
            neutron::release_device(&cloud, id).await;
            let now = cloud.now();
            change(&cloud, id, |server| {
                server.vm = VmState::Error;
                settle(server);
                server.fault = Some(Fault { message: why, created: now });
            });
        }
    });
}

async fn steps(cloud: &Cloud, id: Uuid, verdict: Option<String>) -> Result<(), Stop> {
    let pace = cloud.options.pace;
    cloud.clock().sleep(pace.scheduling).await;
    place(cloud, id, verdict)?;
    // For a moment the host has it, and nothing is done with it yet.
    cloud.clock().sleep(pace.networking / 4).await;
    building(&mut cloud.state(), id)?.task = Some("networking");
    cloud.clock().sleep(pace.networking * 3 / 4).await;
    let boot = plug(&mut cloud.state(), cloud, id)?;
    cloud.driver.boot(boot).await.map_err(|why| Some(format!("Build of instance {id} aborted: {why}")))?;
    let now = cloud.now();
    cloud.state().network.device_is_up(id, true, now);
    change(cloud, id, |server| {
        server.vm = VmState::Active;
        server.power = 1;
        settle(server);
        server.launched = Some(now);
    });
    Ok(())
}

/// The server in a build that is to go on.
fn building(state: &mut State, id: Uuid) -> Result<&mut Server, Stop> {
    state.compute.servers.get_mut(&id).filter(|server| server.task != Some("deleting")).ok_or(None)
}

fn place(cloud: &Cloud, id: Uuid, verdict: Option<String>) -> Result<(), Stop> {
    let mut state = cloud.state();
    let room = cloud.options.host.memory_mib * MEMORY_RATIO_PERCENT / 100;
    let used = state.compute.memory_in_use();
    let number = state.compute.placed + 1;
    let server = building(&mut state, id)?;
    if verdict.is_some() {
        return Err(verdict);
    }
    if used + server.flavor.memory_mib > room {
        return Err(Some("No valid host was found. ".to_owned()));
    }
    server.number = Some(number);
    server.task = None;
    state.compute.placed = number;
    Ok(())
}

/// Makes and binds the ports; answers what the driver is to boot.
fn plug(state: &mut State, cloud: &Cloud, id: Uuid) -> Result<Boot, Stop> {
    let now = cloud.now();
    let server = building(state, id)?;
    server.task = Some("spawning");
    let server = server.clone();
    let mut nics = Vec::new();
    for (card, attachment) in server.attachments.iter().enumerate() {
        let port = match attachment {
            Attachment::Port(port) => Ok(*port),
            Attachment::Network(network, fixed) => {
                let groups = &server.groups;
                let port = state.network.make_server_port(*network, *fixed, groups, server.project, now);
                // At once: when a later card fails, this port is taken back, too.
                building(state, id)?.made_ports.extend(port.as_ref().ok().copied());
                port
            }
        };
        let port = port.and_then(|port| state.network.bind_port(port, id, card, now));
        let port = port.map_err(|why| Some(format!("Build of instance {id} aborted: {why}")))?;
        nics.extend(state.network.nic(port));
    }
    let is_its = |key: &&KeyPair| key.user == server.user && Some(&key.name) == server.key_name.as_ref();
    let public_key = state.compute.keypairs.iter().find(is_its).map(|key| key.public_key.clone());
    Ok(Boot {
        id,
        name: server.host_name,
        vcpus: server.flavor.vcpus,
        memory_mib: server.flavor.memory_mib,
        image: server.image,
        user_data: server.user_data.and_then(|data| STANDARD.decode(data).ok()),
        public_key,
        nics,
    })
}

pub(super) fn delete(cloud: &Arc<Cloud>, id: Uuid) {
    work(cloud, id, move |cloud| async move {
        // A second DELETE waits for the first and then finds nothing to do.
        if cloud.state().compute.servers.get(&id).is_none_or(|server| server.vm == VmState::Deleted) {
            return;
        }
        if let Err(why) = cloud.driver.destroy(id).await {
            change(&cloud, id, |server| server.task = None);
            return fail(&cloud, id, why);
        }
        neutron::release_device(&cloud, id).await;
        let now = cloud.now();
        change(&cloud, id, |server| {
            server.vm = VmState::Deleted;
            server.task = None;
            server.power = 0;
            server.terminated = Some(now);
        });
        // The answers with status DELETED go on for a while; the gate is nobody's any more.
        let forgetful = cloud.clone();
        cloud.spawn(async move {
            forgetful.clock().sleep(forgetful.options.pace.deleted).await;
            forgetful.state().compute.servers.remove(&id);
        });
    });
}

pub(super) fn stop(cloud: &Arc<Cloud>, id: Uuid) {
    work(cloud, id, move |cloud| async move {
        match cloud.driver.power_off(id, true).await {
            Ok(()) => off(&cloud, id),
            Err(why) => fail(&cloud, id, why),
        }
    });
}

pub(super) fn start(cloud: &Arc<Cloud>, id: Uuid) {
    work(cloud, id, move |cloud| async move {
        match cloud.driver.power_on(id).await {
            Ok(()) => on(&cloud, id),
            Err(why) => fail(&cloud, id, why),
        }
    });
}

pub(super) fn reboot(cloud: &Arc<Cloud>, id: Uuid, hard: bool) {
    work(cloud, id, move |cloud| async move {
        let off = cloud.driver.power_off(id, !hard).await;
        let task = if hard { "reboot_started_hard" } else { "reboot_started" };
        change(&cloud, id, |server| {
            settle(server);
            server.task = server.task.or(Some(task));
        });
        let done = match off {
            Ok(()) => cloud.driver.power_on(id).await,
            Err(why) => Err(why),
        };
        match done {
            Ok(()) => on(&cloud, id),
            Err(why) => fail(&cloud, id, why),
        }
    });
}

fn off(cloud: &Cloud, id: Uuid) {
    cloud.state().network.device_is_up(id, false, cloud.now());
    change(cloud, id, |server| {
        server.vm = VmState::Stopped;
        server.power = 4;
        settle(server);
    });
}

fn on(cloud: &Cloud, id: Uuid) {
    cloud.state().network.device_is_up(id, true, cloud.now());
    change(cloud, id, |server| {
        server.vm = VmState::Active;
        server.power = 1;
        settle(server);
    });
}

fn fail(cloud: &Cloud, id: Uuid, why: String) {
    let now = cloud.now();
    change(cloud, id, |server| {
        server.vm = VmState::Error;
        settle(server);
        server.fault = Some(Fault { message: why, created: now });
    });
}

pub(super) fn snapshot(cloud: &Arc<Cloud>, id: Uuid, image: Uuid) {
    work(cloud, id, move |cloud| async move {
        let step = |task: Option<&'static str>| {
            change(&cloud, id, |server| {
                if server.task != Some("deleting") {
                    server.task = task;
                }
            });
        };
        cloud.clock().sleep(cloud.options.pace.snapshot).await;
        cloud.state().images.upload(image, false, cloud.now());
        step(Some("image_uploading"));
        let taken = cloud.driver.snapshot(id, image).await;
        let now = cloud.now();
        {
            let mut state = cloud.state();
            match taken {
                Ok(()) => state.images.upload(image, true, now),
                // Nova throws the image away when a snapshot fails.
                Err(_) => state.images.remove(image),
            }
        }
        step(None);
    });
}

/// Looks now and then whether servers that are ACTIVE really run, and says SHUTOFF of those that do not.
pub(in super::super) fn keep_in_step(cloud: &Arc<Cloud>) {
    let watched = cloud.clone();
    cloud.spawn(async move {
        loop {
            watched.clock().sleep(watched.options.pace.power_sync).await;
            let idle = |server: &&Server| server.vm == VmState::Active && server.task.is_none();
            let active: Vec<Uuid> =
                watched.state().compute.servers.values().filter(idle).map(|server| server.id).collect();
            for id in active {
                let gone = watched.driver.running(id).await == Ok(false);
                let still = watched.state().compute.servers.get(&id).is_some_and(|server| idle(&server));
                if gone && still {
                    off(&watched, id);
                }
            }
        }
    });
}
