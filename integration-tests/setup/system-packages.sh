#!/usr/bin/env bash
# Installs what the tests and the benchmark need from the system, and only what is missing.
. "$(dirname "$0")/steps.sh"

missing=()
command -v curl >/dev/null || missing+=(curl)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
# Debian puts nginx into /usr/sbin, which is not on every user's PATH. Only the benchmark uses it.
PATH=$PATH:/usr/sbin command -v nginx >/dev/null || missing+=(nginx-light)

if [ ${#missing[@]} = 0 ]; then
    say "system packages: all there"
    exit 0
fi
command -v apt-get >/dev/null || fail "missing: ${missing[*]}. There is no apt-get here: install them by hand, then run this again."
say "system packages: installing ${missing[*]}"

# The benchmark starts its own nginx on a free port. The package would start one on port 80: Debian's policy
# hook keeps it from doing so. A hook that is there already is somebody's decision and stays as it is.
hook=/usr/sbin/policy-rc.d
if [[ " ${missing[*]} " == *" nginx-light "* ]]; then
    if [ ! -e "$hook" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$hook" >/dev/null
        as_root chmod 755 "$hook"
        trap 'as_root rm -f "$hook"' EXIT
    fi
fi
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
if [[ " ${missing[*]} " == *" nginx-light "* ]] && [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet nginx
fi
