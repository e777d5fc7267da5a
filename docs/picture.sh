#!/usr/bin/env bash
# Makes docs/demo-page.png: the demo's page as headless Chromium draws it. Needs Debian's chromium.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo run --release --quiet -- demo --output "$work/demo.unclosed"
chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --user-data-dir="$work/profile" --window-size=1240,860 \
  --virtual-time-budget=5000 --screenshot="$PWD/docs/demo-page.png" "file://$work/demo.html" 2>/dev/null
