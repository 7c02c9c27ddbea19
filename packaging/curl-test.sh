#!/bin/sh
# curl-test.sh URL [SECONDS]: asks the service ten times a second, each time on a connection of its own; says who answered how often,
# and ends with 2 when a request was lost. For guests that answer with their name, as those of `lbsidecar provision --user-data` do.
set -eu
url=${1:?use: curl-test.sh URL [SECONDS]}
seconds=${2:-60}
answers=$(mktemp)
trap 'rm -f "$answers"' EXIT INT TERM
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
    curl -sSf -m 5 "$url" >>"$answers" 2>/dev/null || echo LOST >>"$answers"
    # An answer without a newline would run into the next one.
    [ -z "$(tail -c 1 "$answers")" ] || echo >>"$answers"
    sleep 0.1
done
sort "$answers" | uniq -c | sort -rn
! grep -qx LOST "$answers" || exit 2
