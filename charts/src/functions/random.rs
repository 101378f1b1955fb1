//! Random texts and numbers, from the rendering's own source.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rand::{Rng as _, RngExt as _};

use super::{
    arguments::{bounded, int, text},
    fixed, runes,
};
use crate::{
    Environment, Failure, Function,
    Param::{Int, String as Text},
    Value,
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("randAlphaNum", &[Int], |environment, args| {
        letters(environment, "randAlphaNum", args, u8::is_ascii_alphanumeric)
    }),
    fixed("randAlpha", &[Int], |environment, args| {
        letters(environment, "randAlpha", args, u8::is_ascii_alphabetic)
    }),
    fixed("randNumeric", &[Int], |environment, args| {
        letters(environment, "randNumeric", args, u8::is_ascii_digit)
    }),
    fixed("randAscii", &[Int], |environment, args| {
        letters(environment, "randAscii", args, |byte| {
            matches!(byte, b' '..=b'~')
        })
    }),
    fixed("randBytes", &[Int], |environment, args| {
        let Ok(count) = usize::try_from(int(args, 0)) else {
            return Err(Failure::new("runtime error: makeslice: len out of range"));
        };
        bounded(environment, "randBytes", count as u128 * 4 / 3 + 4)?;
        Ok(Value::string(
            BASE64_STANDARD.encode(bytes(environment, count)),
        ))
    }),
    fixed("randInt", &[Int, Int], |environment, args| {
        let (least, beyond) = (int(args, 0), int(args, 1));
        if beyond.wrapping_sub(least) <= 0 {
            return Err(Failure::new("invalid argument to Intn"));
        }
        Ok(Value::int(
            environment.random.borrow_mut().random_range(least..beyond),
        ))
    }),
    fixed("uuidv4", &[], |environment, _| {
        let mut id = bytes(environment, 16);
        id[6] = id[6] & 0x0F | 0x40;
        id[8] = id[8] & 0x3F | 0x80;
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        Ok(Value::string(parts.join("-")))
    }),
    fixed("shuffle", &[Text], |environment, args| {
        let mut all: Vec<char> = runes::decode(text(args, 0)).map(|(rune, _)| rune).collect();
        let mut random = environment.random.borrow_mut();
        for last in (1..all.len()).rev() {
            all.swap(last, random.random_range(0..=last));
        }
        Ok(Value::string(all.into_iter().collect::<String>()))
    }),
];

/// So many random bytes.
pub(super) fn bytes(environment: &Environment, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    environment.random.borrow_mut().fill_bytes(&mut bytes);
    bytes
}

/// So many of the ASCII characters that are wanted, each as likely; fewer than none are none.
fn letters(
    environment: &Environment,
    name: &str,
    args: &[Value],
    wanted: fn(&u8) -> bool,
) -> Result<Value, Failure> {
    let count = usize::try_from(int(args, 0)).unwrap_or(0);
    bounded(environment, name, count as u128)?;
    let letters: Vec<u8> = (0..=127).filter(wanted).collect();
    let mut random = environment.random.borrow_mut();
    let letter = |_| letters[random.random_range(0..letters.len())];
    Ok(Value::string((0..count).map(letter).collect::<Vec<u8>>()))
}
