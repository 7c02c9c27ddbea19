#!/bin/bash
# Stands before ebtables in the rig. ebtables 1.8.9 sometimes cannot delete a rule with a set of addresses by its description ("RULE_DELETE failed:
# Invalid argument"), and Neutron's agent then tries again for minutes, while no port is plugged. By its number the rule can be deleted.
real=/usr/sbin/ebtables-nft
said=$("$real" "$@" 2>&1) && { [ -z "$said" ] || printf '%s\n' "$said"; exit 0; }
code=$?
table=filter
while [ $# -gt 0 ]; do
    case $1 in
    -t) table=$2 ;;
    -D) chain=$2 ;;
    -i) device=$2 ;;
    --among-src) among=$2 ;;
    esac
    shift
done
if [ -n "${chain:-}" ] && [ -n "${among:-}" ]; then
    number=$("$real" -t "$table" -L "$chain" --Ln | sed -n "s/^ *\([0-9]*\)[., ] *-i ${device:-} --among-src .*/\1/p")
    number=${number%%$'\n'*}
    [ -n "$number" ] || exit 0
    exec "$real" -t "$table" -D "$chain" "$number"
fi
printf '%s\n' "$said" >&2
exit $code
