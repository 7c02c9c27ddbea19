#!/usr/bin/env bash
# lab/systemd/run.sh DEB NEWER-DEB: the package on a systemd that really runs; `./x test-systemd` calls it. It needs root.
# lab/systemd/run.sh possible: nothing, or why this machine cannot do that.
# LBSIDECAR_SYSTEMD_STEPS are the steps to go, instead of all. LBSIDECAR_SYSTEMD_ROOT is another root file system to boot, with systemd, HAProxy and libvirt in it.
#
#   namespaces of its own (network, mounts, processes): whatever happens, nothing of it is left
#     ├─ systemd-nspawn: this machine's root file system below a layer in memory; PID 1 is systemd, and it runs the distribution's
#     │    HAProxy and libvirt, the package and the guests' QEMU. It shares the network, which so outlives its reboots.
#     └─ lbsidecar-lab up --here: the cloud, which boots the guests by the container's libvirt
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" = possible ]; then
    [ "$(id -u)" = 0 ] || { echo "it needs root"; exit; }
    command -v systemd-nspawn >/dev/null || { echo "there is no systemd-nspawn"; exit; }
    [ -c /dev/net/tun ] || { echo "there is no /dev/net/tun for the guests"; exit; }
    # shellcheck disable=SC2016
    unshare --net --mount --pid --fork --mount-proc --kill-child bash -ec 'mount -t tmpfs none /mnt
        mkdir /mnt/up /mnt/work /mnt/root
        mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work /mnt/root
        ip link add probe0 type veth peer name probe1' 2>&1 | head -n 1 || true
    exit
fi
[ "$(id -u)" = 0 ] || { echo "run.sh: a container with systemd needs root" >&2; exit 77; }
if [ "${1:-}" != inside ]; then
    exec unshare --net --mount --pid --fork --mount-proc --kill-child "$0" inside "$@"
fi
deb=$(realpath "$2") newer=$(realpath "$3") bin=$(realpath "$here/../../target/debug")
# shellcheck source=lab/systemd/machine.sh
. "$here/machine.sh"
# shellcheck source=lab/systemd/story.sh
. "$here/story.sh"

machine_up
steps="installs serves scales_out restarts is_killed is_watched reloads upgrades hands_over first_starts holds_the_address
    keeps_secrets reboots is_removed"
for step in ${LBSIDECAR_SYSTEMD_STEPS:-$steps}; do
    step "$step"
done
say "all steps passed in ${SECONDS} s"
