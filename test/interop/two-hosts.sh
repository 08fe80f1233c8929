#!/bin/sh
# Prepares what two-hosts.ts boots: Debian's kernel (unpacked, never installed) and a small initramfs. Prints their two paths.
#
# usage: two-hosts.sh DIRECTORY
#
# The guest sees this machine's file system read-only (9p) under a layer of its own in memory, so every program that is installed here
# runs there too, over a kernel that has what this one may lack (ESP). What it is told on its second serial port it runs: one line of
# base64 is one script; the answer is one line `rc base64-of-output`.
#
# needs (Debian): qemu-system-x86 busybox-static cpio kmod
set -eu
W=$1
CACHE=${CACHE:-/tmp/linux-initiator.cache}
die() { echo "two-hosts: $*" >&2; exit 2; }
for p in qemu-system-x86_64 busybox cpio depmod modprobe; do
  command -v "$p" >/dev/null || die "$p is missing (see 'needs' in this file)"
done

# The same unpacked kernel as linux-initiator.sh uses.
mkdir -p "$CACHE"
if ! ls "$CACHE"/kernel/boot/vmlinuz-* >/dev/null 2>&1; then
  pkg=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/{print $2; exit}')
  [ -n "$pkg" ] || die "no linux-image package known to apt (apt-get update?)"
  rm -rf "$CACHE/dl" "$CACHE/kernel.new"; mkdir -p "$CACHE/dl"
  (cd "$CACHE/dl" && apt-get -qq download "$pkg" 2>/dev/null) || die "apt-get download $pkg failed"
  dpkg-deb -x "$CACHE"/dl/*.deb "$CACHE/kernel.new"
  kv=$(basename "$CACHE"/kernel.new/boot/vmlinuz-*); kv=${kv#vmlinuz-}
  depmod -b "$CACHE/kernel.new" "$kv"
  rm -rf "$CACHE/kernel" "$CACHE/dl"; mv "$CACHE/kernel.new" "$CACHE/kernel"
fi
VMLINUZ=$(echo "$CACHE"/kernel/boot/vmlinuz-*); KVER=${VMLINUZ##*/vmlinuz-}

R=$W/root
mkdir -p "$R/bin" "$R/lib" "$R/proc" "$R/sys" "$R/dev" "$R/lower" "$R/layer" "$R/new"
cp "$(command -v busybox)" "$R/bin/busybox"
MODS="virtio_pci virtio_net virtio_rng 9p 9pnet_virtio overlay af_packet
      iscsi_tcp sd_mod sg crc32c_generic
      esp4 xfrm_user aes_generic gcm ctr cbc cmac ghash-generic seqiv echainiv authenc sha256_generic sha512_generic drbg
      nf_tables"
: > "$R/modules.order"
for m in $MODS; do
  modprobe -S "$KVER" -d "$CACHE/kernel" --show-depends "$m" 2>/dev/null | awk '$1=="insmod"{print $2}' || true
done | awk '!seen[$0]++' | while read -r ko; do
  cp "$ko" "$R/lib/"; basename "$ko" >> "$R/modules.order"
done

cat > "$R/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r m; do insmod /lib/$m 2>/dev/null || echo "(no $m on this CPU)"; done < /modules.order
fail() { echo "##BOOT $*"; sleep 1; poweroff -f; }
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=262144 host /lower || fail "no 9p"
mount -t tmpfs -o size=90% layer /layer; mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work,metacopy=off new /new || fail "no overlay"
for d in proc sys dev; do mount --move /$d /new/$d; done
mount -t tmpfs -o size=80% run /new/run
mkdir -p /new/dev/pts /new/dev/shm /new/run/lock; mount -t devpts pts /new/dev/pts; mount -t tmpfs shm /new/dev/shm
for word in $(cat /new/proc/cmdline); do case $word in host=*) hostname "${word#host=}" ;; esac; done
ip link set lo up
cp /agent.sh /new/run/agent.sh
exec chroot /new /bin/bash /run/agent.sh
INIT
cat > "$R/agent.sh" <<'AGENT'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
cd /run
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo ready >&3
while read -r line <&3; do
  printf %s "$line" | base64 -d > /run/job.sh
  bash /run/job.sh > /run/job.out 2>&1 </dev/null 3>&-; rc=$?
  printf '%s %s\n' "$rc" "$(base64 -w0 /run/job.out)" >&3
done
AGENT
chmod +x "$R/init"
(cd "$R" && find . | cpio --quiet -o -H newc) | gzip -1 > "$W/initrd"
rm -rf "$R"
echo "$VMLINUZ"
echo "$W/initrd"
