# A minute's worth: a file system, a restart under load, trim.
set -e
dd if=/dev/urandom of=/tmp/src bs=1M count=8 2>/dev/null
sum=$(sha256sum < /tmp/src)
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
{ cp /tmp/src /mnt/a && sync; } &
copy=$!
until read -r _ writes < /sys/block/${DISK##*/}/inflight && [ "$writes" -gt 0 ]; do
  kill -0 $copy 2>/dev/null || fail "the copy was over before the gateway was"
done
ask kill
wait $copy || fail "the copy"
umount /mnt
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
[ "$(sha256sum < /mnt/a)" = "$sum" ] || fail "the copy differs"
rm /mnt/a; sync; /sbin/fstrim /mnt
umount /mnt
