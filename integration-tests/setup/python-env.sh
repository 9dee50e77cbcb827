#!/usr/bin/env bash
# A private Python environment with the pinned packages of requirements.txt.
. "$(dirname "$0")/steps.sh"

requirements=$PROJECT_DIR/integration-tests/requirements.txt
venv=$TOOLS_DIR/venv
want=$(fingerprint "$requirements" "$0" -- "$(python3 --version)" "$venv")
if done_before python "$want" && "$venv/bin/python" -c '' 2>/dev/null; then
    say "Python environment: up to date ($venv)"
    exit 0
fi
say "Python environment: installing into $venv (360 MB with the clients under test)"
rm -rf "$venv"
python3 -m venv "$venv"
# The list is complete: see its head. Byte code is left to the first import, most of these files are never imported.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-compile --no-deps \
    --only-binary :all: --requirement "$requirements" </dev/null
mark_done python "$want"
