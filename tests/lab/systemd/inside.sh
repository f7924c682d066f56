# Runs as root inside a booted Debian, from a unit of its own: see run. What it says is kept; nothing outside is touched.
#
# Each step is a function; what goes wrong in it is a line "not ok", and the next step begins from a server that runs.
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
readonly CONFIG=/etc/wsson/wsson.toml DROP=/run/systemd/system/wsson.service.d
cd /root || exit

step= wrong=
say_wrong() {
    wrong=yes
    echo "not ok $step: $*"
    # What an administrator would look at.
    { systemctl status wsson.service --no-pager -n 5 2>&1; ls -la /run/wsson 2>&1; } | sed 's/^/    /' | head -n 30
}
is() { # WHAT WANTED GOT
    [[ $2 == "$3" ]] || say_wrong "$1 is '$3', not '$2'"
}
has() { # WHAT WORDS TEXT
    [[ $3 == *"$2"* ]] || say_wrong "$1 lacks '$2': $3"
}
lacks() { # WHAT WORDS TEXT
    [[ $3 != *"$2"* ]] || say_wrong "$1 has '$2': $3"
}
# Runs a command; what it says is in $said, its exit code in $code.
try() {
    said=$(timeout 60 "$@" 2>&1)
    code=$?
}
exits() { # CODE COMMAND...
    local wanted=$1
    shift
    try "$@"
    [[ $code == "$wanted" ]] || say_wrong "'$*' ended with $code, not $wanted: $said"
}
prop() { systemctl show --value --property="$1" wsson.service; }
pid() { prop MainPID; }
eventually() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}
now_ms() { local t=${EPOCHREALTIME/./}; echo $((t / 1000)); }
serving() { wsson send --all hello > /dev/null 2>&1; }
set_key() { # LINE: in place of the key's line, at the top
    sed -i "/^${1%% *} =/d" $CONFIG && sed -i "1i $1" $CONFIG
}
unset_key() { sed -i "/^$1 =/d" $CONFIG; }
drop_in() { # LINES...
    mkdir -p $DROP && printf '%s\n' '[Service]' "$@" > $DROP/lab.conf && systemctl daemon-reload
}
# From whatever the last step left to a server that runs as installed.
reset() {
    rm -rf $DROP
    [[ ! -e good.toml ]] || cp good.toml $CONFIG
    systemctl daemon-reload
    systemctl reset-failed wsson.service wsson.socket 2> /dev/null
    systemctl is-active -q wsson.service && serving && return
    systemctl restart wsson.service || say_wrong 'the server does not come back'
}
run_step() { # NAME FUNCTION
    step=$1 wrong=
    local begin
    begin=$(now_ms)
    "$2"
    [[ -n $wrong ]] || echo "ok $step ($(($(now_ms) - begin)) ms)${figure:+: $figure}"
    figure=
    [[ -z ${3-} ]] || return 0
    reset
}
# The sandbox and the user of the unit: what a server lacks that was started by hand.
in_its_unit() {
    local pid
    pid=$(pid)
    has 'the control group' /system.slice/wsson.service "$(cat "/proc/$pid/cgroup")"
    is 'its user' "$(id -u wsson)" "$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")"
    is 'no new privileges' 1 "$(awk '/^NoNewPrivs:/ { print $2 }' "/proc/$pid/status")"
    is 'the holder of the PID file' "$pid" "$(head -n 1 /run/wsson/wsson.pid)"
}

install_it() {
    exits 0 dpkg -i old.deb
    is 'the unit' active "$(systemctl is-active wsson.service)"
    is 'the unit at boot' enabled "$(systemctl is-enabled wsson.service)"
    is 'the socket unit at boot' disabled "$(systemctl is-enabled wsson.socket)"
    has 'systemctl status at once' 'Serving 0 clients' "$(prop StatusText)"
    is 'the secret' 'root wsson 640' "$(stat -c '%U %G %a' /etc/wsson/secret)"
    is 'the control socket' 'wsson wsson 660' "$(stat -c '%U %G %a' /run/wsson/control.sock)"
    is 'the folder of logs' 'wsson wsson 750' "$(stat -c '%U %G %a' /var/log/wsson)"
    in_its_unit
    exits 0 wsson check
    exits 0 systemctl restart wsson
    is 'the folder of logs after a restart' 'wsson wsson 750' "$(stat -c '%U %G %a' /var/log/wsson)"
    cp $CONFIG good.toml
}

the_sites_user() {
    exits 4 runuser -u www-data -- wsson send --all hello
    has 'the way out' 'adduser www-data wsson' "$said"
    exits 0 adduser --quiet www-data wsson
    exits 0 runuser -u www-data -- wsson send --all hello
    # README's login, served by PHP as that user; wsson judges its cookies.
    mkdir -p /srv/site && cp login.php /srv/site/index.php
    setpriv --reuid=www-data --regid=www-data --init-groups php -S 127.0.0.1:8000 -t /srv/site > php.log 2>&1 &
    local php=$!
    eventually 10 bash -c ': > /dev/tcp/127.0.0.1/8000' || say_wrong "php does not serve: $(cat php.log)"
    local head cookies
    head=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -q 5 127.0.0.1 8000 | tr -d '\r')
    cookies=$(sed -n 's/^Set-Cookie: \([^;]*\);.*/\1/p' <<< "$head" | paste -sd ';' | sed 's/;/; /g')
    exits 0 wsson cookie --verify "$cookies"
    kill $php && wait $php
}

a_group_that_cannot_be_set() {
    sed -i 's/^\[sockets\]/&\ngroup = "www-data"/' $CONFIG
    local before
    before=$(pid)
    exits 1 wsson check
    has check 'adduser www-data wsson' "$said"
    exits 1 wsson restart
    has restart 'adduser www-data wsson' "$said"
    is 'the server' "$before" "$(pid)"
    exits 1 systemctl restart wsson
    has 'the journal' 'adduser www-data wsson' "$(journalctl -u wsson -n 20 --no-pager)"
    eventually 10 serving || say_wrong 'the service is down'
}

reload_good_and_bad() {
    local before
    before=$(pid)
    set_key 'on_message = "log"'
    exits 0 systemctl reload wsson
    has 'the journal' 'reloaded applied=on_message restart=none' "$(journalctl -u wsson -n 20 --no-pager)"
    set_key 'reuseport = true'
    exits 0 systemctl reload wsson
    has 'systemctl status' 'Serving 0 clients; needs a restart: reuseport' "$(prop StatusText)"
    has 'the journal' 'warn reloaded applied=none restart=reuseport' "$(journalctl -u wsson -n 20 --no-pager -o cat)"
    exits 0 wsson status
    has 'wsson status' 'needs a restart: reuseport' "$said"
    set_key 'colour = 1'
    exits 1 systemctl reload wsson
    has 'the journal' colour "$(journalctl -u wsson -n 20 --no-pager)"
    exits 6 wsson reload
    # What only the server can find out.
    unset_key colour
    set_key 'log = "/nowhere/wsson.log"'
    exits 1 systemctl reload wsson
    has 'systemctl status' 'the last reload failed: cannot open the log' "$(prop StatusText)"
    exits 0 wsson status
    has 'wsson status' 'failed, and changed nothing: cannot open the log' "$said"
    is 'the server' "$before" "$(pid)"
    cp good.toml $CONFIG
    exits 0 systemctl reload wsson
    is 'systemctl status' 'Serving 0 clients' "$(prop StatusText)"
    exits 0 wsson reload
    is 'the server' "$before" "$(pid)"
}

commands_by_hand() {
    local before
    before=$(pid)
    set_key 'colour = 1'
    exits 6 wsson restart
    is 'the server' "$before" "$(pid)"
    cp good.toml $CONFIG
    exits 0 wsson restart
    has 'what it says' 'wsson.service runs this server: systemctl restart wsson' "$said"
    [[ $(pid) != "$before" ]] || say_wrong 'not restarted'
    in_its_unit
    before=$(pid)
    exits 0 wsson start
    is 'the server' "$before" "$(pid)"
    exits 0 wsson stop
    is 'the unit' inactive "$(systemctl is-active wsson.service)"
    exits 0 wsson start
    in_its_unit
    exits 4 runuser -u nobody -- wsson restart
    has 'what others are told' 'systemctl restart wsson, as root' "$said"
    # A file that is no TOML at all does not keep the administrator from stopping the server.
    echo 'what = [' >> $CONFIG
    exits 0 wsson stop
    is 'the unit' inactive "$(systemctl is-active wsson.service)"
    cp good.toml $CONFIG
    exits 0 systemctl restart wsson
    # A mistake in the file does not hide what runs.
    set_key 'colour = 1'
    exits 0 wsson status
    cp good.toml $CONFIG
    exits 0 /etc/init.d/wsson reload
    exits 0 /etc/init.d/wsson restart
    in_its_unit
}

a_bad_file_at_restart() {
    local begin bad
    for bad in 'colour = 1' 'servers = "tcp://192.0.2.1:80"'; do
        set_key "$bad"
        begin=$(now_ms)
        exits 1 systemctl restart wsson
        eventually 10 serving || say_wrong 'the service is down'
        figure="away for $(($(now_ms) - begin)) ms, RestartSec=1"
        in_its_unit
        has 'systemctl status' 'the configuration that served before still does' "$(prop StatusText)"
        exits 0 wsson status
        has 'wsson status' 'failed, and changed nothing' "$said"
        # Again, and it fails again.
        exits 1 systemctl restart wsson
        eventually 10 serving || say_wrong 'the service is down'
        cp good.toml $CONFIG
        exits 0 systemctl reload wsson
        is 'systemctl status' 'Serving 0 clients' "$(prop StatusText)"
        systemctl reset-failed wsson.service
    done
    # Where nothing is kept, it is not tried again and again.
    exits 0 systemctl stop wsson
    rm -f /var/lib/wsson/*
    set_key 'colour = 1'
    exits 1 systemctl start wsson
    sleep 2
    is 'the unit' failed "$(systemctl is-active wsson.service)"
    is 'restarts of its own' 0 "$(prop NRestarts)"
    has 'the journal' 'unknown key' "$(journalctl -u wsson -n 20 --no-pager)"
}

credentials() {
    (umask 077 && head -c 32 /dev/urandom | base64 > cred)
    unset_key secret_file
    drop_in 'LoadCredential=wsson-secret:/root/cred'
    exits 0 systemctl restart wsson
    exits 0 wsson check
    has check 'its server is given one by its environment' "$said"
    set_key 'on_message = "log"'
    exits 0 systemctl reload wsson
    has 'the journal' 'reloaded applied=on_message' "$(journalctl -u wsson -n 20 --no-pager)"
    unset_key on_message
    exits 0 wsson reload
    has reload 'applied: on_message' "$said"
    exits 0 wsson restart
    in_its_unit
    exits 0 systemctl stop wsson
    exits 0 wsson check
    exits 0 wsson start
    # Without the credential the file is incomplete, and everything says so.
    drop_in 'TimeoutStopSec=20'
    exits 6 wsson restart
    has restart 'no secret is given' "$said"
}

secret_of_the_environment() {
    install -o root -g wsson -m 0640 /etc/wsson/secret /etc/wsson/another
    unset_key secret_file
    drop_in 'Environment=WSSON_SECRET_FILE=/etc/wsson/another'
    exits 0 wsson restart
    exits 0 wsson check
    exits 0 wsson reload
    exits 0 systemctl reload wsson
    rm -rf $DROP && cp good.toml $CONFIG
    exits 0 wsson restart
    rm /etc/wsson/another
}

killed() {
    local before begin
    before=$(pid)
    begin=$(now_ms)
    kill -9 "$before"
    eventually 20 bash -c "[[ \$(systemctl show --value -p MainPID wsson) != @(0|$before) ]] && wsson send --all x" ||
        say_wrong 'it does not come back'
    figure="back after $(($(now_ms) - begin)) ms, RestartSec=1"
    in_its_unit
}

watchdog() {
    drop_in 'WatchdogSec=2'
    exits 0 systemctl restart wsson
    local before begin
    before=$(pid)
    sleep 5
    is 'a server that lives' "$before" "$(pid)"
    begin=$(now_ms)
    kill -STOP "$before"
    eventually 30 bash -c "[[ \$(systemctl show --value -p MainPID wsson) != @(0|$before) ]] && wsson send --all x" ||
        say_wrong 'one that hangs is not replaced'
    figure="one that hangs is replaced after $(($(now_ms) - begin)) ms, WatchdogSec=2"
    has 'the journal' -watchdog "$(journalctl -u wsson -n 30 --no-pager | tr A-Z a-z | sed 's/watchdog/-watchdog/')"
}

by_hand() { # starts a server outside the unit, as people do who know no better
    (systemd-run --quiet --scope --unit=by-hand setsid wsson run < /dev/null > by-hand.log 2>&1 &)
    eventually 10 serving || say_wrong "no server by hand: $(cat by-hand.log)"
}

beside_the_unit() {
    exits 0 systemctl stop wsson
    by_hand
    exits 1 systemctl start wsson
    has 'the journal' 'a server runs already, with PID' "$(journalctl -u wsson -n 20 --no-pager)"
    systemctl reset-failed wsson
    # restart puts it back into the unit.
    exits 0 wsson restart
    in_its_unit
    # The file that root's server leaves when it is killed is in no other server's way.
    exits 0 systemctl stop wsson
    by_hand
    kill -9 "$(head -n 1 /run/wsson/wsson.pid)"
    sleep 0.3
    [[ -e /run/wsson/wsson.pid ]] || say_wrong 'nothing is left to test with'
    chown root:root /run/wsson/wsson.pid # as older versions left it
    exits 0 systemctl start wsson
    in_its_unit
    exits 0 systemctl stop wsson
    by_hand
    exits 0 wsson stop
    is 'the unit' inactive "$(systemctl is-active wsson.service)"
    serving && say_wrong 'it still runs'
}

swept_away() {
    local before
    before=$(pid)
    rm /run/wsson/control.sock
    exits 4 wsson status
    has status 'wsson reload, which makes it anew' "$said"
    exits 0 wsson reload
    is 'the control socket' 'wsson wsson 660' "$(stat -c '%U %G %a' /run/wsson/control.sock)"
    is 'the server' "$before" "$(pid)"
    serving || say_wrong 'not reached'
    rm /run/wsson/control.sock
    exits 0 systemctl reload wsson
    serving || say_wrong 'not reached after systemctl reload'
    # A power loss.
    systemctl stop wsson
    head -c 5 /dev/zero > /run/wsson/wsson.pid
    exits 0 systemctl start wsson
}

socket_activation() {
    local line
    line=$(sed -n 's/^# Enable with: //p' /lib/systemd/system/wsson.socket)
    exits 0 bash -c "$line"
    is 'the socket unit' active "$(systemctl is-active wsson.socket)"
    in_its_unit
    serving || say_wrong 'not reached'
    # Connections wait while the server restarts: none is refused.
    (for _ in {1..400}; do
        : 2> /dev/null > /dev/tcp/127.0.0.1/8099 || echo refused
        sleep 0.005
    done > refused.log) 2> /dev/null &
    local knocking=$!
    exits 0 wsson restart
    exits 0 systemctl restart wsson
    wait $knocking
    figure="$(grep -c refused refused.log) of 400 connections refused during two restarts"
    is 'connections refused' 0 "$(grep -c refused refused.log)"
    in_its_unit
    exits 0 systemctl reload wsson
    # A connection brings it up.
    systemctl stop wsson 2> /dev/null
    : > /dev/tcp/127.0.0.1/8099
    eventually 10 systemctl is-active -q wsson.service || say_wrong 'not woken by a connection'
    exits 0 systemctl disable --now wsson.socket
    exits 0 systemctl restart wsson
}

upgrade() {
    local before begin
    before=$(pid)
    dpkg -i new.deb > dpkg.log 2>&1 &
    local dpkg=$!
    local down=0 last=0
    while kill -0 $dpkg 2> /dev/null; do
        begin=$(now_ms)
        if ! serving; then
            ((last == 0)) || ((down += begin - last))
            last=$begin
        else
            last=0
        fi
        sleep 0.01
    done
    wait $dpkg || say_wrong "dpkg: $(cat dpkg.log)"
    figure="away for about $down ms"
    [[ $(pid) != "$before" ]] || say_wrong 'not restarted'
    in_its_unit
}

upgrade_with_a_bad_file() {
    local before
    before=$(pid)
    set_key 'colour = 1'
    exits 0 dpkg -i old.deb
    has dpkg 'the old one goes on serving' "$said"
    has dpkg 'unknown key' "$said"
    is 'the server' "$before" "$(pid)"
    serving || say_wrong 'the old server does not serve'
    cp good.toml $CONFIG
    exits 0 systemctl restart wsson
    in_its_unit
}

upgrade_of_a_stopped_server() {
    exits 0 systemctl stop wsson
    exits 0 dpkg -i new.deb
    is 'the unit' inactive "$(systemctl is-active wsson.service)"
}

remove_and_install_again() {
    exits 0 dpkg --remove wsson
    is 'the unit' masked "$(systemctl is-enabled wsson.service 2>&1)"
    exits 0 dpkg -i old.deb
    is 'the unit' active "$(systemctl is-active wsson.service)"
    is 'the unit at boot' enabled "$(systemctl is-enabled wsson.service)"
    in_its_unit
    # A mask of the administrator's own stays.
    exits 0 systemctl mask --now wsson.service
    exits 0 dpkg -i new.deb
    has 'the unit' masked "$(systemctl is-enabled wsson.service 2>&1)"
    exits 0 systemctl unmask wsson.service
    exits 0 systemctl start wsson.service
}

purge() {
    exits 0 dpkg --purge wsson
    local left
    left=$(ls -d /etc/wsson /var/log/wsson /var/lib/wsson /etc/init.d/wsson /etc/systemd/system/*wsson* \
        /etc/systemd/system/*.wants/wsson* /run/wsson 2> /dev/null)
    is 'what is left' '' "$left"
    rm -f good.toml
    exits 0 dpkg -i new.deb
    is 'the unit' active "$(systemctl is-active wsson.service)"
    cp $CONFIG good.toml
}

logs() {
    set_key 'log = "/var/log/wsson/wsson.log"'
    exits 0 wsson restart
    exits 0 logrotate --force /etc/logrotate.d/wsson
    eventually 10 grep -q log_reopened /var/log/wsson/wsson.log || say_wrong "not reopened: $(ls -l /var/log/wsson)"
    is 'the folder of logs' 'wsson wsson 750' "$(stat -c '%U %G %a' /var/log/wsson)"
}

after_a_boot() {
    eventually 30 systemctl is-active -q wsson.service || say_wrong 'not started at boot'
    in_its_unit
    serving || say_wrong 'not reached'
}

if [[ -e reboot ]]; then
    rm reboot
    run_step 'a boot starts it' after_a_boot
    echo 'end of the lab'
    exit
fi
echo "Debian $(cat /etc/debian_version), $(systemctl --version | head -n 1)"
run_step 'installation' install_it
run_step "the site's user: socket, secret, README's login" the_sites_user
run_step 'a group that cannot be set' a_group_that_cannot_be_set
run_step 'reload, good and bad' reload_good_and_bad
run_step 'start, stop, restart by hand' commands_by_hand
run_step 'a bad file at systemctl restart' a_bad_file_at_restart
run_step 'a credential' credentials
run_step 'WSSON_SECRET_FILE in a drop-in' secret_of_the_environment
run_step 'kill -9' killed
run_step 'the watchdog' watchdog
run_step 'a server by hand beside the unit' beside_the_unit
run_step 'sockets and PID file swept away' swept_away
run_step 'socket activation' socket_activation
run_step 'a log file, rotated' logs
run_step 'upgrade' upgrade
run_step 'upgrade with a bad file' upgrade_with_a_bad_file
run_step 'upgrade of a stopped server' upgrade_of_a_stopped_server
run_step 'remove, install again' remove_and_install_again
run_step 'purge, install again' purge
touch reboot
