#!/usr/bin/env bash
# The small generated model and the chat template of the reasoning tests. Needs the Python environment.
. "$(dirname "$0")/steps.sh"

generator=$PROJECT_DIR/models/make-test-model.py
model=$TOOLS_DIR/tiny-bigram.gguf
# The packages that it is made with, not those of the clients.
packages=$(grep -E '^(gguf|numpy|tokenizers)==' "$PROJECT_DIR/integration-tests/requirements.txt")
want=$(fingerprint "$generator" -- "$packages")
if done_before model "$want" && [ -s "$model" ] && [ -s "$TOOLS_DIR/think.jinja" ]; then
    say "test model: up to date ($model)"
    exit 0
fi
say "test model: generating"
"$TOOLS_DIR/venv/bin/python" "$generator" "$model"
mark_done model "$want"
