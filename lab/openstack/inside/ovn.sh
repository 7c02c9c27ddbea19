# Neutron with OVN on Open vSwitch, as MicroStack has it, with the userspace datapath: no kernel module is needed. Read by services.sh;
# functions only.
# shellcheck shell=bash disable=SC2154

make_external_bridge() {
    local ovs=$STATE/ovs
    mkdir -p "$ovs" /run/openvswitch /run/ovn
    [ -e "$ovs/conf.db" ] || ovsdb-tool create "$ovs/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    [ -e "$ovs/nb.db" ] || ovsdb-tool create "$ovs/nb.db" /usr/share/ovn/ovn-nb.ovsschema
    [ -e "$ovs/sb.db" ] || ovsdb-tool create "$ovs/sb.db" /usr/share/ovn/ovn-sb.ovsschema
    start ovsdb-server ovsdb-server "$ovs/conf.db" --remote=punix:/run/openvswitch/db.sock --unixctl=/run/openvswitch/ovsdb-server.ctl -vconsole:off --log-file="$LOG/ovsdb-server.log"
    wait_for 15 ovsdb-server ovs-vsctl --no-wait init
    ovs-vsctl --no-wait set Open_vSwitch . external-ids:system-id=microstack external-ids:hostname="$(hostname)" external-ids:rundir=/run/openvswitch \
        external-ids:ovn-remote=unix:/run/ovn/ovnsb_db.sock external-ids:ovn-encap-type=geneve external-ids:ovn-encap-ip=127.0.0.1 \
        external-ids:ovn-bridge=br-int external-ids:ovn-bridge-datapath-type=netdev external-ids:ovn-bridge-mappings=physnet1:br-ex \
        external-ids:ovn-cms-options=enable-chassis-as-gw external-ids:ovn-monitor-all=true
    start ovs-vswitchd ovs-vswitchd --monitor unix:/run/openvswitch/db.sock --pidfile=/run/openvswitch/ovs-vswitchd.pid -vconsole:off --log-file="$LOG/ovs-vswitchd.log"
    ovs-vsctl --timeout=20 --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev fail-mode=standalone
    start ovn-nb ovsdb-server "$ovs/nb.db" --remote=punix:/run/ovn/ovnnb_db.sock --remote=ptcp:6641:127.0.0.1 --unixctl=/run/ovn/ovnnb_db.ctl -vconsole:off --log-file="$LOG/ovn-nb.log"
    start ovn-sb ovsdb-server "$ovs/sb.db" --remote=punix:/run/ovn/ovnsb_db.sock --remote=ptcp:6642:127.0.0.1 --unixctl=/run/ovn/ovnsb_db.ctl -vconsole:off --log-file="$LOG/ovn-sb.log"
    wait_for 15 ovn-nb ovn-nbctl init
    wait_for 15 ovn-sb ovn-sbctl init
    start ovn-northd ovn-northd --ovnnb-db=unix:/run/ovn/ovnnb_db.sock --ovnsb-db=unix:/run/ovn/ovnsb_db.sock --unixctl=/run/ovn/ovn-northd.ctl -vconsole:off --log-file="$LOG/ovn-northd.log"
    start ovn-controller ovn-controller unix:/run/openvswitch/db.sock --pidfile=/run/ovn/ovn-controller.pid -vconsole:off --log-file="$LOG/ovn-controller.log"
    wait_for 20 br-int ovs-vsctl br-exists br-int
}

# The userspace datapath takes frames as they are: checksums must be in them.
attach_to_external() {
    ip netns exec client ethtool -K eth0 tx off >/dev/null
    ovs-vsctl --timeout=20 --may-exist add-port br-ex "$1"
}

configure_network() {
    configure_neutron ovn-router
    cat >/etc/neutron/plugins/ml2/ml2_conf.ini <<END
[ml2]
type_drivers = flat,geneve,local
tenant_network_types = geneve
mechanism_drivers = ovn
extension_drivers = port_security
overlay_ip_version = 4
[ml2_type_flat]
flat_networks = physnet1
[ml2_type_geneve]
vni_ranges = 1:65535
max_header_size = 38
[securitygroup]
enable_security_group = true
[ovn]
ovn_nb_connection = tcp:127.0.0.1:6641
ovn_sb_connection = tcp:127.0.0.1:6642
ovn_l3_scheduler = leastloaded
ovn_metadata_enabled = true
enable_distributed_floating_ip = false
END
    cat >/etc/neutron/neutron_ovn_metadata_agent.ini <<END
[DEFAULT]
nova_metadata_host = $IP
nova_metadata_port = 8775
metadata_proxy_shared_secret = $METADATA_SECRET
metadata_workers = 1
[ovs]
ovsdb_connection = unix:/run/openvswitch/db.sock
[ovn]
ovn_nb_connection = tcp:127.0.0.1:6641
ovn_sb_connection = tcp:127.0.0.1:6642
END
    # That datapath's connection tracking drops what has a wrong checksum, and on a tap device it has the checksums that the guest leaves to its
    # network card (`ovs-appctl coverage/show` counts them as conntrack_l4csum_err). So the guest has to make them itself.
    grep -q virtio_net.csum "$RIG/guest/cmdline" || sed -i 's/$/ virtio_net.csum=0/' "$RIG/guest/cmdline"
    printf '[os_vif_ovs]\novsdb_connection = unix:/run/openvswitch/db.sock\n' >>/etc/nova/nova.conf
    # Neutron 21 does not tell os-vif of the datapath, which would set br-int back to the kernel's at every plug. The file is the rig's
    # own: it lies in a layer.
    local driver=/usr/lib/python3/dist-packages/neutron/plugins/ml2/drivers/ovn/mech_driver/mech_driver.py
    grep -q "'datapath_type': 'netdev'" "$driver" ||
        sed -i "0,/portbindings.VIF_TYPE_OVS: {/s//portbindings.VIF_TYPE_OVS: {\n                'datapath_type': 'netdev',/" "$driver"
    grep -q "'datapath_type': 'netdev'" "$driver" || fail "this release of Neutron's OVN driver is not known here"
}

AGENTS="ovn-controller neutron-ovn-metadata-agent"

start_agents() {
    start neutron-ovn-metadata-agent /usr/bin/neutron-ovn-metadata-agent --config-file /etc/neutron/neutron.conf --config-file /etc/neutron/neutron_ovn_metadata_agent.ini --log-file "$LOG/neutron-ovn-metadata-agent.log"
}
