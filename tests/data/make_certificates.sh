#!/bin/sh
# Makes the certificates of the TLS tests again: an authority, and two servers' certificates that it signed, one with
# an elliptic curve's key and one with RSA. Nobody trusts this authority, so the keys are no secrets.
set -eu
cd "$(dirname "$0")"
DAYS=36500

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $DAYS \
    -subj "/CN=wsson test authority" -keyout ca.key -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"

issue() {
    name=$1
    shift
    openssl req -newkey "$@" -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' |
        openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -days $DAYS -extfile /dev/stdin -out "$name.pem"
    rm "$name.csr"
}

issue curve ec -pkeyopt ec_paramgen_curve:P-256
issue rsa rsa:2048
rm -f ca.key ca.srl
