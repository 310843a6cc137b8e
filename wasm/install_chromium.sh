#!/bin/sh
# Chromium and chromedriver from Debian, when that can be done here; otherwise what to do.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null && exit 0
fi
echo "wasm: Chromium and chromedriver are missing. On Debian: apt-get install chromium chromium-driver" >&2
exit 1
