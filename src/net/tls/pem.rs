//! Text in PEM form to its blocks, as RFC 7468 says; text that is nearly that is refused with its line.
//!
//! Files come from authorities, from other servers and out of editors. Text around blocks is explanation and passed over;
//! text that looks like a block and is none is refused: a certificate that is left out in silence is found by visitors
//! only. It never looks into a block.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    /// The label of its BEGIN line: `CERTIFICATE`.
    pub label: String,
    /// The line that it begins in, from 1.
    pub line: usize,
    /// A passphrase protects it (RFC 1421, `Proc-Type: 4,ENCRYPTED`); `bytes` are of no use then.
    pub encrypted: bool,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
}

/// The fault of a text, and its line; 0 for the whole of it.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub line: usize,
    pub why: String,
}

fn wrong<T>(line: usize, why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { line, why: why.into() })
}

/// Every block of a text, in its order.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block>, Wrong> {
    let text = as_text(text)?;
    let mut blocks = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for (line, content) in lines(&text) {
        open = match (open, boundary(line, content)?) {
            (None, Some(Boundary::Begin(label))) => Some(Open::new(label, line)),
            (None, Some(Boundary::End(label))) => {
                return wrong(line, format!("END {label} without a BEGIN line before it"));
            }
            (None, None) if is_body(content) => {
                return wrong(line, "what looks like the inside of a block has no BEGIN line before it");
            }
            (None, None) => None,
            (Some(block), Some(Boundary::End(label))) if label == block.label => {
                blocks.push(block.close()?);
                None
            }
            (Some(block), Some(Boundary::End(label))) => {
                return wrong(line, format!("END {label} ends a block that begins with {}", block.label));
            }
            (Some(block), Some(Boundary::Begin(_))) => return block.has_no_end(),
            (Some(mut block), None) => {
                block.add(line, content)?;
                Some(block)
            }
        };
    }
    match open {
        Some(block) => block.has_no_end(),
        None => Ok(blocks),
    }
}

/// The encodings that editors and other programs write instead of plain text, so that the error can name them.
fn as_text(bytes: &[u8]) -> Result<Cow<'_, str>, Wrong> {
    let der = "it is in DER form, not in PEM form: openssl x509 -inform der -in OLD -out NEW, or openssl pkey, or for \
               PKCS #12 (.p12, .pfx) openssl pkcs12 -nodes";
    match bytes {
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [b'-', 0, ..] | [0, b'-', ..] => {
            return wrong(0, "it is written in UTF-16: save it as plain text or UTF-8");
        }
        [0x30, length, ..] if *length >= 0x80 => return wrong(0, der),
        _ => {}
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Explanations may be in an old encoding; in a block its replacement character is refused as any other.
    Ok(String::from_utf8_lossy(bytes))
}

/// Lines with their numbers; they end with LF, CR LF or CR (RFC 7468 section 3).
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text);
    let mut line = 0;
    std::iter::from_fn(move || {
        let text = rest?;
        line += 1;
        let end = text.find(['\n', '\r']);
        rest = end.map(|end| text[end..].strip_prefix("\r\n").unwrap_or(&text[end + 1..]));
        Some((line, text[..end.unwrap_or(text.len())].trim()))
    })
}

enum Boundary<'t> {
    Begin(&'t str),
    End(&'t str),
}

/// The kind of a line, if it is a boundary; a line that is nearly one is an error.
fn boundary(line: usize, content: &str) -> Result<Option<Boundary<'_>>, Wrong> {
    let inner = content.strip_prefix("-----").and_then(|rest| rest.strip_suffix("-----"));
    let named = inner.and_then(|inner| match inner.split_once(' ') {
        Some(("BEGIN", label)) if is_label(label) => Some(Boundary::Begin(label)),
        Some(("END", label)) if is_label(label) => Some(Boundary::End(label)),
        _ => None,
    });
    if named.is_some() || !resembles_boundary(content) {
        return Ok(named);
    }
    let shown: String = content.chars().take(60).collect();
    if content.contains("\\n") {
        return wrong(line, "its lines are joined by \\n written out: each must be a line of its own");
    }
    if content.matches("BEGIN").count() + content.matches("END").count() > 1 {
        return wrong(line, format!("two lines run into one: {shown:?}"));
    }
    wrong(
        line,
        format!(
            "{shown:?} is nearly a boundary: it must be like -----BEGIN CERTIFICATE-----, with five hyphens"
        ),
    )
}

fn is_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
    !label.is_empty() && label.trim() == label && label.chars().all(plain)
}

/// A dash of any kind beside one of the two words.
fn resembles_boundary(content: &str) -> bool {
    let upper = content.to_ascii_uppercase();
    let dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let words = upper.contains("BEGIN") || upper.contains("END ");
    let trimmed = upper.trim_matches(|c: char| dash(c) || c.is_whitespace());
    let dressed = content.starts_with(dash) || content.ends_with(dash) || content.contains("-----");
    words
        && dressed
        && (trimmed.starts_with("BEGIN") || trimmed.starts_with("END") || content.contains("-----"))
}

/// As long as the lines of a block are, and of its letters alone.
fn is_body(content: &str) -> bool {
    content.len() >= 48 && content.bytes().all(is_base64)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

/// A block whose END line has not come.
struct Open<'t> {
    label: &'t str,
    line: usize,
    encrypted: bool,
    base64: String,
}

impl<'t> Open<'t> {
    fn new(label: &'t str, line: usize) -> Self {
        Self { label, line, encrypted: false, base64: String::new() }
    }

    fn has_no_end<T>(&self) -> Result<T, Wrong> {
        wrong(self.line, format!("the block {} that begins there has no END line", self.label))
    }

    fn add(&mut self, line: usize, content: &str) -> Result<(), Wrong> {
        // Headers of RFC 1421, which OpenSSL writes for keys with a passphrase.
        if content.starts_with("Proc-Type:") || content.starts_with("DEK-Info:") {
            self.encrypted |= content.contains("ENCRYPTED");
            return Ok(());
        }
        for character in content.chars().filter(|character| !character.is_ascii_whitespace()) {
            if !u8::try_from(character).is_ok_and(is_base64) {
                return wrong(line, format!("{character:?} does not belong into a block"));
            }
            if character != '=' && self.base64.ends_with('=') {
                return wrong(line, "something stands behind the end of the block's data");
            }
            self.base64.push(character);
        }
        Ok(())
    }

    fn close(self) -> Result<Block, Wrong> {
        let Self { label, line, encrypted, base64 } = self;
        let bytes = match (encrypted, STANDARD.decode(&base64)) {
            (true, _) => Vec::new(),
            (false, Ok(bytes)) if bytes.is_empty() => {
                return wrong(line, format!("the block {label} that begins there is empty"));
            }
            (false, Ok(bytes)) => bytes,
            (false, Err(_)) => {
                let why = format!(
                    "the block {label} that begins there is damaged: its {} letters of base64 are not whole",
                    base64.len()
                );
                return wrong(line, why);
            }
        };
        Ok(Block { label: label.to_owned(), line, encrypted, bytes })
    }
}
