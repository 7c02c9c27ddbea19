# $1: lbsidecar, $2: the service address. Kills the daemon with SIGKILL at odd moments of two scale-outs and two handovers, starts it
# again each time, and lets a client count all the while. Says what came of it, one `name value` a line.
set -u
program=$1 address=$2 home=$(mktemp -d)
trap 'kill -9 "$daemon" "$load" 2>/dev/null; rm -rf "$home"' EXIT
load=
cat > "$home/config.toml" <<'TOML'
[policy]
warm_up = "3s"
cooldown_up = "1s"
cooldown_down = "1s"
min_lifetime = "3s"
[transition]
ramp_step = "500ms"
[guards]
max_steal = 100
max_cpu_pressure = 100
reserve_memory_mib = 64
TOML
start() {
    "$program" run --config "$home/config.toml" --clone vm-test-clone --high 99 --low 1 >> "$home/log" 2>&1 &
    daemon=$!
}
value() { "$program" status --output json 2>/dev/null | tr -d ' \n' | grep -o "\"$1\":\"[a-z-]*\"" | head -n 1 | cut -d'"' -f4; }
wait_for() { # $1: what, $2…: a command that succeeds then
    what=$1 tries=0; shift
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || { echo "failed to see $what; the end of the log:"; tail -n 20 "$home/log"; exit 1; }
        sleep 0.2
    done
}
answers() { [ -n "$(value phase)" ]; }
settled() { [ "$(value phase)" = "$1" ] && [ -z "$(value stage)" ]; }
ordered() { "$program" "$1" >> "$home/log" 2>&1; }
killed() { # $1: pause before
    sleep "$1"
    stage=$(value stage)
    kill -9 "$daemon"; wait "$daemon" 2>/dev/null
    echo "killed ${stage:-between}"
    start
    wait_for "the daemon again" answers
}

start
wait_for "the base taken over" settled single
ip netns exec client "$program" load --url "http://$address/" --rate 80 --connections 12 --duration 10m --expect-no-loss \
    --run-dir "$home/run" > "$home/load" 2>&1 &
load=$!
for cycle in 1 2; do
    wait_for "a scale-out" ordered scale-out
    for pause in 0 0.1 0.2 0.7 0.6 0.3 1 1 0.9 0.4; do killed $pause; done
    wait_for "both serve" settled balanced
    wait_for "a handover" ordered handover
    for pause in 0 0.1 0 0.2 0.1 0.3; do killed $pause; done
    wait_for "the clone alone" settled single
done
kill -INT "$load"; wait "$load"; echo "load $?"
load=
cat "$home/load" >&2
