//! Private keys: made, read from PEM and written as Go writes them.

use num_bigint::BigUint;
use rcgen::KeyPair;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rsa::{
    RsaPrivateKey,
    pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _},
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _},
};

use super::{
    arguments::{costly, lossy},
    der, fixed, pem, random,
};
use crate::{Environment, Failure, Function, Param::String as Text, Value};

pub(super) const FUNCTIONS: &[Function] =
    &[fixed("genPrivateKey", &[Text], |environment, args| {
        costly("genPrivateKey", 8_000_000)?;
        let key = match lossy(args, 0).as_ref() {
            "" | "rsa" => Key::generate_rsa(environment, 4096),
            "dsa" => Key::generate_dsa(environment),
            "ecdsa" => Key::generate_ecdsa(),
            "ed25519" => Key::generate_ed25519(environment),
            other => return Ok(Value::string(format!("Unknown type {other}"))),
        };
        Ok(Value::string(match key {
            Ok(key) => key.to_pem(),
            Err(failure) => format!("failed to generate private key: {failure}"),
        }))
    })];

const RSA_ID: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC_ID: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const P256_ID: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const ED25519_ID: &[u8] = &[0x2B, 0x65, 0x70];

/// A private key, of a kind that Go's library knows.
pub(super) enum Key {
    Rsa(Box<RsaPrivateKey>),
    /// SEC 1's structure, with the curve in it.
    Ecdsa {
        curve: Vec<u8>,
        sec1: Vec<u8>,
    },
    /// PKCS #8.
    Ed25519(Vec<u8>),
    /// Its six numbers: good to be written, not to sign with.
    Dsa(Vec<u8>),
}

impl Key {
    pub(super) fn generate_rsa(environment: &Environment, bits: usize) -> Result<Key, Failure> {
        let key = RsaPrivateKey::new(&mut Source(environment), bits);
        let key = key.map_err(|error| Failure::new(error.to_string()))?;
        Ok(Key::Rsa(Box::new(key)))
    }

    fn generate_ed25519(environment: &Environment) -> Result<Key, Failure> {
        let seed = random::bytes(environment, 32);
        let algorithm = der::write(der::SEQUENCE, &[&der::write(der::OBJECT_ID, &[ED25519_ID])]);
        let inner = der::write(der::OCTETS, &[&seed]);
        let octets = der::write(der::OCTETS, &[&inner]);
        let version = der::write_unsigned(&[]);
        Ok(Key::Ed25519(der::write(
            der::SEQUENCE,
            &[&version, &algorithm, &octets],
        )))
    }

    /// On P-256. From the system's source of randomness: the library takes no other.
    fn generate_ecdsa() -> Result<Key, Failure> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let document = document.map_err(|error| Failure::new(error.to_string()))?;
        Key::from_pkcs8(document.as_ref()).ok_or_else(|| Failure::new("no key of P-256"))
    }

    /// With parameters of its own: 2048 bits, of which the order has 256.
    fn generate_dsa(environment: &Environment) -> Result<Key, Failure> {
        let one = BigUint::from(1u8);
        let order = prime(environment, 256, &BigUint::from(2u8))?;
        let twice = &order * 2u8;
        let modulus = prime(environment, 2048, &twice)?;
        let exponent = (&modulus - &one) / &order;
        let mut base = BigUint::from(2u8);
        let generator = loop {
            let generator = base.modpow(&exponent, &modulus);
            if generator != one {
                break generator;
            }
            base += 1u8;
        };
        let secret =
            BigUint::from_bytes_be(&random::bytes(environment, 64)) % (&order - &one) + &one;
        let public = generator.modpow(&secret, &modulus);
        let zero = BigUint::ZERO;
        let numbers = [&zero, &modulus, &order, &generator, &public, &secret];
        let numbers = numbers.map(|number| der::write_unsigned(&number.to_bytes_be()));
        let parts: Vec<&[u8]> = numbers.iter().map(Vec::as_slice).collect();
        Ok(Key::Dsa(der::write(der::SEQUENCE, &parts)))
    }

    pub(super) fn to_pem(&self) -> String {
        match self {
            Key::Rsa(key) => {
                let document = key
                    .to_pkcs1_der()
                    .expect("a key of two primes can be written");
                pem::encode("RSA PRIVATE KEY", document.as_bytes())
            }
            Key::Ecdsa { sec1, .. } => pem::encode("EC PRIVATE KEY", sec1),
            Key::Ed25519(pkcs8) => pem::encode("PRIVATE KEY", pkcs8),
            Key::Dsa(der) => pem::encode("DSA PRIVATE KEY", der),
        }
    }

    /// Reads PKCS #8, or by its label RSA's, SEC 1's or DSA's own form.
    pub(super) fn from_pem(text: &str) -> Result<Key, Failure> {
        let Some(block) = pem::decode(text) else {
            return Err(Failure::new("no PEM data in input"));
        };
        if block.label == "PRIVATE KEY" {
            return Key::from_pkcs8(&block.der)
                .ok_or_else(|| Failure::new("decoding PEM as PKCS#8: unknown key"));
        }
        let Some(kind) = block.label.strip_suffix(" PRIVATE KEY") else {
            let label = &block.label;
            let message = format!("no private key data in PEM block of type {label}");
            return Err(Failure::new(message));
        };
        match kind {
            "RSA" => match RsaPrivateKey::from_pkcs1_der(&block.der) {
                Ok(key) => Ok(Key::Rsa(Box::new(key))),
                Err(error) => {
                    let message = format!("parsing RSA private key from PEM: {error}");
                    Err(Failure::new(message))
                }
            },
            "EC" => Key::from_sec1(&block.der, None)
                .ok_or_else(|| Failure::new("parsing EC private key from PEM: unknown key")),
            "DSA" => match der::read(der::SEQUENCE, &block.der) {
                Some((_, [])) => Ok(Key::Dsa(block.der)),
                _ => Err(Failure::new(
                    "parsing DSA private key from PEM: asn1: structure error",
                )),
            },
            _ => Err(Failure::new(format!(
                "invalid private key type {}",
                block.label
            ))),
        }
    }

    fn from_pkcs8(document: &[u8]) -> Option<Key> {
        let (body, _) = der::read(der::SEQUENCE, document)?;
        let (_, body) = der::read(der::INTEGER, body)?;
        let (algorithm, body) = der::read(der::SEQUENCE, body)?;
        let (secret, _) = der::read(der::OCTETS, body)?;
        let (id, parameters) = der::read(der::OBJECT_ID, algorithm)?;
        if id == RSA_ID {
            let key = RsaPrivateKey::from_pkcs8_der(document).ok()?;
            Some(Key::Rsa(Box::new(key)))
        } else if id == EC_ID {
            let (curve, _) = der::read(der::OBJECT_ID, parameters)?;
            Key::from_sec1(secret, Some(curve))
        } else if id == ED25519_ID {
            let (seed, _) = der::read(der::OCTETS, secret)?;
            let algorithm = der::write(der::SEQUENCE, &[&der::write(der::OBJECT_ID, &[id])]);
            let inner = der::write(der::OCTETS, &[seed]);
            let octets = der::write(der::OCTETS, &[&inner]);
            let version = der::write_unsigned(&[]);
            Some(Key::Ed25519(der::write(
                der::SEQUENCE,
                &[&version, &algorithm, &octets],
            )))
        } else {
            None
        }
    }

    /// The curve is in the structure, or known from around it.
    fn from_sec1(document: &[u8], curve: Option<&[u8]>) -> Option<Key> {
        let (body, _) = der::read(der::SEQUENCE, document)?;
        let (_, body) = der::read(der::INTEGER, body)?;
        let (secret, mut body) = der::read(der::OCTETS, body)?;
        let mut curve = curve;
        if let Some((parameters, after)) = der::read(der::CONTEXT_0, body) {
            curve = Some(der::read(der::OBJECT_ID, parameters)?.0);
            body = after;
        }
        let (public, _) = der::read(der::CONTEXT_1, body)?;
        let curve = curve?;
        let version = der::write_unsigned(&[1]);
        let secret = der::write(der::OCTETS, &[secret]);
        let parameters = der::write(der::CONTEXT_0, &[&der::write(der::OBJECT_ID, &[curve])]);
        let public = der::write(der::CONTEXT_1, &[public]);
        Some(Key::Ecdsa {
            curve: curve.to_vec(),
            sec1: der::write(der::SEQUENCE, &[&version, &secret, &parameters, &public]),
        })
    }

    /// The key as what signs certificates.
    pub(super) fn signer(&self) -> Result<KeyPair, Failure> {
        let pkcs8 = match self {
            Key::Rsa(key) => {
                let document = key.to_pkcs8_der();
                let document = document.map_err(|error| Failure::new(error.to_string()))?;
                document.as_bytes().to_vec()
            }
            Key::Ecdsa { curve, sec1 } => {
                let id = der::write(der::OBJECT_ID, &[EC_ID]);
                let curve = der::write(der::OBJECT_ID, &[curve]);
                let algorithm = der::write(der::SEQUENCE, &[&id, &curve]);
                let octets = der::write(der::OCTETS, &[sec1]);
                let version = der::write_unsigned(&[]);
                der::write(der::SEQUENCE, &[&version, &algorithm, &octets])
            }
            Key::Ed25519(pkcs8) => pkcs8.clone(),
            Key::Dsa(_) => {
                let message = "x509: certificate private key does not implement crypto.Signer";
                return Err(Failure::new(message));
            }
        };
        KeyPair::try_from(pkcs8.as_slice()).map_err(|error| match self {
            Key::Ecdsa { curve, .. } if curve != P256_ID => {
                Failure::new("a key of a curve other than P-256 and P-384 signs no certificates")
            }
            _ => Failure::new(error.to_string()),
        })
    }
}

/// The rendering's source of randomness, for the library of RSA.
struct Source<'a>(&'a Environment);

impl rsa::rand_core::RngCore for Source<'_> {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&random::bytes(self.0, bytes.len()));
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Source<'_> {}

/// A random prime of that many bits that leaves 1 when divided by `divisor`.
fn prime(environment: &Environment, bits: u64, divisor: &BigUint) -> Result<BigUint, Failure> {
    /// Many times what is ever needed.
    const ATTEMPTS: usize = 200_000;
    let one = BigUint::from(1u8);
    for _ in 0..ATTEMPTS {
        let mut candidate = BigUint::from_bytes_be(&random::bytes(environment, bits as usize / 8));
        candidate.set_bit(bits - 1, true);
        let rest = &candidate % divisor;
        candidate = candidate + &one - rest;
        if candidate.bits() == bits && is_prime(environment, &candidate) {
            return Ok(candidate);
        }
    }
    Err(Failure::new("no prime was found"))
}

/// Whether it most probably is one: small divisors, then Miller and Rabin's test.
fn is_prime(environment: &Environment, candidate: &BigUint) -> bool {
    const ROUNDS: usize = 40;
    let small = (3u32..5000).step_by(2);
    if small
        .filter(|n| n % 3 != 0 || *n == 3)
        .any(|n| candidate % n == BigUint::ZERO)
    {
        return false;
    }
    let one = BigUint::from(1u8);
    let less = candidate - &one;
    let twos = less.trailing_zeros().unwrap_or(0);
    let odd = &less >> twos;
    let size = candidate.bits() as usize / 8;
    (0..ROUNDS).all(|_| {
        let base = BigUint::from_bytes_be(&random::bytes(environment, size)) % &less + &one;
        let mut power = base.modpow(&odd, candidate);
        if power == one || power == less {
            return true;
        }
        (1..twos).any(|_| {
            power = &power * &power % candidate;
            power == less
        })
    })
}
