//! Checksums, and AES-256 in CBC mode with the password for a key.

use aes::{
    Aes256, Block,
    cipher::{BlockDecrypt as _, BlockEncrypt as _, KeyInit as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::digest;

use super::{
    arguments::{bounded, text},
    encoding::decode_base64,
    fixed, random,
};
use crate::{Environment, Failure, Function, Param::String as Text, Value};

const BLOCK: usize = 16;

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("sha1sum", &[Text], |_, args| {
        Ok(hexadecimal(
            &digest::SHA1_FOR_LEGACY_USE_ONLY,
            text(args, 0),
        ))
    }),
    fixed("sha256sum", &[Text], |_, args| {
        Ok(hexadecimal(&digest::SHA256, text(args, 0)))
    }),
    fixed("sha512sum", &[Text], |_, args| {
        Ok(hexadecimal(&digest::SHA512, text(args, 0)))
    }),
    fixed("adler32sum", &[Text], |_, args| {
        Ok(Value::string(adler32(text(args, 0)).to_string()))
    }),
    fixed("encryptAES", &[Text, Text], encrypt),
    fixed("decryptAES", &[Text, Text], decrypt),
];

fn hexadecimal(algorithm: &'static digest::Algorithm, message: &[u8]) -> Value {
    let digest = digest::digest(algorithm, message);
    let digits: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Value::string(digits)
}

fn adler32(message: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (a, b) = message.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % MODULUS;
        (a, (b + a) % MODULUS)
    });
    b << 16 | a
}

/// The password's first 32 bytes, filled up with zeros.
fn cipher(password: &[u8]) -> Aes256 {
    let mut key = [0; 32];
    let used = password.len().min(key.len());
    key[..used].copy_from_slice(&password[..used]);
    Aes256::new(&key.into())
}

fn encrypt(environment: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let plain = text(args, 1);
    if plain.is_empty() {
        return Ok(Value::string(""));
    }
    bounded(environment, "encryptAES", plain.len() as u128 * 4 / 3 + 64)?;
    let cipher = cipher(text(args, 0));
    let padding = BLOCK - plain.len() % BLOCK;
    let mut padded = plain.to_vec();
    padded.resize(plain.len() + padding, padding as u8);
    // The first block is random, and not itself encrypted.
    let mut out = random::bytes(environment, BLOCK);
    for block in padded.chunks(BLOCK) {
        let before = &out[out.len() - BLOCK..];
        let mut mixed = [0; BLOCK];
        for (index, byte) in mixed.iter_mut().enumerate() {
            *byte = block[index] ^ before[index];
        }
        let mut mixed = Block::from(mixed);
        cipher.encrypt_block(&mut mixed);
        out.extend_from_slice(&mixed);
    }
    Ok(Value::string(BASE64_STANDARD.encode(out)))
}

fn decrypt(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let encoded = text(args, 1);
    if encoded.is_empty() {
        return Ok(Value::string(""));
    }
    let encrypted = decode_base64(encoded).map_err(Failure::new)?;
    if encrypted.len() < BLOCK {
        let capacity = encoded.len() / 4 * 3;
        return Err(Failure::new(format!(
            "runtime error: slice bounds out of range [:{BLOCK}] with capacity {capacity}"
        )));
    }
    if !encrypted.len().is_multiple_of(BLOCK) {
        return Err(Failure::new("crypto/cipher: input not full blocks"));
    }
    let cipher = cipher(text(args, 0));
    let mut plain = Vec::with_capacity(encrypted.len());
    for (before, block) in encrypted.chunks(BLOCK).zip(encrypted.chunks(BLOCK).skip(1)) {
        let mut mixed = Block::default();
        mixed.copy_from_slice(block);
        cipher.decrypt_block(&mut mixed);
        plain.extend(mixed.iter().zip(before).map(|(byte, other)| byte ^ other));
    }
    let Some(padding) = plain.last() else {
        return Err(Failure::new("runtime error: index out of range [-1]"));
    };
    match plain.len().checked_sub(usize::from(*padding)) {
        Some(length) => {
            plain.truncate(length);
            Ok(Value::string(plain))
        }
        None => {
            let bound = plain.len() as i64 - i64::from(*padding);
            let message = format!("runtime error: slice bounds out of range [:{bound}]");
            Err(Failure::new(message))
        }
    }
}
