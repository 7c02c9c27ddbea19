#!/bin/sh
# A libvirtd of one test's own, beside any that the host has: the test starts this script in namespaces of its own (mount, network,
# process) with a directory for the sockets, which stay reachable from outside. It takes words on stdin, and when stdin ends, by
# whatever cause, its process namespace ends with it: nothing can be left behind.
set -eu
directory=$1

mount --make-rprivate /
# All of /run, since /run/libvirt exists only where a libvirtd has run since boot.
for path in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt; do
    [ -d "$path" ] || { echo "libvirtd.sh: $path is missing: install libvirt-daemon-system" >&2; exit 1; }
    mount -t tmpfs none "$path"
done
mkdir /run/libvirt
cat > /etc/libvirt/libvirtd.conf <<TEXT
unix_sock_dir = "$directory"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
TEXT
# Everything that needs a real init, cgroups or a security module is off: this guest is ours and lives for seconds.
cat > /etc/libvirt/qemu.conf <<TEXT
user = "+0"
group = "+0"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
TEXT

start() {
    libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$directory/libvirtd.pid" 2> "$directory/libvirtd.log" &
    daemon=$!
}

control() {
    start
    while read -r word; do
        case $word in
        start) start ;;
        stop) kill "$daemon"; wait "$daemon" || true ;;
        freeze) kill -STOP "$daemon" ;;
        thaw) kill -CONT "$daemon" ;;
        *) echo "libvirtd.sh: $word is no word" >&2; exit 1 ;;
        esac
        echo "$word"
    done
}

# The first process of a namespace has to reap what loses its parent, otherwise libvirt waits for dead QEMUs; `wait` does.
exec 3<&0
control <&3 &
wait $!
