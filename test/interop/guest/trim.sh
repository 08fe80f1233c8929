# Deleted files are given back: the live bytes of the volume fall after fstrim.
set -e
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/mnt/big bs=1M count=64 2>/dev/null
sync
full=$(ask live)
rm /mnt/big
sync
/sbin/fstrim -v /mnt
umount /mnt
blockdev --flushbufs $DISK
trimmed=$(ask live)
say "live bytes with 64 MiB of files $full, after rm and fstrim $trimmed"
[ $((full - trimmed)) -ge $((60 * 1024 * 1024)) ] || fail "fstrim gave back $((full - trimmed)) bytes of 64 MiB"
