#!/bin/bash
# curl knows no WebSocket here, but it shows the answer that an HTTP client gets.
failed=0
URL="http://127.0.0.1:$WS_PORT/"
UPGRADE=(-H 'Upgrade: websocket' -H 'Connection: Upgrade' -H 'Sec-WebSocket-Version: 13'
    -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')

answers() { # NAME STATUS ARGUMENTS...: the status, and a body of one line
    local name=$1 expected=$2 found
    shift 2
    found=$(curl -s --http1.1 --max-time 10 -o /tmp/curl.$$ -w '%{http_code} %{exitcode}' "$@" "$URL")
    if [[ $found == "$expected 0" && $(wc -l </tmp/curl.$$) -le 1 && -s /tmp/curl.$$ ]]; then
        echo "ok curl $name"
    else
        echo "not ok curl $name: found '$found' and $(wc -c </tmp/curl.$$) bytes, expected '$expected 0' and a line"
        failed=1
    fi
    rm -f /tmp/curl.$$
}

answers 'plain GET' 426
answers 'POST with a body' 400 -d 'body'
answers 'no cookie' 403 "${UPGRADE[@]}" -H "Origin: $ORIGIN"
answers 'wrong digest' 403 "${UPGRADE[@]}" -H "Origin: $ORIGIN" -H "Cookie: $BAD_COOKIE"
answers 'wrong origin' 403 "${UPGRADE[@]}" -H 'Origin: https://example.com.evil' -H "Cookie: $COOKIE"
answers 'old version' 426 "${UPGRADE[@]/Version: 13/Version: 8}" -H "Origin: $ORIGIN" -H "Cookie: $COOKIE"
answers 'large head' 431 -H "X: $(printf 'x%.0s' {1..9000})"

# The connection stays open after 101, so curl is stopped by its time limit, which is not a failure here.
head=$(curl -s -i -N --http1.1 --max-time 1 "${UPGRADE[@]}" -H "Origin: $ORIGIN" -H "Cookie: $COOKIE" "$URL" | head -1)
if [[ $head == 'HTTP/1.1 101'* ]]; then
    echo 'ok curl connect'
else
    echo "not ok curl connect: found '$head'"
    failed=1
fi
exit $failed
