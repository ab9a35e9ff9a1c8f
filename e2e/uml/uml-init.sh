#!/bin/bash
# uml-init.sh is process 1 of the guest that uml-run.sh boots. It builds the
# file system, runs the one command and halts.
#
# umlctl (the control directory) and umladdr (the address of vec0) come from
# the kernel's command line: what the kernel does not know there becomes the
# environment of init. Starting a process is slow in here: keep them few.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc

# The host's files below, memory above: everything can be written.
mount -t tmpfs -o size=90% cow /mnt
mkdir /mnt/up /mnt/work /mnt/root /mnt/ctl
root=/mnt/root
mount -t overlay root -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work $root
mount -t hostfs ctl /mnt/ctl -o "$umlctl"

mount -t proc proc $root/proc
mount -t sysfs sys $root/sys
mount -t devtmpfs dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm $root/dev/net
mount -t devpts devpts $root/dev/pts
mount -t tmpfs shm $root/dev/shm
mount -t tmpfs run $root/run
mkdir -p $root/run/netns $root/run/lock $root/run/tmp $root/run/umlctl
mount -t hostfs ctl $root/run/umlctl -o "$umlctl"
ln -sf /proc/self/fd $root/dev/fd
ln -sf fd/0 $root/dev/stdin
ln -sf fd/1 $root/dev/stdout
ln -sf fd/2 $root/dev/stderr
while read -r dir; do
  [ -n "$dir" ] && mkdir -p "$root$dir" && mount -t hostfs writable "$root$dir" -o "$dir"
done </mnt/ctl/writable

# The command's stdout and stderr are consoles: no echo, no added CR.
for tty in tty1 tty2; do stty -F /dev/$tty raw -echo -opost; done
ip link set lo up
if [ -n "${umladdr:-}" ]; then
  ip addr add "$umladdr" dev vec0
  ip link set vec0 up
fi
dmesg -n 1

cat >$root/run/go.sh <<'X'
set -a; . /run/umlctl/env; set +a
export TMPDIR=/run/tmp UML=1
ulimit -n 65536
cd "$(cat /run/umlctl/cwd)" || exit 125
eval "exec $(cat /run/umlctl/cmd)"
X
setsid -w chroot $root /bin/bash /run/go.sh </dev/null >/dev/tty1 2>/dev/tty2
rc=$?
for tty in tty1 tty2; do stty -F /dev/$tty drain >/dev/null 2>&1; done
# Renamed into place: a result that is there is whole.
echo $rc >/mnt/ctl/rc.tmp
mv /mnt/ctl/rc.tmp /mnt/ctl/rc
# reboot(2) with LINUX_REBOOT_CMD_POWER_OFF; not every Debian has halt(8), but
# each has perl-base.
exec perl -e 'syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0)'
