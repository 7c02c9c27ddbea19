#!/bin/bash
# Installs OpenStack's packages into a layer over /usr, /etc and /var, in mount and process namespaces of its own: the machine itself
# gets none of them. The layer is kept, and made anew when the machine's own packages have changed. Prints the layer's directory. Ends with
# $UNREACHABLE (75) when the packages cannot be downloaded.
. "$(dirname "$0")/common.sh"

if [ "${1:-}" = inside ]; then
    layer=$2
    mount --make-rprivate /
    for part in $LAID_OVER; do
        mkdir -p "$layer/$part" "$layer/.work/$part"
        mount -t overlay -o "lowerdir=/$part,upperdir=$layer/$part,workdir=$layer/.work/$part,index=off,xino=off" rig "/$part"
    done
    names=$(cat /etc/resolv.conf)
    mount -t tmpfs -o mode=755 rig /run
    # It may have been a link to a file in /run.
    [ -s /etc/resolv.conf ] || { rm -f /etc/resolv.conf; printf '%s\n' "$names" >/etc/resolv.conf; }
    # The packages' scripts shall start nothing; what they start all the same dies with this process's namespace.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    export DEBIAN_FRONTEND=noninteractive
    reached=true
    apt-get update -q -o APT::Update::Error-Mode=any || reached=false
    # Without recommended packages: those are a gigabyte. No answer to debconf's questions means: configure nothing.
    # shellcheck disable=SC2086
    packages() {
        apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
            -o Dpkg::Options::=--force-unsafe-io "$@" $PACKAGES
    }
    # Lists that are not there know no package; with lists, a package that does not fit is our mistake.
    packages --simulate >/dev/null || {
        $reached || exit $UNREACHABLE
        exit 1
    }
    # The packages' scripts start with nothing left to download.
    packages --download-only -o Acquire::http::Timeout=30 || exit $UNREACHABLE
    packages --no-download
    apt-get clean
    exit 0
fi

command -v dpkg-query >/dev/null || fail "the rig takes Debian's packages; this is not Debian"
key=$({ dpkg-query -W; echo "$PACKAGES"; } | sha256sum | cut -c 1-16)
layer=$RIG_CACHE/$key
mkdir -p "$RIG_CACHE"
# One makes a layer, others wait for it.
exec 9>"$RIG_CACHE/.lock"
flock 9
if [ ! -e "$layer/.done" ]; then
    # What a rig lies on is locked by its first process.
    for old in "$RIG_CACHE"/*/; do [ ! -d "$old" ] || flock -n "$old" rm -rf "$old" || true; done
    mkdir -p "$layer"
    say "installing OpenStack's packages into $layer; the machine itself gets none of them"
    unshare --mount --pid --fork --kill-child --mount-proc "$0" inside "$layer" >"$layer/.log" 2>&1 || {
        code=$?
        if [ $code = $UNREACHABLE ]; then
            say "the packages cannot be downloaded ($layer/.log): $(grep -m 1 -E '^(E|W):' "$layer/.log")"
            exit $UNREACHABLE
        fi
        tail -n 20 "$layer/.log" >&2
        fail "failed to install the packages; the whole log is $layer/.log"
    }
    rm -rf "$layer/.work"
    touch "$layer/.done"
fi
echo "$layer"
