# What docs/OPERATIONS.md says for outages of ten minutes: a command may live for six times this.
echo 180 > /sys/block/${DISK##*/}/device/timeout
[ "$(cat /sys/block/${DISK##*/}/device/timeout)" = 180 ] || fail "the command timeout stays as it was"
