#!/bin/bash
# A browser's side with nothing but bash: /dev/tcp, printf and od. A mask of four zero bytes leaves payloads readable.
export LC_ALL=C
failed=0

check() { # NAME FOUND EXPECTED
    if [[ $2 == "$3" ]]; then
        echo "ok shell $1"
    else
        echo "not ok shell $1: found '$2', expected '$3'"
        failed=1
    fi
}

request() { # COOKIE ORIGIN: leaves the connection on descriptor 3
    exec 3<>"/dev/tcp/127.0.0.1/$WS_PORT"
    printf '%s\r\n' 'GET / HTTP/1.1' 'Host: example.com' 'Upgrade: websocket' 'Connection: Upgrade' \
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' 'Sec-WebSocket-Version: 13' \
        "Origin: $2" "Cookie: $1" '' >&3
}

status() { # the status of the response, its head read to the end
    local line code
    read -r -t 10 _ code _ <&3
    while read -r -t 10 line <&3 && [[ $line != $'\r' ]]; do :; done
    echo "$code"
}

receive() { # COUNT: that many bytes in hex
    timeout 10 head -c "$1" <&3 | od -An -v -tx1 | tr -d ' \n'
}

request "$COOKIE" "$ORIGIN"
check connect "$(status)" 101
printf '\x81\x85\0\0\0\0hello' >&3
check text "$(receive 7)" 810568656c6c6f
printf '\x82\x82\0\0\0\0\0\xff' >&3
check binary "$(receive 4)" 820200ff
printf '\x01\x82\0\0\0\0he\0\x80\0\0\0\0\x80\x83\0\0\0\0llo' >&3
check 'sends fragments' "$(receive 7)" 810568656c6c6f
printf '\x89\x82\0\0\0\0hi' >&3
check ping "$(receive 4)" 8a026869

if [[ $CONTROL == unix:* ]]; then
    replies=$(printf '32l%s1fa1ib1sc' "$TOKEN" | timeout 10 nc -N -U "${CONTROL#unix:}")
else
    IFS=: read -r _ host port <<<"$CONTROL"
    replies=$(printf '32l%s1fa1ib1sc' "$TOKEN" | timeout 10 nc -N "$host" "$port")
fi
check 'backend locks' "$replies" "32A${TOKEN}0a0a0a"
check 'receives fragments' "$(receive 9)" 010161000162800163
printf '\x88\x82\0\0\0\0\x0f\xa1' >&3
check close "$(receive 4)" 88020fa1
check end "$(receive 1)" ''
exec 3>&-

request "$BAD_COOKIE" "$ORIGIN"
check 'refused: wrong digest' "$(status)" 403
request '' "$ORIGIN"
check 'refused: no cookie' "$(status)" 403
request "$COOKIE" 'https://example.com.evil'
check 'refused: wrong origin' "$(status)" 403
exit $failed
