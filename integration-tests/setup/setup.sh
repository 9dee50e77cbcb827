#!/usr/bin/env bash
# Brings everything the tests need: idempotent, and done in seconds when nothing is missing.
# Artefacts go to ${AEGIS_TOOLS_DIR:-$HOME/.cache/aegis}.
. "$(dirname "$0")/steps.sh"

say "tools folder: $TOOLS_DIR"
# One set-up at a time: two at once would build in each other's folders.
exec 9>"$TOOLS_DIR/lock"
flock 9
for step in system-packages cargo-tools python-env node-packages llama-server test-model; do
    started=$SECONDS
    bash "$SETUP_DIR/$step.sh" 9>&-
    took=$((SECONDS - started))
    [ "$took" -lt 2 ] || say "$step took $took s"
done
say "ready"
