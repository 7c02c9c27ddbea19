#!/bin/bash
# Configures, starts and stops the rig's services, inside its namespaces.
#   services.sh DIRECTORY NETWORK up                 all of them, then what a fresh MicroStack has in it
#   services.sh DIRECTORY NETWORK stop|start NAME    one of them (nova-compute, say)
# TOKEN_LIFETIME: seconds that Keystone's tokens are good for from its next start on.
set -euo pipefail
RIG=$1 NETWORK=$2 VERB=$3 NAME=${4:-}
HERE=$(cd "$(dirname "$0")" && pwd)
STATE=/var/lib/rig PIDS=/run/rig LOG=$RIG/log
IP=10.20.20.1 REGION=microstack
ADMIN_PASSWORD=rig-admin SERVICE_PASSWORD=rig-service DATABASE_PASSWORD=rig-database METADATA_SECRET=rig-metadata
RABBIT=rabbit://guest:guest@127.0.0.1:5672/
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/var/tmp
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep '^OS_' || true)

say() { printf 'rig: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
since=$SECONDS
stage() { say "$1 after $((SECONDS - since)) s"; }

alive() { local pid; pid=$(cat "$PIDS/$1" 2>/dev/null) && [ -d "/proc/$pid" ] && ! grep -qs '^State:.Z' "/proc/$pid/status"; }
# start NAME COMMAND…: unless it runs already; each in a process group of its own.
start() {
    local name=$1
    shift
    if alive "$name"; then return 0; fi
    setsid nohup "$@" >>"$LOG/$name.out" 2>&1 </dev/null &
    echo $! >"$PIDS/$name"
}
# The process group: workers and helpers go too.
stop() {
    local pid
    pid=$(cat "$PIDS/$1" 2>/dev/null) || fail "there is no service $1; there are: $(ls "$PIDS" | tr '\n' ' ')"
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 50); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$PIDS/$1"
}
# wait_for SECONDS WHAT COMMAND…
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what did not come up; logs are in $LOG"
        sleep 0.2
    done
}
answers() { curl -s -o /dev/null -m 3 "$1"; }
sql() { mariadb --no-defaults -uroot -S "$PIDS/mysql/socket" "$@"; }
mysql_is_up() { sql -e 'select 1'; }
port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
has_compute_node() { [ -n "$(sql -N -e 'select host from nova.compute_nodes where deleted=0')" ]; }

. "$HERE/config.sh"
. "$HERE/$NETWORK.sh"

# A machine of the external network: requests that are counted come from there.
make_client() {
    if [ -e /run/netns/client ]; then return 0; fi
    ip netns add client
    ip link add client type veth peer name eth0 netns client
    ip link set client up
    attach_to_external client
    ip -n client address add 10.20.20.251/24 dev eth0
    ip -n client link set lo up
    ip -n client link set eth0 up
}

configure() {
    mkdir -p "$STATE"/{images,locks,home,rabbitmq} "$PIDS/mysql" /var/lib/nova/instances
    chmod 777 "$STATE/locks"
    configure_clients
    configure_keystone
    configure_glance
    configure_placement
    configure_nova
    configure_network
    configure_libvirt
}

start_infrastructure() {
    if [ ! -d "$STATE/mysql/mysql" ]; then
        mkdir -p "$STATE/mysql"
        chown mysql:mysql "$STATE/mysql"
        mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/mysql" --skip-test-db --auth-root-authentication-method=socket >"$LOG/mariadb-install.log" 2>&1
    fi
    chown mysql "$PIDS/mysql"
    # It all lives in memory: nothing has to be brought to a disk.
    start mariadb /usr/sbin/mariadbd --no-defaults --user=mysql --datadir="$STATE/mysql" --socket="$PIDS/mysql/socket" --port=3306 --bind-address=127.0.0.1 \
        --pid-file="$PIDS/mysql/pid" --skip-name-resolve --max-connections=500 --innodb-buffer-pool-size=192M --innodb-flush-log-at-trx-commit=0 --innodb-log-file-size=16M \
        --innodb-doublewrite=0 --innodb-flush-method=nosync --performance-schema=0 --character-set-server=utf8mb3 --collation-server=utf8mb3_general_ci
    start memcached /usr/bin/memcached -u nobody -m 64 -l 127.0.0.1 -p 11211
    HOME=$STATE/rabbitmq RABBITMQ_HOME=$STATE/rabbitmq RABBITMQ_NODENAME=rig@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_MNESIA_BASE=$STATE/rabbitmq/mnesia \
        RABBITMQ_LOG_BASE=$LOG RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_ENABLED_PLUGINS_FILE=$STATE/rabbitmq/enabled_plugins \
        ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none" \
        start rabbitmq /usr/lib/rabbitmq/bin/rabbitmq-server
    start virtlogd /usr/sbin/virtlogd
    start libvirtd /usr/sbin/libvirtd
    wait_for 60 mariadb mysql_is_up
    wait_for 90 rabbitmq port_is_open 5672
    wait_for 30 libvirtd virsh -c qemu:///system version
}

make_databases() {
    if [ -e "$STATE/databases" ]; then return 0; fi
    local name
    for name in keystone glance placement nova_api nova nova_cell0 neutron; do sql -e "CREATE DATABASE IF NOT EXISTS $name CHARACTER SET utf8mb3"; done
    sql -e "CREATE USER IF NOT EXISTS 'rig'@'127.0.0.1' IDENTIFIED BY '$DATABASE_PASSWORD'; GRANT ALL ON *.* TO 'rig'@'127.0.0.1'; FLUSH PRIVILEGES"
    mkdir -p "$STATE/keystone/fernet-keys" "$STATE/keystone/credential-keys"
    chmod 700 "$STATE"/keystone/*
    local works=0 keystone nova
    (
        keystone-manage db_sync
        keystone-manage fernet_setup --keystone-user root --keystone-group root
        keystone-manage credential_setup --keystone-user root --keystone-group root
        keystone-manage bootstrap --bootstrap-password "$ADMIN_PASSWORD" --bootstrap-region-id $REGION \
            --bootstrap-admin-url http://$IP:5000/v3/ --bootstrap-internal-url http://$IP:5000/v3/ --bootstrap-public-url http://$IP:5000/v3/
        glance-manage db_sync
        placement-manage db sync
    ) >"$LOG/databases-keystone.log" 2>&1 &
    keystone=$!
    (
        nova-manage api_db sync
        nova-manage cell_v2 map_cell0 --database_connection "mysql+pymysql://rig:$DATABASE_PASSWORD@127.0.0.1:3306/nova_cell0"
        nova-manage db sync
        [[ $(nova-manage cell_v2 list_cells) == *cell1* ]] || nova-manage cell_v2 create_cell --name=cell1
    ) >"$LOG/databases-nova.log" 2>&1 &
    nova=$!
    neutron-db-manage "${NEUTRON[@]}" upgrade head >"$LOG/databases-neutron.log" 2>&1 || works=1
    wait $keystone || works=1
    wait $nova || works=1
    [ $works = 0 ] || fail "the databases could not be made; see $LOG/databases-*.log"
    touch "$STATE/databases"
}

NEUTRON=(--config-file /etc/neutron/neutron.conf --config-file /etc/neutron/plugins/ml2/ml2_conf.ini)
# Its http-socket closes the connection after each answer without a word: a client that kept it would find it reset.
UWSGI=(/usr/bin/uwsgi_python3 --plugins python3 --buffer-size 65535 --master --lazy-apps --enable-threads --die-on-term --no-orphans --listen 100 --need-app --add-header "Connection: close")

start_keystone() {
    start keystone "${UWSGI[@]}" --http-socket $IP:5000 --processes 2 --threads 2 --wsgi-file /usr/bin/keystone-wsgi-public
    wait_for 60 keystone answers http://$IP:5000/v3
}
start_services() {
    start placement "${UWSGI[@]}" --http-socket $IP:8778 --processes 1 --threads 4 --wsgi-file /usr/bin/placement-api
    start glance-api /usr/bin/glance-api --config-file /etc/glance/glance-api.conf
    start neutron-server /usr/bin/neutron-server "${NEUTRON[@]}"
    nova_service conductor
    nova_service api
    nova_service scheduler
    wait_for 90 placement answers http://$IP:8778/
    wait_for 90 neutron-server answers http://$IP:9696/
    start_agents
    nova_service compute
    wait_for 90 glance-api answers http://$IP:9292/
    wait_for 90 nova-api answers http://$IP:8774/
    wait_for 90 nova-compute has_compute_node
    [ "$(sql -N -e 'select count(*) from nova_api.host_mappings')" != 0 ] || nova-manage cell_v2 discover_hosts >"$LOG/discover.log" 2>&1
}
nova_service() { start "nova-$1" "/usr/bin/nova-$1" --config-file /etc/nova/nova.conf --log-file "$LOG/nova-$1.log"; }

mkdir -p "$PIDS" "$STATE"
case $VERB in
up)
    make_external_bridge
    ip address replace $IP/24 dev br-ex
    ip link set br-ex up
    make_client
    sysctl -qw net.ipv4.ip_forward=1
    sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 2>/dev/null || true
    configure
    start_infrastructure
    stage "database, message queue and libvirt up"
    make_databases
    stage "databases made"
    start_keystone
    /usr/bin/python3 "$HERE/seed.py" "$RIG" identity
    start_services
    stage "services up"
    # shellcheck disable=SC2086
    /usr/bin/python3 "$HERE/seed.py" "$RIG" resources $AGENTS
    stage "ready"
    ;;
stop) stop "$NAME" ;;
start)
    configure
    start_keystone
    start_services
    ;;
*) fail "use: services.sh DIRECTORY NETWORK up|stop NAME|start" ;;
esac
