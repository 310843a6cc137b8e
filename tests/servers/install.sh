#!/bin/sh
# Postgres and Redis from Debian, when they are missing and that can be done here; otherwise what to do.
postgres() { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; }
missing=""
postgres >/dev/null 2>&1 || missing="postgresql"
command -v redis-server >/dev/null || missing="$missing redis-server"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086  # names of packages, split on purpose
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "tests/servers: missing: $missing. On Debian: apt-get install $missing" >&2
exit 1
