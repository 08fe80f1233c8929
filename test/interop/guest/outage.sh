# The cloud is away until so many seconds after the cache is full, while more is written than the cache holds: the kernel retries, nothing fails,
# every byte is there.
set -e
for session in /sys/class/iscsi_session/session*; do echo "recovery timeout $(cat $session/recovery_tmo) s"; done
echo "command timeout $(cat /sys/block/${DISK##*/}/device/timeout) s"
errors() { dmesg | grep -cE 'I/O error|Buffer I/O|EXT4-fs error' || true; }
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/tmp/src bs=1M count=16 2>/dev/null
sum=$(sha256sum < /tmp/src)
seconds=$(ask outage)
start=$(cut -d. -f1 /proc/uptime)
copies=8
i=0
while [ $i -lt $copies ]; do
  { cp /tmp/src /mnt/copy$i && sync; } || fail "copy $i: a write failed while the cloud was away"
  i=$((i+1))
  [ $((i % 2)) != 0 ] || echo "$i copies after $(($(cut -d. -f1 /proc/uptime) - start)) s: $(ask pressure)"
done
took=$(($(cut -d. -f1 /proc/uptime) - start))
[ $took -ge $seconds ] || fail "all was written in $took s: the cache never was full"
umount /mnt
dmesg | grep -q 'thin provisioning soft threshold' || fail "the kernel was not told that space runs low"
[ "$(errors)" = 0 ] || { dmesg | tail -20; fail "the kernel saw I/O errors"; }
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
i=0
while [ $i -lt $copies ]; do
  [ "$(sha256sum < /mnt/copy$i)" = "$sum" ] || fail "copy$i differs"
  i=$((i+1))
done
umount /mnt
say "$(ask wall)"
say "$copies copies of 16 MiB written in $took s, $seconds s of them with a full cache; $(ask drained)"
