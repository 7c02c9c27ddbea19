//! The Open vSwitch side of a plug: a port on the integration bridge that carries the Neutron port's id, by which OVN or the
//! Open vSwitch agent recognises and wires it.

use super::{
    command,
    error::VipError,
    plug::{INSIDE, PlugSpec},
    settings::Plug,
};
use crate::core::cloud::FailureKind;

/// The integration bridge; both OVN and Neutron's agent call it so unless told otherwise.
const BRIDGE: &str = "br-int";
/// Where the command may be: the distribution's and the MicroStack snap's.
const COMMANDS: [&str; 2] = ["ovs-vsctl", "microstack.ovs-vsctl"];

/// The switch that ports are plugged into here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Switch {
    /// Open vSwitch, by this command.
    Ovs(String),
    LinuxBridge,
}

impl Switch {
    /// What `plug` says, or what is found on this host.
    ///
    /// # Errors
    /// When an `ovs-vsctl` is there that does not answer: then nobody can know.
    pub(super) async fn of(plug: &Plug) -> Result<Self, VipError> {
        match plug {
            Plug::Ovs { command } => return Ok(Self::Ovs(command.clone())),
            Plug::LinuxBridge => return Ok(Self::LinuxBridge),
            Plug::Auto => {}
        }
        for program in COMMANDS {
            let asked = match command::run(program, &["--timeout=5", "br-exists", BRIDGE]).await {
                Err(VipError::Command { kind: FailureKind::NotFound, .. }) => continue,
                other => other?,
            };
            match asked.code {
                Some(0) => return Ok(Self::Ovs(program.to_owned())),
                // The documented code for "no such bridge".
                Some(2) => {}
                _ => {
                    return Err(
                        asked.failure("; start Open vSwitch, or say linuxbridge in the settings of the plug")
                    );
                }
            }
        }
        Ok(Self::LinuxBridge)
    }
}

/// Puts the device on the bridge under the port's id; may be repeated.
pub(super) async fn add_port(program: &str, device: &str, spec: &PlugSpec) -> Result<(), VipError> {
    let args = [
        "--timeout=10",
        "--may-exist",
        "add-port",
        BRIDGE,
        device,
        "--",
        "set",
        "Interface",
        device,
        &format!("external_ids:iface-id={}", spec.port),
        // Quoted, because the colons are ovs-vsctl's own punctuation.
        &format!("external_ids:attached-mac=\"{}\"", spec.mac),
    ];
    command::run(program, &args).await?.success()?;
    if is_userspace(program).await? {
        // That datapath takes frames off the device as they are; a checksum that a network card should fill in would stay empty.
        ethtool(&spec.netns, &["-K", INSIDE, "tx", "off"]).await?;
    }
    Ok(())
}

/// Takes the device off the bridge; no error when it is not there.
pub(super) async fn delete_port(program: &str, device: &str) -> Result<(), VipError> {
    command::run(program, &["--timeout=10", "--if-exists", "del-port", BRIDGE, device]).await?.success()?;
    Ok(())
}

/// What differs from a port that was added by [`add_port`], in words.
pub(super) async fn differences(
    program: &str,
    device: &str,
    spec: &PlugSpec,
) -> Result<Vec<String>, VipError> {
    let ports = command::run(program, &["--timeout=5", "list-ports", BRIDGE]).await?.success()?;
    if !ports.lines().any(|port| port == device) {
        return Ok(vec![format!("{device} is not on {BRIDGE}")]);
    }
    let mut differs = Vec::new();
    let wanted = [("iface-id", spec.port.to_string()), ("attached-mac", spec.mac.to_string())];
    for (key, value) in wanted {
        let column = format!("external_ids:{key}");
        let args = ["--timeout=5", "--if-exists", "get", "Interface", device, &column];
        let found = command::run(program, &args).await?.success()?;
        if found.trim().trim_matches('"') != value {
            differs.push(format!("{device} has {key} {:?} instead of {value}", found.trim()));
        }
    }
    Ok(differs)
}

/// What differs of the offloads inside the namespace; needs the right to enter it.
pub(super) async fn offload_differences(program: &str, spec: &PlugSpec) -> Result<Vec<String>, VipError> {
    if !is_userspace(program).await? {
        return Ok(Vec::new());
    }
    let features = ethtool(&spec.netns, &["-k", INSIDE]).await?;
    let off = features.lines().any(|line| line.trim() == "tx-checksumming: off");
    Ok(if off { Vec::new() } else { vec![format!("{INSIDE} leaves checksums to a network card")] })
}

async fn is_userspace(program: &str) -> Result<bool, VipError> {
    let datapath =
        command::run(program, &["--timeout=5", "get", "bridge", BRIDGE, "datapath_type"]).await?.success()?;
    Ok(datapath.trim().trim_matches('"') == "netdev")
}

async fn ethtool(netns: &str, args: &[&str]) -> Result<String, VipError> {
    let net = format!("--net={}", super::netns::path(netns).display());
    command::run("nsenter", &[&[net.as_str(), "ethtool"], args].concat()).await?.success()
}
