#!/usr/bin/env bash
# lab/systemd/run.sh DEB NEWER-DEB: the package on a systemd that really runs; `./x test-systemd` calls it. It needs root.
#
#   namespaces of its own (network, mounts, processes): whatever happens, nothing of it is left
#     ├─ systemd-nspawn: this machine's root file system below a layer in memory; PID 1 is systemd, and it runs the distribution's
#     │    HAProxy and libvirt, the package and the guests' QEMU. It shares the network, which so outlives its reboots.
#     └─ lbsidecar-lab up --here: the cloud, which boots the guests by the container's libvirt
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
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
for step in installs serves scales_out restarts is_killed is_watched reloads upgrades hands_over keeps_secrets reboots is_removed; do
    step "$step"
done
say "all steps passed in ${SECONDS} s"
