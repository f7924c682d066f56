# Run by tests/units.rs in namespaces of its own: scratch.sh FOLDER PACKAGE. Everything here ends with the last process.
#
# The host's system seen through a layer that takes all changes: dpkg, adduser and the init tools are the real ones, and
# nothing of what they do reaches the host.
set -eu
folder=$1 package=$2

ip link set lo up
mount -t tmpfs -o mode=755 scratch "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
cd "$folder/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
cp "$package" tmp/wsson.deb
# Containers forbid packages to start anything; here nothing else is reached by it.
rm -f usr/sbin/policy-rc.d usr/sbin/runlevel
# A host with SysV init that has booted: the host of the tests may have systemd's programs, or no init at all.
printf '#!/bin/sh\necho N 2\n' > usr/sbin/runlevel
chmod 755 usr/sbin/runlevel

cat > tmp/inside.sh <<'END'
set -eu
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
step() { echo "--- $*"; }
fail() { echo "wrong: $*"; exit 1; }
code() { wanted=$1; shift; got=0; "$@" || got=$?; [ "$got" = "$wanted" ] || fail "$* ended with $got"; }

step installation: a user, a secret that others may not read, a server that runs as that user
dpkg -i /tmp/wsson.deb
getent passwd wsson
[ "$(stat -c '%U %G %a' /etc/wsson/secret)" = 'root wsson 640' ] || fail "$(ls -l /etc/wsson)"
[ "$(wc -c < /etc/wsson/secret)" -gt 40 ] || fail 'the secret is short'
code 0 /etc/init.d/wsson status
pid=$(cat /run/wsson/wsson.pid)
grep -q "^Uid:.$(id -u wsson).$(id -u wsson)" "/proc/$pid/status" || fail "$(grep Uid "/proc/$pid/status")"
[ "$(stat -c '%U %a' /run/wsson/control.sock)" = 'wsson 660' ] || fail "$(ls -l /run/wsson)"

step without any syslog the log is a file, not lost
[ -S /dev/log ] || grep -q 'info started' /var/log/wsson/wsson.log || fail "$(ls -l /var/log/wsson)"

step the init script
code 0 service wsson reload
code 0 service wsson restart
[ "$(cat /run/wsson/wsson.pid)" != "$pid" ] || fail 'not restarted'
code 0 service wsson stop
code 3 service wsson status
code 0 service wsson stop
code 0 invoke-rc.d wsson start
code 0 wsson send --all hello

step an upgrade keeps the secret and what the administrator has changed, and restarts
pid=$(cat /run/wsson/wsson.pid)
secret=$(cat /etc/wsson/secret)
echo '# mine' >> /etc/wsson/wsson.toml
dpkg -i /tmp/wsson.deb
[ "$(cat /etc/wsson/secret)" = "$secret" ] || fail 'another secret'
grep -q '^# mine' /etc/wsson/wsson.toml || fail 'the configuration was overwritten'
[ "$(cat /run/wsson/wsson.pid)" != "$pid" ] || fail 'not restarted'

step an upgrade with a file that would not start leaves the old server serving, and says so
pid=$(cat /run/wsson/wsson.pid)
cp /etc/wsson/wsson.toml /tmp/good.toml
sed -i '1i colour = 1' /etc/wsson/wsson.toml
dpkg -i /tmp/wsson.deb > /tmp/said 2>&1 || fail "$(cat /tmp/said)"
grep -q 'the old one goes on serving' /tmp/said && grep -q 'unknown key' /tmp/said || fail "$(cat /tmp/said)"
[ "$(cat /run/wsson/wsson.pid)" = "$pid" ] || fail 'the old server has ended'
code 0 wsson send --all hello
cp /tmp/good.toml /etc/wsson/wsson.toml

step an upgrade leaves a stopped server alone, an installation after a removal starts it
code 0 service wsson stop
dpkg -i /tmp/wsson.deb
code 3 service wsson status
dpkg --remove wsson
dpkg -i /tmp/wsson.deb
code 0 service wsson status

step the user of a site: in by its group
code 4 runuser -u www-data -- wsson send --all hello
adduser --quiet www-data wsson
code 0 runuser -u www-data -- wsson send --all hello
code 0 runuser -u www-data -- cat /etc/wsson/secret > /dev/null

step removal stops the server and keeps the configuration, purging leaves nothing but the user
pid=$(cat /run/wsson/wsson.pid)
dpkg --remove wsson
# No process waits for orphans here but this shell, when it waits for something else.
[ ! -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" || fail 'it still runs'
[ -e /etc/wsson/wsson.toml ] && [ -e /etc/wsson/secret ] || fail 'the configuration has gone'
dpkg --purge wsson
[ ! -e /etc/wsson ] && [ ! -e /var/log/wsson ] && [ ! -e /etc/init.d/wsson ] || fail 'something is left'
END
exec chroot . sh /tmp/inside.sh
