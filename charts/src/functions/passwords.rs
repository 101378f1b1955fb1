//! Passwords: hashed with bcrypt, and derived from a master password (version 3 of that algorithm).

use ring::hmac;

use super::{
    arguments::{costly, lossy, text},
    fixed, random,
};
use crate::{
    Environment, Failure, Function,
    Param::{Named, String as Text},
    Value,
};

/// What bcrypt's rounds are the power of two of, as Go's default.
const COST: u32 = 10;
/// Longer passwords are refused, not cut.
const BCRYPT_BYTES: usize = 72;

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("bcrypt", &[Text], |environment, args| {
        costly("bcrypt", 1_000_000)?;
        Ok(Value::string(bcrypt(environment, text(args, 0))))
    }),
    fixed("htpasswd", &[Text, Text], |environment, args| {
        costly("htpasswd", 1_000_000)?;
        let user = lossy(args, 0);
        if user.contains(':') {
            return Ok(Value::string(format!("invalid username: {user}")));
        }
        Ok(Value::string(format!(
            "{user}:{}",
            bcrypt(environment, text(args, 1))
        )))
    }),
    fixed(
        "derivePassword",
        &[Named("uint32"), Text, Text, Text, Text],
        derive,
    ),
];

fn bcrypt(environment: &Environment, password: &[u8]) -> String {
    if password.len() > BCRYPT_BYTES {
        return format!(
            "failed to encrypt string with bcrypt: bcrypt: password length exceeds {BCRYPT_BYTES} bytes"
        );
    }
    let mut salt = [0; 16];
    salt.copy_from_slice(&random::bytes(environment, 16));
    match bcrypt::hash_with_salt(password, COST, salt) {
        Ok(hash) => hash.format_for_version(bcrypt::Version::TwoA),
        Err(error) => format!("failed to encrypt string with bcrypt: {error}"),
    }
}

const SEED: &[u8] = b"com.lyndir.masterpassword";

/// Kinds of passwords, each with its patterns of [`characters`].
const KINDS: [(&str, &[&str]); 6] = [
    ("maximum", &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"]),
    (
        "long",
        &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
    ),
    ("medium", &["CvcnoCvc", "CvcCvcno"]),
    ("short", &["Cvcn"]),
    ("basic", &["aaanaaan", "aannaaan", "aaannaaa"]),
    ("pin", &["nnnn"]),
];

/// The characters that a pattern's letter stands for.
fn characters(letter: u8) -> &'static [u8] {
    match letter {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

fn derive(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let kind = lossy(args, 1);
    let Some((_, patterns)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        return Ok(Value::string(format!(
            "cannot find password template {kind}"
        )));
    };
    costly("derivePassword", 2_000_000)?;
    let counter = match args[0] {
        Value::Uint(number, _) => number as u32,
        _ => 0,
    };
    let (password, user, site) = (text(args, 2), text(args, 3), text(args, 4));
    let sized = |name: &[u8]| [SEED, &(name.len() as u32).to_be_bytes(), name].concat();
    let params = scrypt::Params::new(15, 8, 2, 64)
        .map_err(|error| Failure::new(format!("failed to derive password: {error}")))?;
    let mut key = [0; 64];
    scrypt::scrypt(password, &sized(user), &params, &mut key)
        .map_err(|error| Failure::new(format!("failed to derive password: {error}")))?;
    let message = [sized(site), counter.to_be_bytes().to_vec()].concat();
    let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
    let seed = seed.as_ref();
    let pattern = patterns[usize::from(seed[0]) % patterns.len()];
    let letters = pattern.bytes().zip(&seed[1..]).map(|(letter, number)| {
        let characters = characters(letter);
        characters[usize::from(*number) % characters.len()]
    });
    Ok(Value::string(letters.collect::<Vec<u8>>()))
}
