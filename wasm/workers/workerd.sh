#!/bin/sh
# workerd with the option that miniflare has no setting for: where the Pyodide bundle is, so that none is fetched.
# serve.mjs names the binary and the directory.
command=$1
shift
# shellcheck disable=SC2086  # options are several words on purpose
exec "$ALKALINE_WORKERD" "$command" --pyodide-bundle-disk-cache-dir="$ALKALINE_BUNDLE" $ALKALINE_WORKERD_OPTIONS "$@"
