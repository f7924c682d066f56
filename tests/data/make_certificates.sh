#!/bin/sh
# Makes the certificates of the TLS tests again: an authority, and two servers' certificates that it signed, one with
# an elliptic curve's key and one with RSA. No system trusts this authority, so the keys are no secrets.
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

# Those that sign themselves with the curve's key: one is over, one has not begun, one is of the first version of X.509.
dated() {
    name=$1
    : >index
    printf '[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\npolicy=any\ndefault_md=sha256\n%b[any]\ncommonName=supplied\n[ext]\nbasicConstraints=CA:FALSE\n' "$4" >ca.cnf
    openssl req -new -key curve.key -subj "/CN=$name" -out "$name.csr"
    openssl ca -batch -notext -config ca.cnf -selfsign -keyfile curve.key -in "$name.csr" \
        -startdate "$2" -enddate "$3" -out "$name.pem"
    rm -f "$name.csr" index* ca.cnf ./[0-9A-F]*.pem
}

dated expired 20200101000000Z 20210101000000Z 'x509_extensions=ext\n'
dated early 21000101000000Z 21010101000000Z 'x509_extensions=ext\n'
dated version1 20200101000000Z 20210101000000Z ''
