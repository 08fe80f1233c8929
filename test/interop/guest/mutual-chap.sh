# Mutual CHAP: the session that is there has proved it in both ways; a wrong secret of either side keeps it out.
set -e
dd if=/dev/urandom of=/tmp/src bs=1M count=4 2>/dev/null
dd if=/tmp/src of=$DISK bs=1M oflag=direct conv=fsync 2>/dev/null
relogin || fail "a second login"
[ "$(dd if=$DISK bs=1M count=4 iflag=direct 2>/dev/null | sha256sum)" = "$(sha256sum < /tmp/src)" ] || fail "the data differs"
logout
refused() { if iscsiadm -m node -T "$TARGET" -p "$PORTAL" --login > /tmp/refused.log 2>&1; then fail "$1"; fi; }
nset node.session.auth.password_in "not what they say"
refused "a target that could not prove who it is was believed"
nset node.session.auth.password_in "$CHAP_PASS_IN"
nset node.session.auth.password "not what was set"
refused "a wrong secret was accepted"
nset node.session.auth.authmethod None
refused "a login without CHAP was accepted"
nset node.session.auth.authmethod CHAP
nset node.session.auth.password "$CHAP_PASS"
login || fail "the right secrets are refused afterwards"
say "mutual CHAP with ${CHAP_ALGS:-MD5}: in with the right secrets, out with each wrong one"
