#!/bin/bash
# A backend in shell: nc for Unix sockets, /dev/tcp for TCP ones. Lengths are bytes, hence the C locale.
export LC_ALL=C
failed=0

check() { # NAME FOUND EXPECTED
    if [[ $2 == "$3" ]]; then
        echo "ok $NAME $1"
    else
        echo "not ok $NAME $1: found '$2', expected '$3'"
        failed=1
    fi
}

if [[ $CONTROL == unix:* ]]; then
    coproc BACKEND { exec nc -N -U "${CONTROL#unix:}"; }
    in=${BACKEND[0]} out=${BACKEND[1]}
else
    IFS=: read -r _ host port <<<"$CONTROL"
    exec 3<>"/dev/tcp/$host/$port"
    in=3 out=3
fi

command() { # LETTER TEXT
    printf '%d%s%s' "${#2}" "$1" "$2" >&"$out"
}

reply() { # the next reply as one word, in $answer; empty at the end
    local length='' sign payload=''
    while read -r -t 10 -N 1 -u "$in" sign && [[ $sign == [0-9] ]]; do length+=$sign; done
    ((length > 0)) && read -r -t 10 -N "$((10#$length))" -u "$in" payload
    answer=$sign$payload
}

answers() { # NAME EXPECTED LETTER TEXT
    command "$3" "$4"
    reply
    check "$1" "$answer" "$2"
}

command b 'hällo to all'
printf '2B\0\xff' >&"$out"
command d "${TOKEN}direct €"
printf '34D%s\xff\0' "$TOKEN" >&"$out"
answers 'confirmed' "A$TOKEN" c "${TOKEN}confirmed"
answers 'nobody there' "N$STRANGER" c "${STRANGER}x"
answers 'is it there' "A$TOKEN" c "$TOKEN"
answers 'lock' "A$TOKEN" l "$TOKEN"
answers 'fragment f' a f 'one '
answers 'fragment i' a i 'two '
answers 'fragment s' a s 'three'
answers 'lock' "A$TOKEN" l "$TOKEN"
for part in F'\0' I'\1' S'\2'; do
    printf "1${part}" >&"$out"
    reply
    check "fragment ${part:0:1}" "$answer" a
done
answers 'no lock left' n s x
answers 'ping' P p ''
command t ''
reply
check 'status' "$(sed -n 's/^T{.*,"clients":\([0-9]*\),"clients_peak".*}$/\1/p' <<<"$answer")" 1
command m ''
reply
check 'freest listener' "${answer:0:1}" M
command q ''
reply
check 'quit' "$answer" ''

# The promises of the manual, each in one line.
if [[ $CONTROL == unix:* ]]; then
    echo '8bone shot' | timeout 10 nc -N -U "${CONTROL#unix:}"
else
    echo '8bone shot' >"/dev/tcp/$host/$port"
fi
exit $failed
