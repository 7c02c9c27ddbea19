#!/bin/busybox sh
# First process of a lab guest: modules, addresses, the service, the power button.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
# Parameters of modules stand on the kernel's command line, as module.name=value; insmod does not look there.
parameters() {
    local name=${1##*/}
    name=${name#*-}
    for word in $(cat /proc/cmdline); do
        case $word in "${name%.ko}".*) echo "${word#*.}" ;; esac
    done
}
# The order in which virtio's modules need each other differs between kernels: whatever can be loaded is, three times over.
for pass in 1 2 3; do
    for module in /modules/*; do insmod "$module" $(parameters "$module") 2>/dev/null && rm -f "$module"; done
done
ip link set lo up
# The lab writes who this guest is into its initramfs; in any other cloud the guest has to ask.
[ -e /etc/lab/hostname ] || . /discover
hostname -F /etc/lab/hostname
card=0
while read -r address gateway; do
    ip address add "$address" dev eth$card; ip link set eth$card up
    [ "$gateway" = - ] || ip route add default via "$gateway"
    card=$((card + 1))
done </etc/lab/cards
ulimit -n 16384
while :; do /bin/lbsidecar-lab-guest; sleep 1; done &
read -r up rest </proc/uptime
echo "guest: up after $up s"
# The lab boots one like this to see whether KVM really works.
[ -e /etc/lab/probe ] && poweroff -f
# As cloud-init does: the key pair's key may log in. The host's key is made when somebody comes.
cp /etc/lab/authorized-keys /root/.ssh/authorized_keys 2>/dev/null && chmod 600 /root/.ssh/authorized_keys
dropbear -R -s 2>/dev/null
# As cloud-init does: user data that is a script is run once.
[ "$(head -c 2 /etc/lab/user-data 2>/dev/null)" = '#!' ] && { chmod +x /etc/lab/user-data; /etc/lab/user-data & }
acpid -c /etc/acpi -l /tmp/acpid.log -p /tmp/acpid.pid
while :; do sleep 3600; done
