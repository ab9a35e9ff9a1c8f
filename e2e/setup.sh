#!/bin/bash
# setup.sh prepares a Debian machine with Go for Herald's lab, and does nothing
# the second time.
#
#   setup.sh [packages] [control-plane] [kernel] [openstack]     (all if none is named)
#
#   packages       the programs that the lab, the demo and the tests call
#   control-plane  labkube (etcd, kube-apiserver, …) and kubectl, built from source
#   kernel         the User-Mode Linux kernel with IPVS, built from source
#   openstack      Octavia and Neutron, unpacked from their packages, not installed
#
# What is built goes to $HERALD_CACHE (~/.cache/herald), named by a hash of what
# it was built from; the file "env" there says where everything is:
# LABKUBE=…, KUBECTL=…, UML_KERNEL=…, OPENSTACK_ROOT=….
set -euo pipefail

e2e=$(dirname "$(realpath "$0")")
cache=${HERALD_CACHE:-$HOME/.cache/herald}
export HERALD_CACHE=$cache PATH=/usr/local/go/bin:$PATH
progress_every=15

lab_packages=(iproute2 nftables iptables ipset ipvsadm conntrack curl procps iputils-ping iputils-arping frr bird2 hcloud-cli)
build_packages=(gcc libc6-dev)
kernel_packages=(linux-source-6.12 make bc bison flex xz-utils)
openstack_packages=(python3)
openstack_unpacked=$(dirname "$e2e")/internal/cloudsim/openstack/packages.txt

die() { echo "setup: $*" >&2; exit 1; }

# install PACKAGE... installs those that are missing, all in one go.
install() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  watch "installing ${missing[*]}" "about a minute" apt_install "${missing[@]}"
}

apt_install() {
  # Half an installation is worse than a late end.
  trap '' TERM INT HUP
  export DEBIAN_FRONTEND=noninteractive
  # The lists may be absent (images) or older than the archive.
  apt-get install -y --no-install-recommends "$@" ||
    { apt-get update && apt-get install -y --no-install-recommends "$@"; }
}

# watch WHAT USUALLY COMMAND... runs the command, says every few seconds how
# long it has taken, and shows its output only if it fails.
watch() {
  local what=$1 usually=$2 log start pid rc=0 say=$progress_every
  shift 2
  log=$cache/${what//[^a-zA-Z0-9.]/-}.log
  start=$SECONDS
  echo "$what, $usually the first time …"
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    # One second at a time: what is quick must not wait for a progress line.
    sleep 1
    if ((SECONDS - start >= say)); then
      echo "$what, $usually the first time … $((SECONDS - start)) s"
      say=$((say + progress_every))
    fi
  done
  wait "$pid" || rc=$?
  if [ $rc -ne 0 ]; then
    tail -n 40 "$log" >&2
    echo "setup: $what: exit code $rc; all of its output is in $log" >&2
    return $rc
  fi
  rm -f "$log"
  echo "$what: done after $((SECONDS - start)) s"
}

# once NAME COMMAND... runs the command unless another setup is just doing the
# same; then it waits for that one.
once() {
  local name=$1
  shift
  (
    if ! flock -n 9; then
      echo "another setup is at $name: waiting for it"
      flock 9
    fi
    "$@"
  ) 9>"$cache/lock.$name"
}

# remember NAME PATH puts the line NAME=PATH into the file env.
remember() {
  (
    flock 9
    { grep -v "^$1=" "$cache/env" 2>/dev/null || true; echo "$1=$2"; } | sort >"$cache/env.new"
    mv "$cache/env.new" "$cache/env"
  ) 9>"$cache/lock.env"
}

# forget_old PREFIX keeps the three newest files or folders of that name: switching
# between branches must not build each time.
forget_old() {
  find "$cache" -maxdepth 1 -name "$1-*" -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d' ' -f2- | xargs -r rm -rf
}

# pinned MODULE is the version that e2e/go.mod requires, as 1.37.2.
pinned() { awk -v module="$1" '$1 == module { print substr($2, 2); exit }' "$e2e/go.mod"; }

# identity hashes its input and the toolchain. Of go.mod only what makes a
# control plane another one goes in: the lab's own imports come and go.
identity() {
  { cat; go env GOVERSION; pinned k8s.io/kubernetes; pinned go.etcd.io/etcd/server/v3; } | sha256sum | cut -c1-16
}

# build NAME USUALLY KEY PACKAGE builds a Go program into the cache.
build() {
  local name=$1 usually=$2 out=$cache/$1-$3 package=$4 version
  version=$(pinned k8s.io/kubernetes)
  if [ ! -x "$out" ]; then
    # Without its version the API server is one that no client can parse.
    local stamp="-X k8s.io/component-base/version.gitVersion=v$version"
    stamp+=" -X k8s.io/component-base/version.gitMajor=${version%%.*}"
    stamp+=" -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
    watch "building $name $version from source" "$usually" \
      go -C "$e2e" build -ldflags "-s -w $stamp" -o "$out.new" "$package" || return
    mv "$out.new" "$out"
    forget_old "$name"
  fi
  remember "${name^^}" "$out"
}

control_plane() {
  command -v go >/dev/null || die "there is no go in \$PATH nor in /usr/local/go: install Go first"
  build labkube "about 7 minutes" "$(find "$e2e/cmd/labkube" -name '*.go' ! -name '*_test.go' | sort | xargs cat | identity)" ./cmd/labkube
  build kubectl "half a minute" "$(identity </dev/null)" k8s.io/kubernetes/cmd/kubectl
}

kernel() {
  local out
  out=$("$e2e/uml/build-uml.sh" --path)
  if [ ! -x "$out" ]; then
    # Nice: stories on this machine's own kernel wait for the control plane only.
    watch "building the User-Mode Linux kernel" "about 4 minutes" nice "$e2e/uml/build-uml.sh" || return
    forget_old linux
  fi
  remember UML_KERNEL "$out"
}

# openstack unpacks servers of which this machine is to run no more than tests do:
# installed, they would be started, and get users and databases.
openstack() {
  local out
  out=$cache/openstack-$(sha256sum <"$openstack_unpacked" | cut -c1-16)
  if [ ! -d "$out" ]; then
    watch "unpacking Octavia and Neutron" "about half a minute" nice "$0" unpack "$out" || return
    forget_old openstack
  fi
  remember OPENSTACK_ROOT "$out"
}

# unpack FOLDER fetches and unpacks the packages into it.
unpack() {
  local new=$1.new packages
  rm -rf "$new"
  mkdir -p "$new/debs" "$new/root"
  mapfile -t packages <"$openstack_unpacked"
  cd "$new/debs"
  apt-get download "${packages[@]}" || { apt-get update && apt-get download "${packages[@]}"; }
  local deb
  for deb in *.deb; do dpkg-deb -x "$deb" "$new/root"; done
  mv "$new/root" "$1"
  cd "$cache"
  rm -rf "$new"
}

[ "$(id -u)" = 0 ] || die "the lab makes network namespaces and installs packages: run this as root"
command -v apt-get >/dev/null || die "this is not a Debian system: there is no apt-get"
mkdir -p "$cache"
[ "${1:-}" != unpack ] || { unpack "$2"; exit; }
[ $# -gt 0 ] || set -- packages control-plane kernel openstack

packages=()
for part in "$@"; do
  case $part in
    packages) packages+=("${lab_packages[@]}") ;;
    control-plane) packages+=("${build_packages[@]}") ;;
    kernel) packages+=("${build_packages[@]}" "${kernel_packages[@]}") ;;
    openstack) packages+=("${openstack_packages[@]}") ;;
    *) die "there is no part $part: want packages, control-plane, kernel or openstack" ;;
  esac
done
once packages install "${packages[@]}"

# At once, not one after the other: while one downloads, another compiles.
jobs=()
for part in "$@"; do
  case $part in
    control-plane) once control-plane control_plane & jobs+=($!) ;;
    kernel) once kernel kernel & jobs+=($!) ;;
    openstack) once openstack openstack & jobs+=($!) ;;
  esac
done
rc=0
for job in ${jobs[@]+"${jobs[@]}"}; do wait "$job" || rc=$?; done
exit $rc
