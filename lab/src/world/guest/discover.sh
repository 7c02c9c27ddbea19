# Read by the guest's first process in a cloud that is not the lab: the address comes by DHCP, the rest from the metadata service.
: >/etc/lab/cards
cat >/tmp/lease <<'SCRIPT'
#!/bin/busybox sh
case $1 in bound | renew) ;; *) exit 0 ;; esac
ip address replace "$ip/$mask" dev "$interface"
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
for gateway in $router; do ip route replace default via "$gateway"; break; done
echo "$ip" >/etc/lab/address
# The metadata service may have a way of its own.
set -- $staticroutes
while [ $# -ge 2 ]; do
    case $1 in 169.254.169.254*) ip route replace 169.254.169.254 via "$2" ;; esac
    shift 2
done
SCRIPT
chmod +x /tmp/lease
ip link set eth0 up
# It stays and renews the lease.
udhcpc -i eth0 -s /tmp/lease -t 10 -T 1 -A 1 -O staticroutes -O mtu || echo "guest: no answer by DHCP"
metadata=http://169.254.169.254/openstack/latest
fetch() { timeout 5 wget -q -O "/tmp/$1" "$metadata/$1" 2>/dev/null; }
try=0
until fetch meta_data.json || [ $try -ge 20 ]; do try=$((try + 1)); sleep 0.5; done
# Keys that are there once only; the name of the host comes with a domain.
fact() { grep -o "\"$1\": *\"[^\"]*\"" /tmp/meta_data.json 2>/dev/null | head -n 1 | sed 's/.*: *"\(.*\)"/\1/'; }
name=$(fact hostname)
echo "${name%%.*}" >/etc/lab/hostname
[ -n "$name" ] || echo guest >/etc/lab/hostname
fact uuid >/etc/lab/uuid
sed -n 's/.*"public_keys": *{[^}]*: *"\([^"]*\)\\n".*/\1/p' /tmp/meta_data.json >/etc/lab/authorized-keys
fetch user_data && cp /tmp/user_data /etc/lab/user-data
