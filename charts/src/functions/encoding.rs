//! Base 64 and base 32. What does not decode is answered with the error's text, as Sprig does.

use super::{
    arguments::{bounded, text},
    fixed,
};
use crate::{Environment, Failure, Function, Param::String as Text, Value};

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("b64enc", &[Text], |environment, args| {
        encode(environment, "b64enc", text(args, 0), 3, STANDARD)
    }),
    fixed("b64dec", &[Text], |_, args| {
        Ok(Value::string(
            decode_base64(text(args, 0)).unwrap_or_else(String::into_bytes),
        ))
    }),
    fixed("b32enc", &[Text], |environment, args| {
        encode(environment, "b32enc", text(args, 0), 5, BASE32)
    }),
    fixed("b32dec", &[Text], |_, args| {
        let decoded = decode(text(args, 0), BASE32);
        Ok(Value::string(
            decoded.unwrap_or_else(|at| trouble(32, at).into_bytes()),
        ))
    }),
];

fn trouble(base: u8, at: usize) -> String {
    format!("illegal base{base} data at input byte {at}")
}

fn encode(
    environment: &Environment,
    name: &str,
    plain: &[u8],
    group: usize,
    alphabet: &[u8],
) -> Result<Value, Failure> {
    bounded(environment, name, plain.len() as u128 * 8 / 5 + 8)?;
    let bits = alphabet.len().ilog2() as usize;
    let width = group * 8 / bits;
    let mut out = Vec::with_capacity(plain.len().div_ceil(group) * width);
    for chunk in plain.chunks(group) {
        let number = chunk
            .iter()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let number = number << (8 * (group - chunk.len()));
        let used = (chunk.len() * 8).div_ceil(bits);
        for index in 0..width {
            let digit = number >> (bits * (width - 1 - index)) & (alphabet.len() as u64 - 1);
            out.push(if index < used {
                alphabet[digit as usize]
            } else {
                b'='
            });
        }
    }
    Ok(Value::string(out))
}

/// Of the standard alphabet, padded, with line breaks anywhere; else Go's error.
pub(super) fn decode_base64(encoded: &[u8]) -> Result<Vec<u8>, String> {
    decode(encoded, STANDARD).map_err(|at| trouble(64, at))
}

/// Group by group; else the byte where it went wrong, as Go's decoders count.
fn decode(encoded: &[u8], alphabet: &[u8]) -> Result<Vec<u8>, usize> {
    let bits = alphabet.len().ilog2() as usize;
    let width = if bits == 6 { 4 } else { 8 };
    // Base 32 loses its line breaks before it is decoded: places are counted without them.
    let kept: Vec<(usize, u8)> = encoded
        .iter()
        .copied()
        .filter(|byte| bits == 6 || !matches!(byte, b'\r' | b'\n'))
        .enumerate()
        .filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'))
        .collect();
    let mut out = Vec::with_capacity(kept.len() * bits / 8);
    for (index, chunk) in kept.chunks(width).enumerate() {
        let mut number = 0u64;
        let mut digits = 0;
        for (at, byte) in chunk {
            if *byte == b'=' {
                break;
            }
            let digit = alphabet
                .iter()
                .position(|letter| letter == byte)
                .ok_or(*at)?;
            number = number << bits | digit as u64;
            digits += 1;
        }
        let padding = &chunk[digits..];
        if digits < width {
            check_padding(encoded, &kept, index * width, digits, padding, bits)?;
        }
        let bytes = digits * bits / 8;
        number >>= digits * bits - bytes * 8;
        out.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
        if digits < width {
            break;
        }
    }
    Ok(out)
}

/// Whether the last group is filled up with `=` as it must be.
fn check_padding(
    encoded: &[u8],
    kept: &[(usize, u8)],
    start: usize,
    digits: usize,
    padding: &[(usize, u8)],
    bits: usize,
) -> Result<(), usize> {
    let width = if bits == 6 { 4 } else { 8 };
    let group_start = kept.get(start).map_or(encoded.len(), |(at, _)| *at);
    let Some((first, _)) = padding.first() else {
        // The text ended within a group.
        return Err(if bits == 6 {
            encoded.len() - digits
        } else {
            group_start
        });
    };
    if digits < 2 {
        return Err(*first);
    }
    if bits == 6 {
        if let Some((at, _)) = padding[1..].iter().find(|(_, byte)| *byte != b'=') {
            return Err(*at - 1);
        }
        if digits + padding.len() < width {
            return Err(encoded.len());
        }
        return match kept.get(start + width) {
            Some((at, _)) => Err(*at),
            None => Ok(()),
        };
    }
    // What Go has left behind the first sign of padding, as its decoder goes on to look at it.
    let whole = kept.len();
    let left = whole - (start + digits + 1);
    if left >= width {
        return Err(*first);
    }
    if left + digits < width - 1 {
        return Err(whole);
    }
    let behind = &kept[whole - left..];
    let wrong = behind[..left.min(width - 1 - digits)]
        .iter()
        .position(|(_, byte)| *byte != b'=');
    if let Some(at) = wrong {
        return Err((whole + at).saturating_sub(left + 1));
    }
    match digits {
        2 | 4 | 5 | 7 => Ok(()),
        _ => Err(whole - left - 1),
    }
}
