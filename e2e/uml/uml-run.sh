#!/bin/bash
# uml-run.sh runs one command as root in a throw-away User-Mode Linux kernel
# with IPVS, netfilter and every link type of the lab. No KVM is needed.
#
#   uml-run.sh [-k KERNEL] [-m MEM] [-t SECONDS] [-w DIR]... [-n TAP] [-a ARG]... -- COMMAND...
#   go test -exec /absolute/uml-run.sh ./speaker/steer/...
#
#   -k KERNEL   the kernel ($UML_KERNEL, or else what setup.sh built)
#   -m MEM      memory of the guest (2G); only what is touched counts
#   -t SECONDS  time limit (600)
#   -w DIR      a directory of the host that the guest may really write to
#   -n TAP      joins a tap device of this network namespace to the guest's
#               vec0, which gets the address $UML_ADDRESS (10.78.0.2/24)
#   -a ARG      one more argument on the kernel's command line
#
# The guest sees the host's files through an overlay: it may write anywhere,
# and nothing but the directories of -w reaches the host. Standard output and
# error stream through as they are written, byte for byte; standard input is
# empty. Variables named HERALD_*, REQUIRE_* or GO*, and those of $UML_ENV, go in.
#
# Exit code: the command's; 124 after the time limit; 125 if the guest died.
set -u

here=$(dirname "$(realpath "$0")")
kernel=${UML_KERNEL:-} mem=2G limit=600 writable=() kernel_args=()
while [ $# -gt 0 ]; do
  case $1 in
    -k) kernel=$2; shift 2 ;;
    -m) mem=$2; shift 2 ;;
    -t) limit=$2; shift 2 ;;
    -w) writable+=("$(realpath "$2")"); shift 2 ;;
    # Without gro=1 the link carries 19 kB/s instead of 240 MB/s.
    -n) kernel_args+=("vec0:transport=tap,ifname=$2,depth=128,gro=1" "umladdr=${UML_ADDRESS:-10.78.0.2/24}"); shift 2 ;;
    -a) kernel_args+=("$2"); shift 2 ;;
    --) shift; break ;;
    *) break ;;
  esac
done

cache=${HERALD_CACHE:-$HOME/.cache/herald}
[ -n "$kernel" ] || kernel=$(sed -n 's/^UML_KERNEL=//p' "$cache/env" 2>/dev/null)
[ -x "$kernel" ] || { echo "uml-run: no kernel: run e2e/setup.sh kernel" >&2; exit 125; }

# The control directory tells init what to run, and brings the result back.
ctl=$(mktemp -d "${TMPDIR:-/tmp}/herald-uml.XXXXXX")
trap 'rm -rf "$ctl"' EXIT
printf '%q ' "$@" >"$ctl/cmd"
pwd >"$ctl/cwd"
printf '%s\n' ${writable[@]+"${writable[@]}"} >"$ctl/writable"
for name in PATH HOME LANG CI ${!HERALD_@} ${!REQUIRE_@} ${!GO@} ${UML_ENV:-}; do
  [ -n "${!name-}" ] && printf '%s=%q\n' "$name" "${!name}"
done >"$ctl/env"

# The guest is one CPU, and each of its system calls a hand-over between two
# of our processes: 3 to 5 times slower if those run on different CPUs.
# UML_CPU=none leaves it to the scheduler.
pin=()
cpus=$(taskset -pc $$ | sed 's/.*: //')
case ${UML_CPU:=auto} in
  none) ;;
  auto) pin=(taskset -c "${cpus##*[,-]}") ;;
  *) pin=(taskset -c "$UML_CPU") ;;
esac

# con0 is the kernel's console; con1 and con2 are the command's stdout and
# stderr. Guest memory is an unlinked sparse file in TMPDIR: hence /dev/shm.
# A session of its own, so that all of the kernel's processes can be ended
# together; and it ends with this script, however this script ends.
TMPDIR=/dev/shm setsid -w setpriv --pdeathsig TERM ${pin[@]+"${pin[@]}"} \
  timeout -k 5 "$limit" "$kernel" mem="$mem" \
  root=/dev/root rootfstype=hostfs rootflags=/ ro init="$here/uml-init.sh" \
  con=null con0=null,fd:7 con1=null,fd:8 con2=null,fd:9 quiet panic=-1 \
  ${kernel_args[@]+"${kernel_args[@]}"} "umlctl=$ctl" \
  7>"$ctl/kernel.log" 8>&1 9>&2 </dev/null >"$ctl/kernel.err" 2>&1 &
guest=$!
trap 'kill -TERM -- "-$guest" 2>/dev/null; kill -TERM "$guest" 2>/dev/null' INT TERM QUIT HUP
wait "$guest"
kernel_rc=$?
[ -s "$ctl/rc" ] && exit "$(cat "$ctl/rc")"

tail -n 40 "$ctl/kernel.err" "$ctl/kernel.log" >&2
case $kernel_rc in
  124 | 137 | 143) echo "uml-run: stopped by a signal or after ${limit} s" >&2; exit 124 ;;
esac
echo "uml-run: the guest ended without a result (kernel exit code $kernel_rc)" >&2
exit 125
