#!/usr/bin/env bash
# The JavaScript clients under test, exactly as package-lock.json has them.
. "$(dirname "$0")/steps.sh"

folder=$TOOLS_DIR/node
manifest=$PROJECT_DIR/integration-tests/package.json
lock=$PROJECT_DIR/integration-tests/package-lock.json
want=$(fingerprint "$manifest" "$lock" "$0" -- "$(node --version)")
if done_before node "$want" && [ -d "$folder/node_modules/openai" ]; then
    say "Node packages: up to date ($folder)"
    exit 0
fi
say "Node packages: installing into $folder"
mkdir -p "$folder"
cp "$manifest" "$lock" "$folder/"
(cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts </dev/null)
mark_done node "$want"
