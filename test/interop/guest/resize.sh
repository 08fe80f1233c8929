# The volume grows while its file system is mounted and written to: the kernel sees the new size, resize2fs takes it, every byte is there.
set -e
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/tmp/src bs=1M count=8 2>/dev/null
sum=$(sha256sum < /tmp/src)
cp /tmp/src /mnt/before && sync
before=$(blockdev --getsize64 $DISK)
{ i=0; while [ $i -lt 4 ]; do cp /tmp/src /mnt/during$i && sync || exit 1; i=$((i+1)); done; } &
copy=$!
ask grow > /dev/null
echo 1 > /sys/block/${DISK##*/}/device/rescan
after=$(blockdev --getsize64 $DISK)
[ $after -gt $before ] || fail "the disk has $after bytes after a rescan, and had $before"
resize2fs $DISK > /tmp/resize.log 2>&1 || { cat /tmp/resize.log; fail "resize2fs"; }
wait $copy || fail "a copy while the disk grew"
kib=$(df -k /mnt | awk 'NR == 2 { print $2 }')
[ $kib -gt $((before / 1024)) ] || fail "the file system has $kib KiB on a disk that had $before bytes"
cp /tmp/src /mnt/after && sync
umount /mnt
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
for name in before during0 during1 during2 during3 after; do
  [ "$(sha256sum < /mnt/$name)" = "$sum" ] || fail "$name differs"
done
umount /mnt
say "grown from $before to $after bytes under a mounted ext4; six files intact"
