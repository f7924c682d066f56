//! PEM files as they occur in the world: made from the tests' own, as authorities, other servers, editors and haste make
//! them. Each is read, or refused for its fault, in the line where that is.

use super::load;
use std::fs;
use std::path::Path;

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    fs::read_to_string(path).expect("the tests' data")
}

/// The outcome of a certificate and a key: `fine`, or the sentence.
fn outcome(certificate: &[u8], key: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("c.pem"), certificate).expect("writable");
    fs::write(path("k.pem"), key).expect("writable");
    let loaded = load(&path("c.pem"), &path("k.pem"));
    let shown = format!("{}/", folder.path().display());
    loaded.map_or_else(|why| why.replace(&shown, ""), |_| "fine".into())
}

#[track_caller]
fn check(what: &str, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>, expected: &str) {
    let outcome = outcome(certificate.as_ref(), key.as_ref());
    let is_so = if expected == "fine" { outcome == "fine" } else { outcome.contains(expected) };
    assert!(is_so, "{what}: {outcome:?} instead of {expected:?}");
    assert!(!outcome.contains("InvalidCert") && !outcome.contains("os error"), "{what}: {outcome}");
}

/// A block under another name, or around other bytes.
fn block(label: &str, inside: &str) -> String {
    format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n")
}

/// The lines between BEGIN and END.
fn inside(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>().join("\n")
}

fn in_utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

fn in_der(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(inside(pem).replace('\n', "")).expect("base64")
}

#[test]
fn chains_as_they_occur_are_read() {
    let (own, ca, key) = (data("curve.pem"), data("ca.pem"), data("curve.key"));
    let chain = format!("{own}{ca}");
    check("the server's own alone", &own, &key, "fine");
    check("with its authority", &chain, &key, "fine");
    check("lines of Windows", chain.replace('\n', "\r\n"), &key, "fine");
    check("lines of an old Macintosh", chain.replace('\n', "\r"), &key, "fine");
    check("with the mark of an editor", format!("\u{feff}{chain}"), &key, "fine");
    check("without a newline at the end", chain.trim_end(), &key, "fine");
    check("blanks at the ends of lines", chain.replace('\n', " \t\n"), &key, "fine");
    check("indented, as out of YAML", chain.replace('\n', "\n    "), &key, "fine");
    check("empty lines between", format!("\n\n{own}\n\n\n{ca}\n\n"), &key, "fine");
    check(
        "explained, as openssl s_client does",
        format!("subject=CN = curve\nissuer=CN = x\n{chain}"),
        &key,
        "fine",
    );
    check(
        "explained with hyphens",
        format!("--- my certificate ---\n{chain}# - end of it -\n"),
        &key,
        "fine",
    );
    let bag = "Bag Attributes\n    friendlyName: M\u{fc}ller\n    localKeyID: 01 00 00 00\nKey Attributes: <No Attributes>\n";
    check("out of PKCS #12", format!("{bag}{chain}"), &key, "fine");
    let latin = [b"friendlyName: M\xfcller\n", chain.as_bytes()].concat();
    check("explained in Latin-1", latin, &key, "fine");
    check("the old name of a certificate", own.replace("CERTIFICATE", "X509 CERTIFICATE"), &key, "fine");
    check("all in one line of base64", block("CERTIFICATE", &inside(&own).replace('\n', "")), &key, "fine");
    check("key and certificate in one file", format!("{key}{chain}"), format!("{key}{chain}"), "fine");
    check("the authority twice", format!("{chain}{ca}"), &key, "fine");
    check("of the first version", data("version1.pem"), &key, "c.pem, line 1: it is of X.509 version 1");
    check("RSA", data("rsa.pem"), data("rsa.key"), "fine");
}

#[test]
fn chains_that_cannot_be_meant_are_told_by_their_line() {
    let (own, ca, key) = (data("curve.pem"), data("ca.pem"), data("curve.key"));
    let chain = format!("{own}{ca}");
    let lines = own.lines().count();
    let behind = format!("c.pem, line {}: ", lines + 1);
    let check = |what: &str, certificate: &str, expected: &str| check(what, certificate, &key, expected);
    let turned = format!("{ca}{own}");
    let place = format!("c.pem, line {}: the server's own certificate", ca.lines().count() + 1);
    check("the authority first", &turned, &place);
    check("of another key", &data("rsa.pem"), "k.pem does not belong to the certificate c.pem");
    check("empty", "", "c.pem: it holds no certificate in PEM form");
    check("explanations only", "here the certificate comes\n", "it holds no certificate in PEM form");
    check("the key in its place", &key, "it holds no certificate in PEM form");
    let run_into = chain.replace("-----\n-----", "----------");
    check(
        "two files without a newline between",
        &run_into,
        &format!("c.pem, line {lines}: two lines run into one"),
    );
    check(
        "four hyphens",
        &own.replacen("-----BEGIN", "----BEGIN", 1),
        "c.pem, line 1: \"----BEGIN CERTIFICATE-----\" is nearly",
    );
    check("four at the end", &own.replacen("CERTIFICATE-----\n", "CERTIFICATE----\n", 1), "c.pem, line 1: ");
    check("a blank too many", &own.replacen("-----BEGIN", "----- BEGIN", 1), "c.pem, line 1: ");
    check("in small letters", &own.to_lowercase(), "c.pem, line 1: ");
    check("dashes of a text processor", &own.replace("-----", "\u{2014}\u{2014}"), "is nearly a boundary");
    check("newlines written out", &own.replace('\n', "\\n"), "c.pem, line 1: its lines are joined by \\n");
    let no_end = format!("{}{ca}", own.replace("-----END CERTIFICATE-----\n", ""));
    check(
        "the first has no end",
        &no_end,
        "c.pem, line 1: the block CERTIFICATE that begins there has no END line",
    );
    check(
        "cut off",
        &chain[..chain.len() - 40],
        &format!("{behind}the block CERTIFICATE that begins there has no END"),
    );
    check(
        "no beginning",
        &own.replacen("-----BEGIN CERTIFICATE-----\n", "", 1),
        "c.pem, line 1: what looks like",
    );
    check(
        "an end alone",
        "text\n-----END CERTIFICATE-----\n",
        "c.pem, line 2: END CERTIFICATE without a BEGIN",
    );
    let other_end = own.replace("END CERTIFICATE", "END X509 CERTIFICATE");
    check(
        "another end",
        &other_end,
        &format!("line {lines}: END X509 CERTIFICATE ends a block that begins with"),
    );
    check("a letter that is none", &own.replacen("MIIB", "MI*B", 1), "c.pem, line 2: '*' does not belong");
    check("a quoted mail", &own.replace('\n', "\n> "), "c.pem, line 2: '>' does not belong");
    check("a line is missing", &own.replacen(own.lines().nth(2).unwrap_or(""), "", 1), "c.pem, line 1: ");
    check("a letter is missing", &own.replacen("MIIB", "MII", 1), "are not whole");
    let early_end = own.replacen("MIIB", "MII=\nMIIB", 1);
    check("something behind the end", &early_end, "c.pem, line 3: something stands behind the end");
    check(
        "nothing in it",
        &block("CERTIFICATE", ""),
        "c.pem, line 1: the block CERTIFICATE that begins there is empty",
    );
    check(
        "no certificate in it",
        &format!("{own}{}", block("CERTIFICATE", "MIIB")),
        &format!("{behind}what the block holds"),
    );
    let request = block("CERTIFICATE REQUEST", &inside(&own));
    check("a request", &request, "c.pem, line 1: it is a request for a certificate");
    let trusted = own.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    check("OpenSSL's own form", &trusted, "c.pem, line 1: a TRUSTED CERTIFICATE is OpenSSL's own form");
    check("PKCS #7", &block("PKCS7", &inside(&own)), "openssl pkcs7 -print_certs");
    check(
        "a revocation list behind it",
        &format!("{own}{}", block("X509 CRL", "MIIB")),
        &format!("{behind}a block X509 CRL"),
    );
}

#[test]
fn other_forms_are_told_by_their_name() {
    let (own, key) = (data("curve.pem"), data("curve.key"));
    check("UTF-16", in_utf16(&own), &key, "c.pem: it is written in UTF-16");
    check("UTF-16 without its mark", &in_utf16(&own)[2..], &key, "c.pem: it is written in UTF-16");
    check("DER", in_der(&own), &key, "c.pem: it is in DER form");
    check("a key in DER", &own, in_der(&key), "k.pem: it is in DER form");
}

#[test]
fn keys_as_they_occur_are_read_or_told() {
    let (own, key) = (data("curve.pem"), data("curve.key"));
    let check = |what: &str, key: &str, expected: &str| check(what, &own, key, expected);
    check("lines of Windows", &key.replace('\n', "\r\n"), "fine");
    let parameters = block("EC PARAMETERS", "BggqhkjOPQMBBw==");
    check("with the parameters of its curve", &format!("{parameters}{key}"), "fine");
    check("empty", "", "k.pem: it holds no private key in PEM form");
    check("the certificate in its place", &own, "k.pem: it holds no private key in PEM form");
    let encrypted = block("ENCRYPTED PRIVATE KEY", "MIIB");
    check("with a passphrase", &encrypted, "k.pem, line 1: it is protected by a passphrase");
    let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\nAAAA";
    check(
        "with a passphrase, in the old form",
        &block("EC PRIVATE KEY", old),
        "it is protected by a passphrase",
    );
    check("of OpenSSH", &block("OPENSSH PRIVATE KEY", "b3Blbn"), "k.pem, line 1: ");
    check("of OpenSSH, whole", &block("OPENSSH PRIVATE KEY", "b3BlbnNz"), "it is a key of OpenSSH");
    check("the public one", &block("PUBLIC KEY", "MIIB"), "k.pem, line 1: it is the public key");
    check("DSA", &block("DSA PRIVATE KEY", "MIIB"), "DSA is not used by TLS any more");
    let two = format!("{}{key}", data("rsa.key"));
    let second = data("rsa.key").lines().count() + 1;
    check(
        "two of them",
        &two,
        &format!("k.pem, line {second}: it holds a second private key, after that of line 1"),
    );
    check("of another certificate", &data("rsa.key"), "k.pem does not belong to the certificate c.pem");
    check("no key in it", &block("PRIVATE KEY", "MIIB"), "cannot use the key k.pem: ");
    check(
        "cut off",
        &key[..key.len() - 30],
        "k.pem, line 1: the block PRIVATE KEY that begins there has no END line",
    );
}

#[test]
fn what_browsers_will_refuse_is_told() {
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/curve.key");
    for (name, told) in [
        ("expired", "has expired on 2021-01-01: browsers refuse it"),
        ("early", "is not valid before 2100-01-01: browsers refuse it until then"),
        ("curve", "is alone in its file, without that of its authority"),
    ] {
        let config = load(&key.with_file_name(format!("{name}.pem")), &key).expect("it can be served");
        let warnings = config.warnings(1_795_564_800);
        assert!(warnings.len() == 1 && warnings[0].contains(told), "{warnings:?}");
    }
}

proptest::proptest! {
    /// Reading ends for any file of an administrator, with blocks or with a line that is there.
    #[test]
    fn no_text_makes_it_panic(text in "(-----BEGIN (CERTIFICATE|KEY)-----|-----END CERTIFICATE-----|[A-Za-z0-9+/=\\-\u{2014} ]{0,20}|\r|\n){0,12}") {
        match super::pem::blocks(text.as_bytes()) {
            Ok(blocks) => proptest::prop_assert!(blocks.len() <= text.matches("BEGIN").count()),
            Err(wrong) => proptest::prop_assert!(wrong.line <= text.len() + 1 && !wrong.why.is_empty()),
        }
    }
}
