#!/bin/sh
# Finds or installs the Chromium that the browser tests drive: Debian's where apt-get can install it, else Playwright's.
set -eu
python="$1"
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
    "$python" -m playwright install chromium
fi
