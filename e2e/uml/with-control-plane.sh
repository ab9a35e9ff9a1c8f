#!/bin/bash
# with-control-plane.sh runs one command in a guest, as uml-run.sh does, with a
# control plane outside of it: in the guest an API server is slow.
#
#   with-control-plane.sh [uml-run options] -- COMMAND...
#   go test -exec /absolute/with-control-plane.sh ./stories/...
#
# Both stand in a network namespace of their own, on a tap device:
#
#   kube-apiserver 10.78.0.1 --- tap0 : vec0 --- 10.78.0.2, the guest
#
# The command finds the kubeconfigs in $HERALD_LAB_DIR; HERALD_LAB_UML=1 says
# where it is. Exit code: the command's; 125 if there is no control plane.
set -euo pipefail

server=10.78.0.1 guest=10.78.0.2
if [ "${HERALD_LAB_NAMESPACE:-}" != private ]; then
  export HERALD_LAB_NAMESPACE=private
  exec unshare --mount --net "$0" "$@"
fi
unset HERALD_LAB_NAMESPACE

here=$(dirname "$(realpath "$0")")
cache=${HERALD_CACHE:-$HOME/.cache/herald}
labkube=$(sed -n 's/^LABKUBE=//p' "$cache/env" 2>/dev/null || true)
[ -x "$labkube" ] || { echo "with-control-plane: no control plane: run e2e/setup.sh control-plane" >&2; exit 125; }
[ -c /dev/net/tun ] || { echo "with-control-plane: this machine has no /dev/net/tun" >&2; exit 125; }

ip link set lo up
ip tuntap add tap0 mode tap
ip addr add $server/24 dev tap0
ip link set tap0 up
# What the guest has behind it is reached through it.
ip route add default via $guest

dir=$(mktemp -d "${TMPDIR:-/tmp}/herald-lab.XXXXXX")
plane= vm=
# The guest first: what runs in it need not see its API server go.
finish() {
  trap - EXIT
  for child in $vm $plane; do
    kill -TERM "$child" 2>/dev/null && wait "$child" || true
  done
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 124' INT TERM QUIT HUP

mkfifo "$dir/said"
setpriv --pdeathsig KILL "$labkube" all "$dir" --advertise-address $server \
  --server-url "https://$server:6443" >"$dir/said" 2>"$dir/labkube.log" &
plane=$!
read -r -t 150 said <"$dir/said" || said="nothing"
if [ "$said" != ready ]; then
  echo "with-control-plane: the control plane said $said" >&2
  tail -n 20 "$dir/labkube.log" >&2
  exit 125
fi

export HERALD_LAB_DIR=$dir HERALD_LAB_UML=1 UML_ADDRESS=$guest/24
rc=0
setpriv --pdeathsig TERM "$here/uml-run.sh" -n tap0 "$@" & # in the background, so that traps run at once
vm=$!
wait "$vm" || rc=$?
vm=
exit $rc
