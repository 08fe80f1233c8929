# Files are written while the gateway is restarted, and later killed: open-iscsi recovers, the file system is clean, every byte is there.
set -e
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/tmp/src bs=1M count=16 2>/dev/null
sum=$(sha256sum < /tmp/src)
i=0
while [ $i -lt 6 ]; do
  { cp /tmp/src /mnt/copy$i && sync; } &
  [ $i != 1 ] || ask restart
  [ $i != 3 ] || ask kill
  [ $i != 5 ] || ask kill
  wait $! || fail "copy $i"
  i=$((i+1))
done
umount /mnt
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
i=0
while [ $i -lt 6 ]; do
  [ "$(sha256sum < /mnt/copy$i)" = "$sum" ] || fail "copy$i differs"
  i=$((i+1))
done
umount /mnt
say "six copies intact over a restart and two kills of the gateway"
