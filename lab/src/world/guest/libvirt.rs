//! What the lab asks of its libvirt: a connection per call, so that a restarted daemon is no event.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::Domain as Handle,
    enumutil::Enum,
    error::{Error, ErrorNumber},
};

/// The lab's own libvirt.
const URI: &str = "qemu:///system";
/// Time for the guest to obey the power button; Nova waits for 60 s, these guests need less than one.
const POWER_OFF_DEADLINE: Duration = Duration::from_secs(10);

/// Defines a domain and starts it, when it does not run already.
///
/// # Errors
///
/// What libvirt or QEMU says.
pub fn boot(id: Uuid, xml: &str) -> Result<()> {
    let connection = connect()?;
    let domain =
        connection.define_domain_xml(xml).with_context(|| format!("failed to define domain {id}"))?;
    start(&domain, id)
}

/// Waits until the lab's libvirt answers.
///
/// # Errors
///
/// What it said last, when it did not answer within `deadline`.
pub fn wait(deadline: Duration) -> Result<()> {
    let end = Instant::now() + deadline;
    loop {
        match connect() {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Starts a domain that is defined and stopped.
///
/// # Errors
///
/// When there is none, or QEMU does not start.
pub fn power_on(id: Uuid) -> Result<()> {
    let connection = connect()?;
    let domain = find(&connection, id)?.with_context(|| format!("there is no domain {id}"))?;
    start(&domain, id)
}

/// Stops a domain: by its power button with a deadline, then hard, or hard at once. None, or a stopped one, is fine.
///
/// # Errors
///
/// What libvirt says.
pub fn power_off(id: Uuid, graceful: bool) -> Result<()> {
    let connection = connect()?;
    let Some(domain) = find(&connection, id)? else { return Ok(()) };
    if graceful && domain.is_active()? {
        domain.shutdown().with_context(|| format!("failed to press the power button of domain {id}"))?;
        let end = Instant::now() + POWER_OFF_DEADLINE;
        while domain.is_active()? && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
    }
    destroy_if_active(&domain)
}

/// Stops a domain hard and forgets it. None is fine.
///
/// # Errors
///
/// What libvirt says.
pub fn remove(id: Uuid) -> Result<()> {
    let connection = connect()?;
    let Some(domain) = find(&connection, id)? else { return Ok(()) };
    destroy_if_active(&domain)?;
    domain.undefine().with_context(|| format!("failed to undefine domain {id}"))
}

/// Whether a domain runs; none does not.
///
/// # Errors
///
/// What libvirt says.
pub fn is_running(id: Uuid) -> Result<bool> {
    let connection = connect()?;
    Ok(find(&connection, id)?.map(|domain| domain.is_active()).transpose()?.unwrap_or(false))
}

fn connect() -> Result<Connect> {
    Connect::open(Some(URI)).with_context(|| format!("failed to connect to the lab's libvirt ({URI})"))
}

fn find(connection: &Connect, id: Uuid) -> Result<Option<Handle>> {
    match connection.lookup_domain_by_uuid(id) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if error.code() == Enum::Known(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to look up domain {id}")),
    }
}

fn destroy_if_active(domain: &Handle) -> Result<()> {
    let stopped = |error: &Error| error.code() == Enum::Known(ErrorNumber::OperationInvalid);
    match domain.destroy() {
        Ok(()) => Ok(()),
        Err(error) if stopped(&error) => Ok(()),
        Err(error) => Err(error).context("failed to stop a domain"),
    }
}

fn start(domain: &Handle, id: Uuid) -> Result<()> {
    if !domain.is_active()? {
        domain.create().with_context(|| format!("failed to start domain {id}"))?;
        if let Err(error) = prefer(&domain.name()?) {
            tracing::debug!(%id, %error, "the guest has no precedence on this machine's CPUs");
        }
    }
    Ok(())
}

/// Lets a guest go before whatever else runs on this machine, as far as the kernel groups processes by session: there a process's own
/// niceness counts within its session only. Only root may.
fn prefer(domain: &str) -> io::Result<()> {
    let pid = fs::read_to_string(format!("/run/libvirt/qemu/{domain}.pid"))?;
    fs::write(format!("/proc/{}/autogroup", pid.trim()), super::NICENESS)
}
