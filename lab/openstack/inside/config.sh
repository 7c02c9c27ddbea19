# What is configured the same for every network driver. Read by services.sh; functions only.
# shellcheck shell=bash disable=SC2154

authtoken() {
    cat <<END
[keystone_authtoken]
www_authenticate_uri = http://$IP:5000
memcached_servers = 127.0.0.1:11211
service_token_roles_required = false
$(client "$1")
END
}
client() {
    cat <<END
auth_url = http://$IP:5000/v3
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = $1
password = $SERVICE_PASSWORD
region_name = $REGION
END
}
database() { printf '[database]\nconnection = mysql+pymysql://rig:%s@127.0.0.1:3306/%s\nmax_pool_size = 10\nmax_overflow = 20\n' "$DATABASE_PASSWORD" "$1"; }
locks() { printf '[oslo_concurrency]\nlock_path = %s/locks\n[oslo_messaging_notifications]\ndriver = noop\n[oslo_middleware]\nenable_proxy_headers_parsing = true\n' "$STATE"; }

configure_keystone() {
    cat >/etc/keystone/keystone.conf <<END
[DEFAULT]
log_file = $LOG/keystone.log
max_token_size = 255
[token]
provider = fernet
# Seconds that a token is good for.
expiration = ${TOKEN_LIFETIME:-3600}
[cache]
enabled = true
backend = dogpile.cache.pymemcache
memcache_servers = 127.0.0.1:11211
[fernet_tokens]
key_repository = $STATE/keystone/fernet-keys
[credential]
key_repository = $STATE/keystone/credential-keys
[oslo_middleware]
enable_proxy_headers_parsing = true
$(database keystone)
END
}

configure_glance() {
    cat >/etc/glance/glance-api.conf <<END
[DEFAULT]
bind_host = $IP
bind_port = 9292
workers = 1
log_file = $LOG/glance-api.log
enabled_backends = file:file
transport_url = $RABBIT
[glance_store]
default_backend = file
[file]
filesystem_store_datadir = $STATE/images
[os_glance_staging_store]
filesystem_store_datadir = $STATE/staging
[os_glance_tasks_store]
filesystem_store_datadir = $STATE/tasks
[paste_deploy]
flavor = keystone
$(locks)
$(database glance)
$(authtoken glance)
END
}

configure_placement() {
    cat >/etc/placement/placement.conf <<END
[DEFAULT]
log_file = $LOG/placement.log
[api]
auth_strategy = keystone
[placement_database]
connection = mysql+pymysql://rig:$DATABASE_PASSWORD@127.0.0.1:3306/placement
$(authtoken placement)
END
}

# Guests are emulated: /dev/kvm may be there and not run a distribution's kernel.
configure_nova() {
    cat >/etc/nova/nova.conf <<END
[DEFAULT]
log_dir = $LOG
state_path = /var/lib/nova
my_ip = $IP
host = $(hostname)
transport_url = $RABBIT
enabled_apis = osapi_compute,metadata
osapi_compute_listen = $IP
osapi_compute_workers = 1
metadata_listen = $IP
metadata_workers = 1
compute_driver = libvirt.LibvirtDriver
cpu_allocation_ratio = 16.0
ram_allocation_ratio = 1.5
disk_allocation_ratio = 10.0
reserved_host_memory_mb = 512
instance_usage_audit = false
sync_power_state_interval = 20
vif_plugging_timeout = 60
shutdown_timeout = 10
report_interval = 5
service_down_time = 20
[api]
auth_strategy = keystone
[api_database]
connection = mysql+pymysql://rig:$DATABASE_PASSWORD@127.0.0.1:3306/nova_api
max_pool_size = 10
[service_user]
send_service_user_token = true
$(client nova)
[glance]
region_name = $REGION
[placement]
$(client placement)
[neutron]
service_metadata_proxy = true
metadata_proxy_shared_secret = $METADATA_SECRET
$(client neutron)
[libvirt]
virt_type = qemu
cpu_mode = none
images_type = qcow2
snapshot_image_format = qcow2
inject_partition = -2
num_pcie_ports = 0
[vnc]
enabled = false
[spice]
enabled = false
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 30
[conductor]
workers = 1
[workarounds]
disable_rootwrap = true
[cache]
enabled = true
backend = dogpile.cache.memory
$(locks)
$(database nova)
$(authtoken nova)
END
}

# neutron.conf, with what the network driver adds.
#   configure_neutron SERVICE_PLUGIN
configure_neutron() {
    cat >/etc/neutron/neutron.conf <<END
[DEFAULT]
log_dir = $LOG
state_path = /var/lib/neutron
core_plugin = ml2
service_plugins = $1
auth_strategy = keystone
transport_url = $RABBIT
bind_host = $IP
bind_port = 9696
api_workers = 1
rpc_workers = 1
rpc_state_report_workers = 0
metadata_workers = 1
l3_ha = false
dhcp_agents_per_network = 1
notify_nova_on_port_status_changes = true
notify_nova_on_port_data_changes = true
send_events_interval = 1
[agent]
# Root needs no sudo in front of its commands.
root_helper = env
[experimental]
linuxbridge = true
[nova]
$(client nova)
$(locks)
$(database neutron)
$(authtoken neutron)
END
}

configure_libvirt() {
    cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
remember_owner = 0
security_driver = "none"
namespaces = []
stdio_handler = "logd"
END
    cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:file:$LOG/libvirtd.log"
END
}

# What a client needs, as the two files that OpenStack's own tools read. Only root may read them: they hold the password.
configure_clients() {
    (
        umask 077
        cat >"$RIG/openrc" <<END
export OS_AUTH_URL=http://$IP:5000/v3
export OS_USERNAME=admin
export OS_PASSWORD=$ADMIN_PASSWORD
export OS_PROJECT_NAME=admin
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=$REGION
export OS_IDENTITY_API_VERSION=3
export OS_INTERFACE=public
END
        cat >"$RIG/clouds.yaml" <<END
clouds:
  microstack:
    auth:
      auth_url: http://$IP:5000/v3
      username: admin
      password: $ADMIN_PASSWORD
      project_name: admin
      user_domain_name: Default
      project_domain_name: Default
    region_name: $REGION
    interface: public
END
    )
}
