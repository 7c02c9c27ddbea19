# Neutron with Linux bridges: its own L3, DHCP and metadata agents. Read by services.sh; functions only.
# shellcheck shell=bash disable=SC2154

make_external_bridge() {
    [ -d /sys/class/net/br-ex ] || ip link add br-ex type bridge forward_delay 0 stp_state 0
}

attach_to_external() { ip link set "$1" master br-ex; }

configure_network() {
    ln -sf "$HERE/ebtables.sh" /usr/sbin/ebtables
    configure_neutron router
    cat >/etc/neutron/plugins/ml2/ml2_conf.ini <<END
[ml2]
type_drivers = flat,vxlan,local
tenant_network_types = vxlan
mechanism_drivers = linuxbridge
extension_drivers = port_security
[ml2_type_flat]
flat_networks = physnet1
[ml2_type_vxlan]
vni_ranges = 1:1000
[securitygroup]
enable_security_group = true
enable_ipset = true
END
    cat >/etc/neutron/plugins/ml2/linuxbridge_agent.ini <<END
[linux_bridge]
bridge_mappings = physnet1:br-ex
[vxlan]
enable_vxlan = true
local_ip = $IP
l2_population = false
[agent]
polling_interval = 1
[securitygroup]
enable_security_group = true
firewall_driver = iptables
enable_ipset = true
END
    printf '[DEFAULT]\ninterface_driver = linuxbridge\nagent_mode = legacy\n' >/etc/neutron/l3_agent.ini
    cat >/etc/neutron/dhcp_agent.ini <<END
[DEFAULT]
interface_driver = linuxbridge
dhcp_driver = neutron.agent.linux.dhcp.Dnsmasq
enable_isolated_metadata = true
resync_interval = 5
END
    cat >/etc/neutron/metadata_agent.ini <<END
[DEFAULT]
nova_metadata_host = $IP
nova_metadata_port = 8775
metadata_proxy_shared_secret = $METADATA_SECRET
metadata_workers = 1
END
}

AGENTS="neutron-linuxbridge-agent neutron-l3-agent neutron-dhcp-agent neutron-metadata-agent"

start_agents() {
    agent linuxbridge plugins/ml2/linuxbridge_agent.ini
    agent dhcp dhcp_agent.ini
    agent l3 l3_agent.ini
    agent metadata metadata_agent.ini
}
agent() {
    start "neutron-$1-agent" "/usr/bin/neutron-$1-agent" --config-file /etc/neutron/neutron.conf --config-file "/etc/neutron/$2" --log-file "$LOG/neutron-$1-agent.log"
}
