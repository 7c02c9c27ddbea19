//! Settings that are one word out of a few, and the types that only the configuration needs.

use super::setting::{Raw, Setting};
use crate::{
    core::settings::{CloneSource, DrainPolicy, LostPrimary, Metric, Signal},
    haproxy::settings::ServiceMode,
    telemetry::LogFormat,
};

macro_rules! choice {
    ($type:ident: $($name:literal $(| $alias:literal)* => $variant:ident),+) => {
        impl Setting for $type {
            const KIND: &'static str = concat!("one of" $(, " `", $name, "`")+);
            fn read(raw: &Raw) -> Result<Self, String> {
                match raw {
                    $(Raw::Text(text) if [$name $(, $alias)*].contains(&text.trim()) => Ok(Self::$variant),)+
                    _ => Err(format!("use one of {}", [$($name),+].join(", "))),
                }
            }
            fn show(&self) -> String {
                match self { $(Self::$variant => format!("{:?}", $name)),+ }
            }
        }
    };
}

choice!(Metric: "max" => Max, "mean" | "avg" => Mean, "last" => Last, "p95" => P95);
choice!(Signal: "cpu" => Cpu, "mem" => Mem, "max-cpu-mem" | "max(cpu,mem)" => MaxCpuMem);
choice!(CloneSource: "image" => Image, "snapshot" => Snapshot);
choice!(LostPrimary: "recreate" => Recreate, "alert" => Alert);
choice!(DrainPolicy: "wait" => Wait, "abort" => Abort, "force" => Force);
choice!(ServiceMode: "http" => Http, "tcp" => Tcp);
choice!(LogFormat: "auto" => Auto, "text" => Text, "json" => Json);
choice!(Interface: "public" => Public, "internal" => Internal, "admin" => Admin);
choice!(Way: "port" => Port, "host" => Host, "static" => Static);
choice!(PlugWay: "auto" => Auto, "ovs" => Ovs, "linuxbridge" => LinuxBridge);
choice!(Starter: "auto" => Auto, "systemd" => Systemd, "detached" => Detached);

/// Which of a service's endpoints are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    /// The public ones.
    Public,
    /// The internal ones.
    Internal,
    /// The administrative ones.
    Admin,
}

/// How the service address reaches HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A port of ours in the tenant network.
    Port,
    /// An interface of the host.
    Host,
    /// It is there already.
    Static,
}

/// How our port is plugged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlugWay {
    /// As the host suggests.
    Auto,
    /// Into Open vSwitch.
    Ovs,
    /// By the linuxbridge agent.
    LinuxBridge,
}

/// Who starts HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// systemd where our unit is installed, else we.
    Auto,
    /// systemd.
    Systemd,
    /// We.
    Detached,
}

/// HTTP statuses that count as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusRange {
    /// The lowest.
    pub(super) min: u16,
    /// The highest.
    pub(super) max: u16,
}
