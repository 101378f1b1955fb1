//! What differs from run to run, by its properties; and what is refused before it is built.

use std::{cell::RefCell, collections::HashSet};

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::{find, keys::Key, pem};
use crate::{Environment, Limits, Map, Value};

const NOW: &str = "2024-02-29T12:34:56Z";
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn environment(seed: u64) -> Environment {
    Environment {
        now: NOW.parse().expect("a date"),
        random: RefCell::new(rand::rngs::StdRng::seed_from_u64(seed)),
        lookup: None,
        dns: false,
        limits: Limits {
            output: 1 << 20,
            ..Limits::default()
        },
    }
}

fn call_seeded(seed: u64, name: &str, args: &[Value]) -> Result<Value, String> {
    let function = find(name).expect("a function of that name");
    (function.call)(&environment(seed), args).map_err(|failure| failure.message)
}

#[track_caller]
fn call(name: &str, args: &[Value]) -> Value {
    call_seeded(1, name, args).expect("a result")
}

#[track_caller]
fn text(name: &str, args: &[Value]) -> String {
    string(&call(name, args))
}

#[track_caller]
fn string(value: &Value) -> String {
    match value {
        Value::String(text) => String::from_utf8(text.to_vec()).expect("UTF-8"),
        other => panic!("no string but {other:?}"),
    }
}

#[track_caller]
fn check_refused(name: &str, args: &[Value], expected: Expect) {
    expected.assert_eq(&call_seeded(1, name, args).expect_err("refused"));
}

fn s(text: &str) -> Value {
    Value::string(text.to_owned())
}

fn field(value: &Value, name: &str) -> String {
    match value {
        Value::Object(object) => string(&object.field(name).expect("a field of that name")),
        other => panic!("no certificate but {other:?}"),
    }
}

/// Runs `look` on the certificate of what a function made.
fn certificate(made: &Value, look: impl FnOnce(&X509Certificate<'_>)) {
    let block = pem::decode(&field(made, "Cert")).expect("PEM");
    assert_eq!(block.label, "CERTIFICATE");
    look(
        &X509Certificate::from_der(&block.der)
            .expect("a certificate")
            .1,
    );
}

fn days_valid(certificate: &X509Certificate<'_>) -> i64 {
    let now: Timestamp = NOW.parse().expect("a date");
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), now.as_second());
    (validity.not_after.timestamp() - now.as_second()) / DAY.as_secs()
}

fn usages(certificate: &X509Certificate<'_>) -> String {
    let usage = certificate
        .key_usage()
        .expect("readable")
        .expect("there")
        .value;
    let extended = certificate
        .extended_key_usage()
        .expect("readable")
        .expect("there")
        .value;
    assert!(extended.server_auth && extended.client_auth);
    usage.to_string()
}

#[test]
fn an_authority_signs_itself_and_certificates() {
    let ca = call("genCA", &[s("my-ca"), Value::int(365)]);
    certificate(&ca, |ca| {
        assert_eq!(ca.subject().to_string(), "CN=my-ca");
        assert_eq!(ca.issuer(), ca.subject());
        assert!(ca.is_ca());
        assert_eq!(
            usages(ca),
            "Digital Signature, Key Encipherment, Key Cert Sign"
        );
        assert_eq!(days_valid(ca), 365);
        ca.verify_signature(None).expect("signed by itself");
    });
    let addresses = Value::list(vec![s("10.0.0.1"), s("::1")]);
    let names = Value::list(vec![s("a.example"), s("*.b.example")]);
    let args = [s("leaf"), addresses, names, Value::int(7), ca.clone()];
    let leaf = call_seeded(2, "genSignedCert", &args).expect("a certificate");
    certificate(&leaf, |leaf| {
        assert_eq!(leaf.subject().to_string(), "CN=leaf");
        assert_eq!(leaf.issuer().to_string(), "CN=my-ca");
        assert!(!leaf.is_ca());
        assert_eq!(usages(leaf), "Digital Signature, Key Encipherment");
        assert_eq!(days_valid(leaf), 7);
        let names = leaf
            .subject_alternative_name()
            .expect("readable")
            .expect("there");
        let names: Vec<String> = names.value.general_names.iter().map(shown).collect();
        expect![[r#"["a.example", "*.b.example", "10.0.0.1", "0000…1"]"#]]
            .assert_eq(&format!("{names:?}"));
        certificate(&ca, |ca| {
            leaf.verify_signature(Some(ca.public_key()))
                .expect("signed by the authority");
            assert_eq!(key_id(leaf, true), key_id(ca, false));
        });
    });
    assert!(field(&leaf, "Key").starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    assert_ne!(field(&leaf, "Key"), field(&ca, "Key"));
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
        GeneralName::IPAddress([0, 0, 0, 0, .., 1]) => "0000…1".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The identifier of its own key, or of the authority's.
fn key_id(certificate: &X509Certificate<'_>, of_authority: bool) -> Vec<u8> {
    let mut ids = certificate.extensions().iter().filter_map(|extension| {
        match (extension.parsed_extension(), of_authority) {
            (ParsedExtension::SubjectKeyIdentifier(id), false) => Some(id.0.to_vec()),
            (ParsedExtension::AuthorityKeyIdentifier(id), true) => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        }
    });
    ids.next_back().expect("an identifier")
}

#[test]
fn keys_that_are_given_are_used() {
    let none = || Value::Nil;
    for kind in ["ecdsa", "ed25519"] {
        let key = text("genPrivateKey", &[s(kind)]);
        let ca = call("genCAWithKey", &[s("ca"), Value::int(1), s(&key)]);
        assert_eq!(field(&ca, "Key"), key);
        certificate(&ca, |ca| {
            ca.verify_signature(None).expect("signed by itself");
        });
        let args = [s("é"), none(), none(), Value::int(1), s(&key)];
        let own = call("genSelfSignedCertWithKey", &args);
        certificate(&own, |own| {
            assert!(!own.is_ca());
            assert_eq!(own.subject().to_string(), "CN=é");
            own.verify_signature(None).expect("signed by itself");
        });
        let args = [
            s("leaf"),
            none(),
            none(),
            Value::int(1),
            ca.clone(),
            s(&key),
        ];
        let leaf = call("genSignedCertWithKey", &args);
        assert_eq!(field(&leaf, "Key"), key);
        let encoded = |name: &str| call("b64enc", &[s(&field(&leaf, name))]);
        let custom = call("buildCustomCert", &[encoded("Cert"), encoded("Key")]);
        assert_eq!(field(&custom, "Cert"), field(&leaf, "Cert"));
        assert_eq!(field(&custom, "Key"), key);
    }
}

#[test]
fn a_span_of_centuries_wraps_as_go_does() {
    let key = text("genPrivateKey", &[s("ed25519")]);
    let ca = call("genCAWithKey", &[s("ca"), Value::int(365_000), s(&key)]);
    certificate(&ca, |ca| assert_eq!(days_valid(ca), -62_007));
}

#[test]
fn private_keys_are_written_as_go_writes_them_and_read_again() {
    for (kind, label) in [
        ("ecdsa", "EC PRIVATE KEY"),
        ("ed25519", "PRIVATE KEY"),
        ("dsa", "DSA PRIVATE KEY"),
    ] {
        let key = text("genPrivateKey", &[s(kind)]);
        assert!(
            key.starts_with(&format!("-----BEGIN {label}-----\n")),
            "{key}"
        );
        assert_eq!(Key::from_pem(&key).expect("a key").to_pem(), key);
        assert_ne!(
            string(&call_seeded(2, "genPrivateKey", &[s(kind)]).expect("a key")),
            key
        );
    }
}

#[test]
fn a_key_of_rsa_is_right() {
    // Smaller than what templates get: those take a debug build half a minute.
    let key = Key::generate_rsa(&environment(1), 1024)
        .expect("a key")
        .to_pem();
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let Ok(Key::Rsa(rsa)) = Key::from_pem(&key) else {
        panic!("no key of RSA: {key}");
    };
    rsa.validate().expect("two primes and their product");
}

#[test]
fn random_texts_have_the_length_and_letters_that_were_asked_for() {
    for (name, wanted, letters) in [
        (
            "randAlphaNum",
            char::is_ascii_alphanumeric as fn(&char) -> bool,
            62,
        ),
        ("randAlpha", char::is_ascii_alphabetic, 52),
        ("randNumeric", char::is_ascii_digit, 10),
        ("randAscii", |c| (' '..='~').contains(c), 95),
    ] {
        let random = text(name, &[Value::int(5000)]);
        assert_eq!(random.len(), 5000, "{name}");
        assert!(random.chars().all(|c| wanted(&c)), "{name}: {random}");
        assert_eq!(
            random.chars().collect::<HashSet<_>>().len(),
            letters,
            "{name}"
        );
        assert_eq!(text(name, &[Value::int(5000)]), random, "the same seed");
        assert_ne!(
            call_seeded(2, name, &[Value::int(5000)]).map(|v| string(&v)),
            Ok(random)
        );
        assert_eq!(text(name, &[Value::int(-1)]), "");
    }
    assert_eq!(text("b64dec", &[call("randBytes", &[Value::int(0)])]), "");
    assert_eq!(text("randBytes", &[Value::int(30)]).len(), 40);
}

#[test]
fn a_random_number_is_within_its_bounds() {
    for seed in 0..200 {
        let number = call_seeded(seed, "randInt", &[Value::int(-2), Value::int(3)]);
        assert!(matches!(number, Ok(Value::Int(-2..3, crate::IntKind::Int))));
    }
}

#[test]
fn a_uuid_is_of_version_4() {
    let id = text("uuidv4", &[]);
    let shape =
        regex::Regex::new("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$");
    assert!(shape.expect("a pattern").is_match(&id), "{id}");
}

#[test]
fn shuffling_keeps_the_letters() {
    let letters = "abcdefghijklmnopqrstuvwxyzé";
    let shuffled = text("shuffle", &[s(letters)]);
    assert_ne!(shuffled, letters);
    let mut sorted: Vec<char> = shuffled.chars().collect();
    sorted.sort_unstable();
    assert_eq!(sorted.into_iter().collect::<String>(), letters);
}

#[test]
fn passwords_are_hashed_with_bcrypt() {
    let hash = text("bcrypt", &[s("secret")]);
    assert!(hash.starts_with("$2a$10$"), "{hash}");
    assert!(bcrypt::verify("secret", &hash).expect("a hash"));
    let entry = text("htpasswd", &[s("user"), s("secret")]);
    let (user, hash) = entry.split_once(':').expect("a colon");
    assert_eq!(user, "user");
    assert!(bcrypt::verify("secret", hash).expect("a hash"));
}

#[test]
fn what_was_encrypted_is_decrypted() {
    for plain in ["a", "exactly 16 bytes", "more than sixteen bytes, and é"] {
        let encrypted = call("encryptAES", &[s("password"), s(plain)]);
        assert_ne!(string(&encrypted), plain);
        assert_eq!(text("decryptAES", &[s("password"), encrypted]), plain);
    }
}

#[test]
fn now_is_the_moment_of_the_rendering() {
    let Value::Object(now) = call("now", &[]) else {
        panic!("no moment");
    };
    assert_eq!(now.print(), "2024-02-29 12:34:56 +0000 UTC");
    assert_eq!(text("ago", &[Value::int(1_709_210_000)]), "1m36s");
    assert_eq!(text("date", &[s("2006-01-02"), s("no date")]), "2024-02-29");
}

#[test]
fn durations_are_read_in_many_forms() {
    let print = |name: &str, args: &[Value]| {
        let value = call(name, args);
        String::from_utf8_lossy(&crate::format::sprint(&value)).into_owned()
    };
    assert_eq!(print("mustToDuration", &[s("90m")]), "1h30m0s");
    assert_eq!(print("mustToDuration", &[s("2.5")]), "2.5s");
    assert_eq!(print("mustToDuration", &[Value::int(30)]), "30s");
    assert_eq!(print("toSeconds", &[s("1m30s")]), "90");
    assert_eq!(print("toMinutes", &[Value::Float(90.0)]), "1.5");
    assert_eq!(print("toHours", &[s("x")]), "0");
    assert_eq!(print("toDays", &[s("36h")]), "1.5");
    assert_eq!(print("toWeeks", &[s("168h")]), "1");
    assert_eq!(print("toMilliseconds", &[s("1.5s")]), "1500");
    assert_eq!(print("toMicroseconds", &[s("1ms")]), "1000");
    assert_eq!(print("toNanoseconds", &[s("1us")]), "1000");
    assert_eq!(print("roundToDuration", &[s("2h13m"), s("30m")]), "2h0m0s");
    assert_eq!(print("roundToDuration", &[s("2h15m"), s("30m")]), "2h30m0s");
    assert_eq!(
        print("truncateToDuration", &[s("-2h13m"), s("1h")]),
        "-2h0m0s"
    );
    check_refused(
        "mustToDuration",
        &[s("foo")],
        expect![[r#"could not parse duration "foo""#]],
    );
    check_refused("mustToDuration", &[Value::Nil], expect!["invalid duration"]);
}

#[test]
fn what_would_be_too_large_is_refused_before_it_is_built() {
    let huge = Value::int(1_000_000_000_000);
    check_refused(
        "repeat",
        &[huge.clone(), s("ab")],
        expect!["repeat would build 2000000000000 bytes: more than the 1048576 that a chart may"],
    );
    for (name, args) in [
        ("repeat", vec![Value::int(i64::MAX), s("ab")]),
        ("indent", vec![huge.clone(), s("a")]),
        ("nindent", vec![Value::int(600_000), s("a\nb")]),
        ("randAlpha", vec![huge.clone()]),
        ("randAlphaNum", vec![Value::int(i64::MAX)]),
        ("randAscii", vec![huge.clone()]),
        ("randNumeric", vec![huge.clone()]),
        ("randBytes", vec![huge.clone()]),
        ("until", vec![huge.clone()]),
        ("until", vec![Value::int(i64::MIN)]),
        (
            "untilStep",
            vec![Value::int(i64::MIN), Value::int(i64::MAX), Value::int(1)],
        ),
        ("seq", vec![huge.clone()]),
        ("seq", vec![Value::int(0), Value::int(i64::MAX - 1)]),
        (
            "replace",
            vec![s("a"), s(&"b".repeat(2000)), s(&"a".repeat(2000))],
        ),
        (
            "replace",
            vec![s(""), s(&"b".repeat(2000)), s(&"a".repeat(2000))],
        ),
        (
            "wrapWith",
            vec![Value::int(1), s(&"-".repeat(2000)), s(&"a".repeat(2000))],
        ),
        (
            "regexReplaceAll",
            vec![s("a"), s(&"a".repeat(2000)), s(&"b".repeat(2000))],
        ),
        (
            "regexReplaceAllLiteral",
            vec![s(""), s(&"a".repeat(2000)), s(&"b".repeat(2000))],
        ),
        (
            "join",
            vec![s(&"b".repeat(2000)), Value::list(vec![s("a"); 2000])],
        ),
        ("split", vec![s(""), s(&"a".repeat(100_000))]),
        (
            "regexSplit",
            vec![s(""), s(&"a".repeat(100_000)), Value::int(-1)],
        ),
    ] {
        let message = call_seeded(1, name, &args).expect_err(name);
        assert!(message.contains("that a chart may"), "{name}: {message}");
    }
}

#[test]
fn expressions_that_would_take_too_long_are_refused() {
    let bombs = [
        "((a{100}){100}){100}",
        "(x+x+)+y{1001}",
        r"(?:\pL{500}\pN{500}){2}(?:[^a]{900}\pL{900}){1}\pL{1000}\pL{1000}\pL{1000}\pL{1000}",
    ];
    for bomb in bombs {
        let message = call_seeded(1, "mustRegexMatch", &[s(bomb), s("a")]).expect_err(bomb);
        assert!(message.starts_with("error parsing regexp: "), "{message}");
    }
    let nested = format!("{}a{}", "(".repeat(5000), ")".repeat(5000));
    call_seeded(1, "mustRegexMatch", &[s(&nested), s("a")]).expect_err("too deep");
    let slow = call(
        "mustRegexMatch",
        &[s("(a*)*(a*)*(a*)*b"), s(&"a".repeat(20_000))],
    );
    assert!(matches!(slow, Value::Bool(false)));
}

#[test]
fn a_map_that_holds_itself_ends_nothing() {
    let ring = || {
        let map = Map::new();
        map.insert("self", Value::Map(map.clone()));
        Value::Map(map)
    };
    assert!(matches!(
        call("deepEqual", &[ring(), ring()]),
        Value::Bool(false)
    ));
    call_seeded(1, "deepCopy", &[ring()]).expect_err("too deep");
    call_seeded(1, "merge", &[ring(), ring()]).expect_err("too deep");
    call_seeded(1, "mustToToml", &[ring()]).expect_err("too deep");
}
