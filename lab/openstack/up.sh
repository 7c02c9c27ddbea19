#!/bin/bash
# Brings up a real single-node OpenStack of Debian 12's own packages (Zed), in namespaces and behind overlays of its own, with the
# names that MicroStack gives. Can be repeated: what runs already is left alone.
#
#   up.sh [linuxbridge|ovn]     which of Neutron's drivers; MicroStack's is OVN
#
# It needs root and the program `lbsidecar-lab` (LBSIDECAR_LAB, or target/debug/lbsidecar-lab). Afterwards:
#   enter.sh COMMAND…           runs a command in it, with the administrator's credentials
#   down.sh                     ends it; nothing of it is left but the packages' layer in the cache
. "$(dirname "$0")/common.sh"

network=${1:-linuxbridge}
case $network in linuxbridge | ovn) ;; *) fail "use: up.sh [linuxbridge|ovn]" ;; esac
[ "$(id -u)" = 0 ] || fail "run it as root"
lab=${LBSIDECAR_LAB:-$HERE/../../target/debug/lbsidecar-lab}
[ -x "$lab" ] || fail "the guests' image is made by lbsidecar-lab: cargo build --workspace --bins"

if first=$(first_process); then
    was=$(cat "$RIG_DIR/network")
    [ "$was" = "$network" ] || fail "a rig with $was is up; down.sh ends it"
else
    foreign=$(foreign_services)
    [ -z "$foreign" ] || fail "$foreign"
    started=$SECONDS
    layer=$("$HERE/layer.sh")
    say "packages ready after $((SECONDS - started)) s"
    rm -rf "$RIG_DIR"
    mkdir -p "$RIG_DIR/log"
    chmod 711 "$RIG_DIR"
    echo "$network" >"$RIG_DIR/network"
    "$lab" guest-image "$RIG_DIR/guest"
    # Its process id is that of the namespaces' first process, as this machine counts.
    setsid nohup unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
        "$HERE/inside/rig-keeper" "$RIG_DIR" "$layer" </dev/null >"$RIG_DIR/log/keeper.log" 2>&1 &
    unshare=$!
    for _ in $(seq 100); do
        [ ! -e "$RIG_DIR/ready" ] || break
        kill -0 "$unshare" 2>/dev/null || break
        sleep 0.1
    done
    [ -e "$RIG_DIR/ready" ] || { cat "$RIG_DIR/log/keeper.log" >&2; kill -KILL "$(cat "/proc/$unshare/task/$unshare/children")" 2>/dev/null; fail "the namespaces could not be made"; }
    first=$(cat "/proc/$unshare/task/$unshare/children")
    echo "${first%% *}" >"$RIG_DIR/pid"
fi
"$HERE/enter.sh" "$HERE/inside/services.sh" "$RIG_DIR" "$network" up
