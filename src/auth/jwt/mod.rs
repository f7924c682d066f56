//! JSON Web Tokens (RFC 7519) as the proof of a login, signed with HS256 (RFC 7515) and with nothing else.
//!
//! The header is judged first, and nothing is hashed unless it asks for HS256. The claims are read when the signature was
//! found right, so that a stranger reaches no more than the reader of the header. Signed claims are still judged: a
//! member that stands twice has two readings, so it has none here; a time is a whole number; nothing is nested deeper
//! than serde_json allows, which is 128.
//! design: endpoint.md "JSON Web Tokens", threats.md row 27.

use super::digest::{Raw, any_gives, hmac_sha256, to_hex};
use super::{AHEAD_S_MAX, Denied, Identity, IdentityKind, Rules, Secret};
use crate::names::{is_group, is_token, is_user};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_core::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;

/// The longest JWT: as long as a browser lets a cookie be.
pub const JWT_BYTES_MAX: usize = 4096;

/// Judges a JWT: form, header, signature, claims.
///
/// # Errors
/// The rule that it breaks.
pub fn verify_jwt(rules: &Rules, jwt: &[u8], now_unix_s: i64) -> Result<Identity<'static>, Denied> {
    let parts = Parts::split(jwt)?;
    judge_header(&object(parts.header)?)?;
    let given: Raw = decode(parts.signature)?.try_into().map_err(|_| Denied::WrongSignature)?;
    if !any_gives(&rules.secrets, &given, |secret| hmac_sha256(secret, &[parts.signed])) {
        return Err(Denied::WrongSignature);
    }
    let claims = object(parts.claims)?;
    let (issued_unix_s, expires_unix_s) = times(&claims, now_unix_s)?;
    let groups = match claims.get("groups") {
        Some(groups) => names(groups).ok_or(Denied::BadGroups)?,
        None => Vec::new(),
    };
    let identity = Identity::new(token_of(rules, &claims, jwt)?);
    Ok(Identity { user: user_of(rules, &claims)?, groups, ..identity }
        .with_times(issued_unix_s, expires_unix_s))
}

/// A JWT for this login, as a site would make it.
pub fn issue_jwt(secret: &Secret, identity: &Identity<'_>) -> String {
    let mut claims = json!({
        "jti": identity.token,
        "iat": identity.issued_unix_s,
        "exp": identity.expires_unix_s,
    });
    if let Some(user) = &identity.user {
        claims["sub"] = json!(user);
    }
    if !identity.groups.is_empty() {
        claims["groups"] = json!(identity.groups);
    }
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(&json!({ "alg": "HS256", "typ": "JWT" })), encode(&claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(secret, &[signed.as_bytes()]));
    format!("{signed}.{signature}")
}

/// The compact serialization of RFC 7515 section 7.1.
struct Parts<'j> {
    header: &'j [u8],
    claims: &'j [u8],
    signature: &'j [u8],
    /// Header and claims with the dot between them.
    signed: &'j [u8],
}

impl<'j> Parts<'j> {
    fn split(jwt: &'j [u8]) -> Result<Self, Denied> {
        let mut parts = jwt.splitn(4, |byte| *byte == b'.');
        let (header, claims, signature) = (parts.next(), parts.next(), parts.next());
        match (header, claims, signature, parts.next()) {
            (Some(header), Some(claims), Some(signature), None) if jwt.len() <= JWT_BYTES_MAX => {
                let signed = &jwt[..header.len() + 1 + claims.len()];
                Ok(Self { header, claims, signature, signed })
            }
            _ => Err(Denied::BadJwt),
        }
    }
}

/// Strict: no padding, no blanks, no stray bits, so that one JWT has one spelling.
fn decode(part: &[u8]) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::BadJwt)
}

fn object(part: &[u8]) -> Result<Map<String, Value>, Denied> {
    let Object(members) = serde_json::from_slice(&decode(part)?).map_err(|_| Denied::BadJwt)?;
    Ok(members)
}

/// An object in which no member stands twice; serde_json itself takes the last one.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(Object(object))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// HS256 and no extension that must be understood (RFC 7515 section 4.1.11). Other members say nothing that counts here;
/// keys or addresses of keys among them are never looked at.
fn judge_header(header: &Map<String, Value>) -> Result<(), Denied> {
    let is_hs256 = header.get("alg").and_then(Value::as_str) == Some("HS256");
    if is_hs256 && !header.contains_key("crit") { Ok(()) } else { Err(Denied::WrongAlgorithm) }
}

/// When the login was issued and when it ends. Without `iat` it counts as issued before everything.
fn times(claims: &Map<String, Value>, now_unix_s: i64) -> Result<(i64, i64), Denied> {
    let time = |name| match claims.get(name).map(Value::as_i64) {
        None => Ok(None),
        Some(Some(time)) if time >= 0 => Ok(Some(time)),
        Some(_) => Err(Denied::BadClaim),
    };
    let expires = time("exp")?.ok_or(Denied::BadClaim)?;
    let (issued, not_before) = (time("iat")?, time("nbf")?);
    if issued.max(not_before) > Some(now_unix_s.saturating_add(AHEAD_S_MAX)) {
        return Err(Denied::Future);
    }
    if expires <= now_unix_s {
        return Err(Denied::Expired);
    }
    Ok((issued.unwrap_or(0), expires))
}

fn user_of(rules: &Rules, claims: &Map<String, Value>) -> Result<Option<Cow<'static, str>>, Denied> {
    match claims.get("sub") {
        Some(Value::String(sub)) if is_user(sub.as_bytes()) => Ok(Some(Cow::Owned(sub.clone()))),
        Some(Value::String(_)) => Err(Denied::BadUser),
        Some(_) => Err(Denied::BadClaim),
        None if rules.identity == IdentityKind::User => Err(Denied::MissingUser),
        None => Ok(None),
    }
}

/// The `jti` if it is a token, otherwise the first digits of SHA-256 over the whole JWT.
fn token_of(rules: &Rules, claims: &Map<String, Value>, jwt: &[u8]) -> Result<String, Denied> {
    match claims.get("jti") {
        Some(Value::String(jti)) if is_token(jti.as_bytes(), rules.token_length) => Ok(jti.clone()),
        Some(Value::String(_)) | None => {
            let mut digits = to_hex(&Sha256::digest(jwt));
            // The configuration bounds the length of tokens for JWTs.
            digits.truncate(rules.token_length);
            if is_token(digits.as_bytes(), rules.token_length) { Ok(digits) } else { Err(Denied::BadToken) }
        }
        Some(_) => Err(Denied::BadClaim),
    }
}

/// The groups of a claim, if it is a list of such names.
fn names(groups: &Value) -> Option<Vec<Cow<'static, str>>> {
    let name = |name: &Value| {
        let name = name.as_str().filter(|name| is_group(name.as_bytes()))?;
        Some(Cow::Owned(name.to_owned()))
    };
    groups.as_array()?.iter().map(name).collect()
}

#[cfg(test)]
mod tests;
