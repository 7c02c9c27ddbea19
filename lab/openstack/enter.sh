#!/bin/bash
# Runs a command in the rig, in this working directory, with the administrator's credentials.
. "$(dirname "$0")/common.sh"

first=$(first_process) || fail "no rig is up: up.sh starts one"
[ $# -gt 0 ] || set -- bash
# Nothing that this machine says of clouds and proxies may reach it.
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(OS_|PYTHON|[a-zA-Z]+_proxy$|[A-Z]+_PROXY$)' || true)
[ ! -r "$RIG_DIR/openrc" ] || . "$RIG_DIR/openrc"
export HOME=/var/lib/rig/home no_proxy='*'
exec nsenter --target "$first" --net --mount --pid --uts --ipc -- sh -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' sh "$PWD" "$@"
