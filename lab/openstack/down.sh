#!/bin/bash
# Ends the rig: the kernel takes its processes, networks, mounts and memory along. Only the layer of packages stays, in the cache;
# `down.sh --purge` removes that too. Says nothing when there is no rig.
. "$(dirname "$0")/common.sh"

if first=$(first_process); then
    kill -KILL "$first"
    # The kernel ends all of them before it lets go of the first.
    for _ in $(seq 300); do
        [ -d "/proc/$first" ] || break
        sleep 0.1
    done
    [ ! -d "/proc/$first" ] || fail "process $first did not end within 30 s"
fi
rm -rf "$RIG_DIR"
[ "${1:-}" != --purge ] || rm -rf "$RIG_CACHE"
