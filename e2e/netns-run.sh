#!/bin/bash
# netns-run.sh runs one command in a network and mount namespace of its own:
#
#   go test -exec /absolute/netns-run.sh -tags netns ./speaker/...
#
# Named namespaces that it leaves behind go with it.
set -euo pipefail
if [ "${HERALD_NETNS_RUN:-}" != inside ]; then
  HERALD_NETNS_RUN=inside exec unshare --mount --net "$0" "$@"
fi
unset HERALD_NETNS_RUN
mkdir -p /run/netns
mount -t tmpfs netns /run/netns
ip link set lo up
exec "$@"
