# What the rig's scripts share: places, names, versions. Read with `.`, does nothing by itself.
# shellcheck shell=bash disable=SC2034

set -euo pipefail
export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# What this process was given beyond its input and output (a lock, say) is not for services that outlive it.
for descriptor in "/proc/$$/fd"/*; do
    descriptor=${descriptor##*/}
    case $descriptor in 0 | 1 | 2 | 255) ;; *) eval "exec $descriptor>&-" ;; esac
done

# The rig's directory: openrc, clouds.yaml, logs and the process id of its first process. One rig a machine.
RIG_DIR=${LBSIDECAR_RIG_DIR:-/run/lbsidecar-rig}
# The layer of packages, kept between runs. It may not lie below what it is laid over: /usr, /etc or /var.
RIG_CACHE=${LBSIDECAR_RIG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lbsidecar-rig}
# What is laid over: packages, configuration and state live in a layer above, never in the machine's own files.
LAID_OVER="usr etc var"
# How layer.sh and up.sh end when the packages cannot be downloaded: the machine is to blame, and nobody's change. `./x ci` knows it too.
UNREACHABLE=75
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

PACKAGES="mariadb-server rabbitmq-server memcached keystone glance-api placement-api nova-api nova-conductor nova-scheduler
 nova-compute neutron-server neutron-linuxbridge-agent neutron-l3-agent neutron-dhcp-agent neutron-metadata-agent
 neutron-ovn-metadata-agent ovn-central ovn-host openvswitch-switch ethtool
 python3-openstackclient python3-pymemcache python3-pymysql libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients
 python3-libvirt qemu-system-x86 qemu-utils ebtables ipset dnsmasq-base iptables conntrack haproxy
 busybox-static curl jq procps iproute2 e2fsprogs openssl openssh-client nftables"

say() { printf 'rig: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The rig's first process, as this machine numbers it; fails when the rig is not up.
first_process() {
    local pid
    pid=$(cat "$RIG_DIR/pid" 2>/dev/null) && [ -n "$pid" ] && grep -qs '^rig-keeper' "/proc/$pid/comm" && echo "$pid"
}

# Whose services are these? A real cloud of the machine must not get a second one beside it that looks the same: says what there is of one.
foreign_services() {
    local found rigs snap
    # Services of another rig are no cloud of this machine.
    rigs=$(ps -e -o pidns=,comm= | awk '$2 == "rig-keeper" { printf "%s ", $1 }')
    found=$(ps -e -o pidns=,args= | awk -v rigs=" $rigs" '!index(rigs, " " $1 " ") { sub(/^ *[0-9]+ +/, ""); print }' |
        grep -oE '(^|/)((nova|neutron|glance|keystone|placement)-[a-z-]+|ovn-controller|ovs-vswitchd)( |$)' | tr -d ' /' | sort -u | tr '\n' ' ' || true)
    [ -z "$found" ] || echo "OpenStack or Open vSwitch runs on this machine already (${found% }); the rig keeps away from it"
    for snap in microstack openstack-hypervisor; do
        [ ! -d "/var/snap/$snap" ] || echo "the snap $snap is installed on this machine; the rig keeps away from it"
    done
}
