# The machine: the namespaces' world, the container, the cloud, and words for steps. Sourced by run.sh.
# shellcheck shell=bash

work=/mnt/systemd
root=$work/root
lab=$work/lab
# The guests' kernels, where the cloud has them.
kernels=${XDG_CACHE_HOME:-$HOME/.cache}/lbsidecar-lab

# Where to speak, wherever a command's own output goes.
exec 3>&1
say() { printf '\033[1m%s\033[0m\n' "test-systemd: $*" >&3; }

# What is known when something went wrong. Whoever reads it has nothing else: the machine is gone by then.
fail() {
    say "FAILED in step ${step_name:-start}: $*"
    {
        in_machine systemctl --no-pager --full status 'lbsidecar*' || true
        in_machine journalctl --no-pager -b -o short-monotonic -u 'lbsidecar*' -n 60 || true
        in_machine lbsidecar status --pool "${pool:-default}" || true
        status | jq -c ".members[], .transition, .alarms, .vip" || true
        tail -n 15 "$work/cloud.log" "$work/console.log" || true
    } 2>&1 | tail -n 150 >&3
    exit 1
}
# In a subshell it is the caller's to say whether that is a failure.
trap '[ "$BASHPID" != $$ ] || fail "line $LINENO: $BASH_COMMAND"' ERR
set -E

step() {
    step_name=$1
    local begin=$SECONDS
    "step_$1"
    say "$1: $((SECONDS - begin)) s"
}

# until_true SECONDS WHAT COMMAND…: tries until the command succeeds.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "not in time: $what"
        sleep 0.2
    done
}

# The container's first process.
init() {
    local pid
    for pid in $(pgrep -x systemd); do
        if [ "$(readlink "/proc/$pid/ns/pid")" != "$(readlink /proc/self/ns/pid)" ] &&
            grep -q '^NSpid:.*\s1$' "/proc/$pid/status"; then
            echo "$pid"
            return
        fi
    done
    return 1
}

# Runs a command in the container, as root of a login shell would.
in_machine() {
    local pid
    pid=$(init) || return 1
    nsenter -t "$pid" -m -p -n -u -i -C env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 TERM=dumb SYSTEMD_PAGER= "$@" </dev/null
}

machine_up() {
    mount --make-rprivate /
    mount -t tmpfs none /mnt
    mount -t tmpfs none /run
    mkdir -p "$work"/{up,overlay,root,libvirt} "$lab" /run/libvirt /run/netns
    mount -t overlay overlay -o "lowerdir=${LBSIDECAR_SYSTEMD_ROOT:-/},upperdir=$work/up,workdir=$work/overlay" "$root"
    # Of this machine nothing shall start but what a plain installation starts.
    rm -rf "$root"/etc/systemd/system/multi-user.target.wants "$root"/etc/lbsidecar "$root"/var/lib/lbsidecar
    rm -rf "$root"/var/log/journal "$root"/etc/machine-id "$root"/etc/systemd/system/lbsidecar*
    mkdir -p "$root"/etc/systemd/system/multi-user.target.wants "$root"/var/log/journal
    : >"$root/etc/machine-id"
    ln -s /lib/systemd/system/libvirtd.service "$root/etc/systemd/system/multi-user.target.wants/"
    # Guests are the cloud's to start and stop.
    ln -sf /dev/null "$root/etc/systemd/system/libvirt-guests.service"
    # Here root alone may make taps, and there are no control groups for machines.
    cat >"$root/etc/libvirt/qemu.conf" <<'CONF'
user = "+0"
group = "+0"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
CONF
    ip link set lo up
    # Stands for the way to the Internet.
    ip link add uplink0 type veth peer name internet
    ip link set uplink0 up

    machine_boot </dev/null >"$work/console.log" 2>&1 &
    until_true 60 "the container's systemd runs" machine_runs
    ln -s "$work/libvirt/libvirt-sock" /run/libvirt/libvirt-sock
    until_true 30 "libvirt answers" in_machine virsh --connect qemu:///system list
    "$bin/lbsidecar-lab" --dir "$lab" up --here --empty >"$work/cloud.log" 2>&1 &
    until_true 60 "the cloud answers" test -S "$lab/control.sock"
    eval "$("$bin/lbsidecar-lab" --dir "$lab" env | grep '^export OS_')"
    token=$(curl -sf -m 20 -o /dev/null -D - -H 'Content-Type: application/json' "$OS_AUTH_URL/auth/tokens" --data "$(jq -n '{auth: {
        identity: {methods: ["password"], password: {user: {name: env.OS_USERNAME, password: env.OS_PASSWORD, domain: {name: "Default"}}}},
        scope: {project: {name: env.OS_PROJECT_NAME, domain: {name: "Default"}}}}}')" | sed -n 's/^x-subject-token: \(.*\)\r$/\1/pI')
    say "a machine with systemd $(in_machine systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), libvirt and a cloud: ${SECONDS} s"
}

# Boots the container, and boots it again when it says so. Its network stays, and what it has in /run does not.
machine_boot() {
    local code=133
    # 133: it wants to be started again (with --keep-unit that is for others to do).
    while [ $code = 133 ]; do
        rm -rf "$work"/libvirt/*
        code=0
        SYSTEMD_NSPAWN_API_VFS_WRITABLE=network systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
            --capability=all --bind=/dev/net/tun --bind-ro="$kernels" --bind="$lab" --bind="$work/libvirt:/run/libvirt" || code=$?
    done
}

machine_runs() {
    case $(in_machine systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

# The cloud refuses every connection, or answers again.
cloud_down() {
    nft -f - <<'RULES'
table inet cloud_down {
    chain input { type filter hook input priority 0; tcp dport { 5000, 8774, 9292, 9696 } reject with tcp reset; }
}
RULES
}
cloud_back() { nft delete table inet cloud_down; }

# Counted load from the clients' namespace, until load_end, which fails when a request was lost.
load_begin() {
    ip netns exec client "$bin/lbsidecar" load --url "$service/" --rate 60 --connections 12 --duration 15m --expect-no-loss \
        --output json >"$work/load.json" 2>"$work/load.log" &
    load=$!
}
load_end() {
    local code=0
    # Ctrl-C ends a load with its account.
    kill -INT "$load"
    wait "$load" || code=$?
    [ $code = 0 ] || fail "load ended with $code: $(tail -c 1500 "$work/load.json") $(tail -n 5 "$work/load.log")"
    say "  $(jq -r '"\(.sent) requests, \(.total.lost // .lost // 0) lost"' "$work/load.json")"
}

# What operators do by hand at the cloud: api METHOD PORT/PATH [BODY].
api() {
    curl -sf -m 20 -X "$1" -H "X-Auth-Token: $token" -H 'Content-Type: application/json' ${3:+--data "$3"} "${OS_AUTH_URL%:*}:$2"
}
# operators_vm NAME: another VM like the one that is there, with a floating IP; that address.
operators_vm() {
    local like port server
    like=$(api GET 8774/v2.1/servers/detail | jq '.servers[0]')
    port=$(api GET "9696/v2.0/ports?device_id=$(jq -r .id <<<"$like")" | jq '.ports[0]')
    server=$(api POST 8774/v2.1/servers "$(jq -n --arg name "$1" --argjson like "$like" --argjson port "$port" '{server: {name: $name,
        imageRef: $like.image.id, flavorRef: $like.flavor.id, networks: [{uuid: $port.network_id}], security_groups: $like.security_groups}}')" |
        jq -r .server.id)
    until_true 60 "$1 is ACTIVE" vm_is_active "$server"
    port=$(api GET "9696/v2.0/ports?device_id=$server" | jq '.ports[0].id')
    api POST 9696/v2.0/floatingips "$(jq -n --argjson port "$port" --argjson external \
        "$(api GET '9696/v2.0/networks?name=external' | jq '.networks[0].id')" '{floatingip: {floating_network_id: $external, port_id: $port}}')" |
        jq -r .floatingip.floating_ip_address
}
vm_is_active() { [ "$(api GET "8774/v2.1/servers/$1" | jq -r .server.status)" = ACTIVE ]; }

property() { in_machine systemctl show --value --property="$2" "$1"; }
active() { [ "$(property "$1" ActiveState)" = active ]; }
# Of the pool that the story is about at the moment.
status() { in_machine lbsidecar status --pool "$pool" --output json; }
serving() { [ "$(status | jq '[.members[] | select(.state == "serving")] | length')" = "$1" ] && idle; }
idle() { status | jq -e '.transition == null' >/dev/null; }
is_where() { status | jq -e ".vip.where == \"$1\"" >/dev/null; }
answers() { curl -sf -m 2 "$service/" >/dev/null; }
