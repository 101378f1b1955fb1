//! JSON Web Tokens, signed with ECDSA on P-256 (ES256, RFC 7515 and 7518). Pure but for the randomness of
//! a signature.
//!
//! Only what this cluster signs is read: one algorithm, one key. A token that names another algorithm
//! (`none` above all) or another key is refused before its signature is looked at.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
        UnparsedPublicKey,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "ES256";
/// Longer than any token that this cluster signs.
const LONGEST: usize = 16 * 1024;
/// What stands before the point in a P-256 public key's DER form.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The key that signs the tokens of a cluster; several apiservers share it. Cheap to clone.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    pair: EcdsaKeyPair,
    /// `kid`: the digest of the public key.
    id: String,
    random: SystemRandom,
}

/// The key cannot be made or read.
#[derive(thiserror::Error, Debug)]
#[error("the signing key cannot be used: {0}")]
pub struct KeyError(String);

/// Why a token is refused before anybody asks what it says.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum JwtError {
    /// Not three parts of base64 with JSON in them.
    #[error("the token is malformed")]
    Malformed,
    #[error("the token is signed with another algorithm")]
    Algorithm,
    #[error("the token is signed with another key")]
    Key,
    #[error("the token's signature is wrong")]
    Signature,
}

impl SigningKey {
    /// Makes a new key, as PKCS#8 in DER: what [`Self::read`] reads.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|error| KeyError(error.to_string()))
    }

    /// Reads a key.
    pub fn read(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|error| KeyError(error.to_string()))?;
        let public = [&SPKI_PREFIX, pair.public_key().as_ref()].concat();
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(public));
        Ok(Self(Arc::new(Inner { pair, id, random })))
    }

    /// The public key as a JSON Web Key (RFC 7517).
    pub fn jwk(&self) -> Value {
        // An uncompressed point: 4, then x and y.
        let (x, y) = self.0.pair.public_key().as_ref()[1..].split_at(32);
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.0.id,
            "crv": "P-256",
            "alg": ALGORITHM,
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// Signs claims.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = json!({"alg": ALGORITHM, "kid": self.0.id});
        let claims = serde_json::to_vec(claims).map_err(|error| KeyError(error.to_string()))?;
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self
            .0
            .pair
            .sign(&self.0.random, token.as_bytes())
            .map_err(|error| KeyError(error.to_string()))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token that this key signed. Says nothing of its times or its audience.
    pub fn verify<T: DeserializeOwned>(&self, token: &str) -> Result<T, JwtError> {
        if token.len() > LONGEST {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != ALGORITHM {
            return Err(JwtError::Algorithm);
        }
        if header.kid != self.0.id {
            return Err(JwtError::Key);
        }
        let signature = bytes(signature)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.0.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| JwtError::Signature)?;
        decode(claims)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.0.id).finish()
    }
}

#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// The issuer that a token names, whoever signed it; `None` if it is no token.
pub(crate) fn looks_like_one(token: &str) -> bool {
    token.len() <= LONGEST && token.split('.').count() == 3 && token.starts_with("ey")
}

fn bytes(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::Malformed)
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, JwtError> {
    serde_json::from_slice(&bytes(part)?).map_err(|_| JwtError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::read(&SigningKey::generate().expect("a key")).expect("it can be read")
    }

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    #[test]
    fn what_was_signed_is_read_back() {
        let key = key();
        let claims = json!({"sub": "jane", "exp": 7});
        let token = key.sign(&claims).expect("a token");
        assert_eq!(key.verify::<Value>(&token), Ok(claims));
    }

    #[test]
    fn another_key_or_algorithm_is_refused() {
        let (ours, theirs) = (key(), key());
        let token = theirs.sign(&json!({"sub": "eve"})).expect("a token");
        assert_eq!(ours.verify::<Value>(&token), Err(JwtError::Key));
        let claims = part(&json!({"sub": "eve"}));
        for alg in ["none", "None", "HS256", "RS256", "es256", ""] {
            let header = part(&json!({"alg": alg, "kid": ours.0.id}));
            for signature in ["", "AAAA"] {
                let token = format!("{header}.{claims}.{signature}");
                assert_eq!(
                    ours.verify::<Value>(&token),
                    Err(JwtError::Algorithm),
                    "{alg}"
                );
            }
        }
        // Signed with their key under our key's name.
        let forged = theirs.sign(&json!({"sub": "eve"})).expect("a token");
        let signature = forged.rsplit('.').next().expect("three parts");
        let header = part(&json!({"alg": "ES256", "kid": ours.0.id}));
        let token = format!("{header}.{claims}.{signature}");
        assert_eq!(ours.verify::<Value>(&token), Err(JwtError::Signature));
    }

    #[test]
    fn the_published_key_verifies() {
        let key = key();
        let jwk = key.jwk();
        let part = |name: &str| bytes(jwk[name].as_str().expect("text")).expect("base64");
        let point = [vec![4], part("x"), part("y")].concat();
        let token = key.sign(&json!({})).expect("a token");
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &bytes(signature).expect("base64"))
            .expect("it verifies");
    }

    proptest! {
        #[test]
        fn no_text_is_a_token(text in ".{0,200}") {
            prop_assert!(key().verify::<Value>(&text).is_err());
        }

        #[test]
        fn a_changed_token_is_refused(at in 0_usize..300, to in "[A-Za-z0-9._-]") {
            let key = key();
            let token = key.sign(&json!({"sub": "jane", "aud": ["a", "b"], "exp": 1_900_000_000})).expect("a token");
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != token);
            prop_assert!(key.verify::<Value>(&changed).is_err());
        }
    }
}
