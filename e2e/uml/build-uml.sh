#!/bin/bash
# build-uml.sh builds Herald's User-Mode Linux kernel from Debian's kernel
# source and prints its path. It is cached by configuration and package
# version; with --path nothing is built and only the path is printed.
# Needs the packages setup.sh installs for it, 1.8 GB of disk meanwhile.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
config=$here/um.config
source=linux-source-6.12

# What the lab cannot do without: an option that a newer source renamed must
# fail the build here, not a story later.
vital="HOSTFS OVERLAY_FS UML_NET_VECTOR PACKET VETH DUMMY BRIDGE TUN MACVLAN VLAN_8021Q
       NET_SCH_NETEM NET_IPIP IPV6_SIT IPV6_TUNNEL IP_MULTIPLE_TABLES TCP_MD5SIG
       NF_CT_NETLINK NF_TABLES_INET NFT_NAT NFT_MASQ NFT_FIB_INET NFT_REJECT NFT_HASH NFT_NUMGEN
       NFT_COMPAT IP_SET NETFILTER_XT_SET IP_SCTP IP_VS IP_VS_IPV6 IP_VS_MH IP_VS_NFCT IP_NF_TARGET_REJECT IP6_NF_TARGET_REJECT"

version=$(dpkg-query -W -f '${Version}' "$source")
key=$({ echo "$version"; cat "$config"; } | sha256sum | cut -c1-16)
out=${HERALD_CACHE:-$HOME/.cache/herald}/linux-$key
if [ "${1:-}" = --path ] || [ -x "$out" ]; then
  echo "$out"
  exit 0
fi

build=$(mktemp -d "${TMPDIR:-/var/tmp}/herald-uml.XXXXXX")
trap 'rm -rf "$build"' EXIT
trap 'exit 143' TERM INT HUP
# A third of the source is register tables of graphics cards and self-tests.
tar xf "/usr/src/$source.tar.xz" -C "$build" \
  --exclude='*/gpu/drm/amd/include' --exclude='*/tools/testing/selftests'
cd "$build/$source"
make -s ARCH=um KCONFIG_ALLCONFIG="$config" allnoconfig >&2
for option in $vital; do
  grep -q "^CONFIG_$option=y" .config || { echo "build-uml: CONFIG_$option is not set" >&2; exit 1; }
done
make -s ARCH=um -j"$(nproc)" linux >&2
mkdir -p "$(dirname "$out")"
strip -o "$out.tmp.$$" linux
mv "$out.tmp.$$" "$out"
echo "$out"
