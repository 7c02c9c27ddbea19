# The story, step by step. Sourced by run.sh.
# shellcheck shell=bash

daemon=lbsidecar@default.service
haproxy=lbsidecar-haproxy@default.service
plug=lbsidecar-plug@default.service
pool=default
password=$'S3cret-of-the-page'

step_installs() {
    cp "$deb" "$lab/lbsidecar.deb"
    in_machine dpkg -i "$lab/lbsidecar.deb" >"$work/dpkg.log" 2>&1 || fail "$(cat "$work/dpkg.log")"
    # Nothing is enabled or started.
    [ "$(in_machine systemctl is-enabled lbsidecar@default || true)" = disabled ]
    [ -z "$(in_machine systemctl list-units --all --plain --no-legend 'lbsidecar*')" ]
    [ "$(in_machine stat -c '%U %a' /var/lib/lbsidecar /run/lbsidecar | sort -u)" = "lbsidecar 755" ]
    in_machine grep -q config.toml /var/lib/dpkg/info/lbsidecar.conffiles
    in_machine test -s /usr/share/man/man1/lbsidecar-plug.1.gz
    in_machine grep -q LGPL-2.1 /usr/share/doc/lbsidecar/copyright
    in_machine bash -c '. /usr/share/bash-completion/completions/lbsidecar && complete -p lbsidecar' >/dev/null
    in_machine systemd-analyze verify /usr/lib/systemd/system/lbsidecar{,-haproxy,-plug}@.service
}

# The operator decides in this story, not the CPU of guests that boot on a busy machine.
settings() {
    cat <<'TOML'
[policy]
min_up = 1000
min_down = 1000
cooldown_up = "5s"
cooldown_down = "15m"
min_lifetime = "5s"
[transition]
ramp_step = "1s"
[guards]
max_cpu_pressure = 100
max_steal = 100
reserve_memory_mib = 64
[haproxy]
check_path = "/healthz"
TOML
}

step_serves() {
    cat >"$root/etc/lbsidecar/clouds.yaml" <<YAML
clouds:
  openstack:
    auth:
      auth_url: $OS_AUTH_URL
      username: $OS_USERNAME
      password: $OS_PASSWORD
      project_name: $OS_PROJECT_NAME
      user_domain_name: Default
      project_domain_name: Default
    region_name: $OS_REGION_NAME
YAML
    chmod 600 "$root/etc/lbsidecar/clouds.yaml"
    mkdir -p "$root/etc/lbsidecar/config.d" "$root/etc/credstore"
    settings >"$root/etc/lbsidecar/config.d/lab.toml"
    (umask 077 && echo "$password" >"$root/etc/credstore/lbsidecar-default-stats-password")
    in_machine env OS_CLIENT_CONFIG_FILE=/etc/lbsidecar/clouds.yaml lbsidecar provision --flavor m1.nano \
        >"$work/provision.log" 2>&1 || fail "$(tail -n 20 "$work/provision.log")"
    service=$(sed -n 's,^  curl \(http://[0-9.]*\)/$,\1,p' "$work/provision.log")
    service_default=$service
    until_true 150 "the base answers at its floating IP" answers
    in_machine systemctl enable --now --no-block lbsidecar@default lbsidecar-haproxy@default lbsidecar-plug@default 2>/dev/null
    until_true 60 "$daemon is active" active $daemon
    until_true 10 "$haproxy is active" active $haproxy
    active $plug
    until_true 30 "the base serves through HAProxy" serving 1
    # Neither runs as root; the daemon has no capability, HAProxy one; HAProxy is in the pool's network, the daemon is not.
    local pid
    pid=$(property $daemon MainPID)
    [ "$(in_machine stat -c %U "/proc/$pid")" = lbsidecar ]
    in_machine grep -qx 'CapBnd:\s0*' "/proc/$pid/status"
    in_machine grep -qx 'CapEff:\s0*' "/proc/$pid/status"
    pid=$(property $haproxy MainPID)
    [ "$(in_machine stat -c %U "/proc/$pid")" = lbsidecar ]
    [ "$(in_machine ip netns identify "$pid")" = lbsidecar-default ]
    [ "$(in_machine lbsidecar --version)" = "$("$bin/lbsidecar" --version)" ]
    [ -n "$(property $daemon StatusText)" ]
    say "  status: $(property $daemon StatusText)"
    in_machine curl -sf -o /dev/null -u "lbsidecar:$password" --unix-socket /run/lbsidecar/default/stats.sock http://x/stats
}

step_scales_out() {
    load_begin
    in_machine lbsidecar scale-out --pool $pool >/dev/null
    until_true 150 "the clone serves" serving 2
    load_end
    # The test that is packed says who answered.
    in_machine /usr/share/doc/lbsidecar/examples/curl-test.sh "$service/" 3 >"$work/curl.log" || fail "$(cat "$work/curl.log")"
    [ "$(grep -cE '^ *[0-9]+ .*vm-' "$work/curl.log")" = 2 ] || fail "not two VMs answered: $(cat "$work/curl.log")"
}

# HAProxy's master, and the phase before, are the same after something was done to the daemon.
unharmed() {
    [ "$(property $haproxy MainPID)" = "$haproxy_pid" ] || fail "HAProxy was started anew"
    until_true 30 "two members serve" serving 2
}

step_restarts() {
    haproxy_pid=$(property $haproxy MainPID)
    load_begin
    in_machine systemctl restart lbsidecar@default
    unharmed
    # Its stop and start with a cloud that refuses every call: it resumes from its state.
    cloud_down
    in_machine systemctl restart lbsidecar@default
    active $daemon
    sleep 2
    cloud_back
    unharmed
    load_end
}

step_is_killed() {
    local before
    before=$(property $daemon MainPID)
    load_begin
    in_machine systemctl kill --signal=KILL lbsidecar@default
    until_true 30 "systemd starts the daemon again" again "$before"
    unharmed
    load_end
}
# again BEFORE [UNIT]: it runs, as another process.
again() { active "${2:-$daemon}" && [ "$(property "${2:-$daemon}" MainPID)" != "$1" ]; }

step_is_watched() {
    # Not half a minute for a test.
    mkdir -p "$root/etc/systemd/system/$daemon.d"
    printf '[Service]\nWatchdogSec=6\n' >"$root/etc/systemd/system/$daemon.d/watchdog.conf"
    in_machine systemctl daemon-reload
    in_machine systemctl restart lbsidecar@default
    local before
    before=$(property $daemon MainPID)
    # Its own sign of life is enough: a whole period passes.
    sleep 8
    [ "$(property $daemon MainPID)" = "$before" ]
    load_begin
    in_machine systemctl kill --signal=STOP lbsidecar@default
    until_true 40 "the watchdog ends a daemon that hangs" again "$before"
    journal_says 'Watchdog timeout'
    unharmed
    load_end
    rm -r "$root/etc/systemd/system/$daemon.d"
    in_machine systemctl daemon-reload
    in_machine systemctl restart lbsidecar@default
    unharmed
}

step_reloads() {
    printf '[policy]\nhigh = 77\nsample = "2s"\n' >"$root/etc/lbsidecar/config.d/z.toml"
    in_machine systemctl reload lbsidecar@default
    until_true 10 "what may change live has changed" threshold 77
    active $daemon
    journal_says 'policy.sample' || fail "what waits for a restart is not named"
    rm "$root/etc/lbsidecar/config.d/z.toml"
    in_machine systemctl reload lbsidecar@default
    until_true 10 "and back" threshold 60
}
# A reader that leaves its pipe early would end the writer, and the story with it: these take all of it.
journal_says() { [[ $(in_machine journalctl -b --no-pager -u lbsidecar@default) == *"$1"* ]]; }
host_has_the_address() { [[ $(ip -br address show dev br-ex) == *" ${service#http://}/32"* ]]; }
threshold() { status | jq -e ".decision.high == $1" >/dev/null; }

step_upgrades() {
    local before
    before=$(property $daemon MainPID)
    cp "$newer" "$lab/lbsidecar.deb"
    load_begin
    in_machine dpkg -i "$lab/lbsidecar.deb" >"$work/dpkg.log" 2>&1 || fail "$(cat "$work/dpkg.log")"
    again "$before"
    unharmed
    load_end
    [[ $(in_machine dpkg-query -W lbsidecar) == *next* ]]
}

step_hands_over() {
    load_begin
    in_machine lbsidecar handover >/dev/null
    # In the midst of it the daemon is killed once more.
    until_true 30 "the handover is under way" handover_at
    in_machine systemctl kill --signal=KILL lbsidecar@default
    until_true 90 "one member is left" serving 1
    [ "$(status | jq -r '.members[].name')" = vm-test-clone ]
    load_end
}
# Of a pool that is about to be released or has two members: down to one.
is_handed_over() {
    load_begin
    in_machine lbsidecar handover --pool "$pool" >/dev/null
    until_true 90 "one member is left" serving 1
    load_end
}
handover_at() { status | jq -e '.transition.kind == "handover"'; }

# As docs/install.md says it, with a VM that was there before, and without `provision`.
step_first_starts() {
    service_web=http://$(operators_vm vm-web)
    pool=web service=$service_web
    until_true 150 "the operator's VM answers" answers
    cat >"$root/etc/lbsidecar/web.toml" <<'TOML'
[pool]
base = "vm-web"
clone = "vm-web-clone"
TOML
    settings >>"$root/etc/lbsidecar/web.toml"
    in_machine env OS_CLIENT_CONFIG_FILE=/etc/lbsidecar/clouds.yaml lbsidecar check --pool web >"$work/check.log" 2>&1 ||
        fail "$(cat "$work/check.log")"
    in_machine systemctl enable --now --no-block lbsidecar-plug@web lbsidecar-haproxy@web lbsidecar@web 2>/dev/null
    until_true 60 "the operator's VM serves through HAProxy" serving 1
    active lbsidecar@web.service
    active lbsidecar-plug@web.service
    # The daemon has no right to start it, and has it back.
    in_machine systemctl stop lbsidecar-haproxy@web 2>/dev/null
    until_true 30 "HAProxy is started by its path unit" active lbsidecar-haproxy@web.service
    until_true 10 "it answers again" answers
    # However often it dies: by default systemd gives up after five starts in ten seconds.
    local before try
    for try in 1 2 3 4 5 6; do
        before=$(property lbsidecar-haproxy@web.service MainPID)
        in_machine systemctl kill --kill-who=main --signal=KILL lbsidecar-haproxy@web
        until_true 10 "systemd starts HAProxy again after death $try" again "$before" lbsidecar-haproxy@web.service
    done
    active lbsidecar-haproxy@web.path
    until_true 10 "it answers again" answers
    until_true 30 "the operator's VM serves through HAProxy" serving 1
    in_machine lbsidecar release --pool web >/dev/null
    until_true 60 "the address is the VM's again" is_where elsewhere
    answers
    in_machine systemctl disable --now lbsidecar@web lbsidecar-haproxy@web lbsidecar-plug@web 2>/dev/null
    # In another mode it is another pool.
    in_machine env OS_CLIENT_CONFIG_FILE=/etc/lbsidecar/clouds.yaml lbsidecar cleanup --pool web --yes >"$work/cleanup.log" 2>&1 ||
        fail "$(cat "$work/cleanup.log")"
    rm -r "$root/var/lib/lbsidecar/web"
    pool=default service=$service_default
}

# The other modes, by the same document: the same VM at an address of the host.
step_holds_the_address() {
    local pid
    pool=web service=$service_web
    printf '[vip]\nmode = "host"\n' >>"$root/etc/lbsidecar/web.toml"
    mkdir -p "$root/etc/systemd/system/lbsidecar-haproxy@web.service.d"
    cp "$root/usr/share/lbsidecar/host-network.conf" "$root/etc/systemd/system/lbsidecar-haproxy@web.service.d/"
    in_machine systemctl daemon-reload
    in_machine systemctl enable --now --no-block lbsidecar-address@web.socket lbsidecar-haproxy@web lbsidecar@web 2>/dev/null
    until_true 60 "it serves at the host's address" serving 1
    until_true 30 "the address is the host's" is_where ours
    host_has_the_address
    step_scales_out
    in_machine systemctl kill --signal=KILL lbsidecar@web
    until_true 30 "two members serve" serving 2
    is_handed_over
    for unit in lbsidecar@web lbsidecar-haproxy@web; do
        pid=$(property $unit.service MainPID)
        [ "$(in_machine stat -c %U "/proc/$pid")" = lbsidecar ]
        echo "  $unit: $(in_machine grep -h '^Cap' "/proc/$pid/status" | tr '\n\t' '  ')" >&3
    done
    in_machine lbsidecar release --pool web >/dev/null
    until_true 60 "the address is the VM's again" is_where elsewhere
    ! host_has_the_address
    until_true 10 "the VM answers by itself" answers
    in_machine systemctl disable --now lbsidecar@web lbsidecar-haproxy@web lbsidecar-address@web.socket 2>/dev/null
    # The next steps are about the first pool alone.
    in_machine env OS_CLIENT_CONFIG_FILE=/etc/lbsidecar/clouds.yaml lbsidecar cleanup --pool web --yes >"$work/cleanup.log" 2>&1 ||
        fail "$(cat "$work/cleanup.log")"
    pool=default service=$service_default
}

step_keeps_secrets() {
    local shown=$work/shown secret words
    in_machine journalctl -b --no-pager >"$work/journal.log"
    # A person who reads it finds what happened, in words.
    for words in 'scale-out' 'handover' 'HAProxy is started' 'policy.sample'; do
        grep -q "lbsidecar\[.*$words" "$work/journal.log" || fail "the journal does not speak of $words"
    done
    ! grep -q panicked "$work/journal.log" || fail "the journal tells of a bug"
    {
        cat "$work/journal.log"
        in_machine ps auxww
        in_machine systemctl show 'lbsidecar*'
        in_machine env OS_CLIENT_CONFIG_FILE=/etc/lbsidecar/clouds.yaml lbsidecar config
        in_machine env OS_CLIENT_CONFIG_FILE=/etc/lbsidecar/clouds.yaml lbsidecar config --output json
        in_machine lbsidecar status --output json
        in_machine lbsidecar explain
        # HAProxy reads the page's password from its file, whose owner alone may.
        in_machine find /var/lib/lbsidecar /run/lbsidecar -type f ! -perm 600 -exec cat {} +
        in_machine find /var/lib/lbsidecar /run/lbsidecar -type f ! -path '*/haproxy/haproxy.cfg*' -exec cat {} +
        for unit in $daemon $haproxy; do in_machine cat "/proc/$(property $unit MainPID)/environ"; done
    } | tr '\0' '\n' >"$shown"
    # All of that was looked at, and the words are those that others know.
    for words in 'lbsidecar run --pool default' 'Id=lbsidecar@default.service' 'haproxy.stats_user' '"members"' '"sha256"' 'CREDENTIALS_DIRECTORY'; do
        grep -qF -- "$words" "$shown" || fail "$words is not in what was to be looked at"
    done
    in_machine grep -qF -- "$password" /var/lib/lbsidecar/default/haproxy/haproxy.cfg
    for secret in "$OS_PASSWORD" "$password"; do
        ! grep -nF -- "$secret" "$shown" >&3 || fail "a secret is shown"
    done
    # Who is of the service's group may ask and order; whoever is not cannot even ask.
    in_machine setpriv --reuid=nobody --regid=nogroup --groups=lbsidecar lbsidecar status >/dev/null
    ! in_machine setpriv --reuid=nobody --regid=nogroup --clear-groups lbsidecar status >/dev/null 2>&1 || fail "nobody may ask"
    ! in_machine setpriv --reuid=nobody --regid=nogroup --clear-groups cat /run/credentials/$daemon/clouds.yaml >/dev/null 2>&1 || fail "anybody may read the credentials"
    in_machine test -s /run/credentials/$daemon/clouds.yaml
}

step_reboots() {
    in_machine lbsidecar host-nat enable --uplink uplink0 >/dev/null
    in_machine lbsidecar host-nat status >/dev/null
    local before guest begin
    before=$(init)
    guest=$(in_machine virsh list --name | sed -n 1p)
    # As if the network were new at boot, too; and the cloud takes longer than we do.
    nft flush ruleset
    echo 0 >/proc/sys/net/ipv4/ip_forward
    cloud_down
    in_machine systemctl reboot || true
    until_true 60 "the machine has rebooted" rebooted "$before"
    # Nobody gives up, and nobody pretends.
    sleep 5
    ! active $plug || fail "the port is plugged without a cloud"
    ! active $daemon || fail "the daemon is ready without HAProxy"
    begin=$SECONDS
    in_machine virsh start "$guest" >/dev/null
    cloud_back
    until_true 60 "$daemon is active" active $daemon
    until_true 150 "the service answers" answers
    until_true 30 "the clone serves" serving 1
    # HAProxy takes a server for up before its first check, which a guest that is still booting may fail: it has to have passed one.
    until_true 30 "HAProxy's check of the clone passes" checked
    say "  served $((SECONDS - begin)) s after the cloud came back"
    local order unit
    order=$(for unit in $plug $haproxy $daemon; do property "$unit" ActiveEnterTimestampMonotonic; done)
    [ "$order" = "$(sort -n <<<"$order")" ] || fail "started in the wrong order: $order"
    # Address translation is back, without anybody's hand.
    in_machine lbsidecar host-nat status >/dev/null || fail "$(in_machine lbsidecar host-nat status)"
}
checked() { status | jq -e '[.members[].check] == ["L7OK"]' >/dev/null; }
rebooted() { [ "$(init)" != "$1" ] && machine_runs; }

step_is_removed() {
    load_begin
    in_machine dpkg -r lbsidecar >"$work/dpkg.log" 2>&1 || fail "$(cat "$work/dpkg.log")"
    ! active $daemon || fail "the daemon still runs"
    until_true 10 "$haproxy is active" active $haproxy
    answers
    in_machine test -e /etc/lbsidecar/config.toml
    load_end
    in_machine dpkg -P lbsidecar >"$work/dpkg.log" 2>&1 || fail "$(cat "$work/dpkg.log")"
    local left
    left=$(
        in_machine find /etc /usr /var /run -xdev -iname '*lbsidecar*' ! -path '/var/log/*' ! -path '/var/cache/man/*' ! -path '/run/systemd/*' ! -path "$here/*"
        in_machine getent passwd lbsidecar || true
        in_machine pgrep -a haproxy | grep lbsidecar || true
        in_machine systemctl list-units --all --plain --no-legend 'lbsidecar*'
        nft list tables | grep lbsidecar || true
        ip -o link | grep -E ' tap.*@' || true
    )
    [ -z "$left" ] || fail "left over after a purge: $left"
    [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]
}
