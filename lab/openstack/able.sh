#!/bin/bash
# Says why this machine cannot carry the rig, and fails then; says nothing where it can.
. "$(dirname "$0")/common.sh"

no() { echo "$*"; exit 1; }

[ "$(id -u)" = 0 ] || no "it needs root: namespaces with overlays, and real network agents"
release=$(. /etc/os-release && echo "$ID ${VERSION_ID:-}")
[ "$release" = "debian 12" ] || no "it is made of Debian 12's packages, and this is $release"
foreign=$(foreign_services)
[ -z "$foreign" ] || no "$foreign"
memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
[ "$memory" -ge 6000 ] || no "it needs 6000 MiB of memory, and $memory MiB are left"
mkdir -p "$RIG_CACHE"
disk=$(df --output=avail -BM "$RIG_CACHE" | tail -n 1 | tr -dc 0-9)
[ "$disk" -ge 3000 ] || no "it needs 3000 MiB of disk below $RIG_CACHE, and $disk MiB are left"
# The same as the rig does, small: namespaces, a layer over /var on that disk, links between network namespaces, a tunnel.
probe=$(mktemp -d "$RIG_CACHE/probe.XXXXXX")
trap 'rm -rf "$probe"' EXIT
unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc bash -euc '
    mount --make-rprivate /
    mkdir "$1/upper" "$1/work"
    mount -t overlay -o "lowerdir=/var,upperdir=$1/upper,workdir=$1/work,index=off,xino=off" rig /var
    mount -t tmpfs rig /run
    mkdir /run/netns
    ip link add br-probe type bridge
    ip netns add probe
    ip link add probe0 type veth peer name probe1 netns probe
    ip link set probe0 master br-probe
    ip tuntap add probe2 mode tap
    ip link add probe3 type vxlan id 1 dev lo dstport 4789
    iptables -V >/dev/null 2>&1 || nft list tables >/dev/null' bash "$probe" >"$RIG_CACHE/probe.log" 2>&1 ||
    no "namespaces, overlays and network devices cannot be made: $(tail -n 1 "$RIG_CACHE/probe.log")"
