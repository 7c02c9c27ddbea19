//! A guest as libvirt knows it. The XML has what Nova writes and what readers of it rely on.

use std::path::Path;

use super::{Accelerator, COMMAND_LINE};
use crate::{
    cloud::driver::Boot,
    world::net::{TENANT_MTU, tap_name},
};

/// All that a domain is made of.
#[derive(Debug)]
pub struct Domain<'a> {
    /// The guest.
    pub guest: &'a Boot,
    /// `instance-xxxxxxxx`.
    pub name: &'a str,
    /// What runs it.
    pub accelerator: Accelerator,
    /// Its kernel.
    pub kernel: &'a Path,
    /// Directory with `initramfs` and `disk`, where `console.log` is written.
    pub home: &'a Path,
}

/// Ubuntu's kernel does not start in less, whatever the flavor says. Memory that a guest does not touch costs nothing.
const KERNEL_MIB: u64 = 192;

impl Domain<'_> {
    /// Its description.
    #[must_use]
    pub fn xml(&self) -> String {
        let Self { guest, name, accelerator, kernel, home } = self;
        let (id, vcpus) = (guest.id, guest.vcpus);
        let memory = u64::from(guest.memory_mib).max(KERNEL_MIB) * 1024;
        let mut ports = String::new();
        let mut interfaces = String::new();
        for nic in &guest.nics {
            ports.push_str(&format!(
                "<nova:port uuid='{}'><nova:ip type='fixed' address='{}' ipVersion='4'/></nova:port>",
                nic.port, nic.address
            ));
            interfaces.push_str(&format!(
                "<interface type='ethernet'><mac address='{}'/><target dev='{}' managed='no'/><model type='virtio'/>\
                 <driver name='qemu'/><mtu size='{}'/></interface>",
                escape(&nic.mac),
                tap_name(nic.port),
                TENANT_MTU,
            ));
        }
        format!(
            "<domain type='{}'><name>{name}</name><uuid>{id}</uuid>\
             <metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>\
             <nova:package version='26.2.2'/><nova:name>{}</nova:name>\
             <nova:flavor name='lab'><nova:memory>{}</nova:memory><nova:vcpus>{vcpus}</nova:vcpus></nova:flavor>\
             <nova:root type='image' uuid='{}'/><nova:ports>{ports}</nova:ports></nova:instance></metadata>\
             <memory unit='KiB'>{memory}</memory><vcpu>{vcpus}</vcpu>\
             <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{}</kernel><initrd>{}</initrd>\
             <cmdline>{COMMAND_LINE}</cmdline></os>\
             <features><acpi/><apic/></features><clock offset='utc'/>\
             <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>\
             <devices>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>\
             <controller type='usb' model='none'/>{interfaces}\
             <serial type='file'><source path='{}' append='on'/><target port='0'/></serial>\
             <memballoon model='virtio'><stats period='1'/></memballoon>\
             </devices></domain>",
            accelerator.domain_type(),
            escape(&guest.name),
            guest.memory_mib,
            guest.image,
            escape_path(kernel),
            escape_path(&home.join("initramfs")),
            escape_path(&home.join("disk")),
            escape_path(&home.join("console.log")),
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

fn escape_path(path: &Path) -> String {
    escape(&path.to_string_lossy())
}
