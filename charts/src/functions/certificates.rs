//! Certificates: authorities, self-signed ones and signed ones, with new keys or given ones.

use std::{any::Any, net::IpAddr, rc::Rc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};

use super::{
    arguments::{costly, int, items, lossy, text},
    encoding::decode_base64,
    fixed,
    keys::Key,
    pem, random,
    time::Time,
};
use crate::{
    Environment, Failure, Function, Object,
    Param::{Int, List, Named, String as Text},
    Value, format,
};

/// Bits of a certificate's new key.
const BITS: usize = 2048;
const AUTHORITY: crate::Param = Named("sprig.certificate");

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("genCA", &[Text, Int], |environment, args| {
        authority(environment, args, None)
    }),
    fixed("genCAWithKey", &[Text, Int, Text], |environment, args| {
        authority(environment, args, Some(2))
    }),
    fixed(
        "genSelfSignedCert",
        &[Text, List, List, Int],
        |environment, args| self_signed(environment, args, None),
    ),
    fixed(
        "genSelfSignedCertWithKey",
        &[Text, List, List, Int, Text],
        |environment, args| self_signed(environment, args, Some(4)),
    ),
    fixed(
        "genSignedCert",
        &[Text, List, List, Int, AUTHORITY],
        |environment, args| signed(environment, args, None),
    ),
    fixed(
        "genSignedCertWithKey",
        &[Text, List, List, Int, AUTHORITY, Text],
        |environment, args| signed(environment, args, Some(5)),
    ),
    fixed("buildCustomCert", &[Text, Text], custom),
];

/// `sprig.certificate`: a certificate and its key, both PEM.
#[derive(Clone)]
struct Certificate {
    cert: String,
    key: String,
}

impl Object for Certificate {
    fn type_name(&self) -> &'static str {
        "sprig.certificate"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Cert" => Some(Value::string(self.cert.clone())),
            "Key" => Some(Value::string(self.key.clone())),
            _ => None,
        }
    }

    fn method(&self, _: &str, _: &[Value]) -> Option<Result<Value, Failure>> {
        None
    }

    fn print(&self) -> String {
        format!("{{{} {}}}", self.cert, self.key)
    }

    fn plain(&self) -> Value {
        let map = crate::Map::new();
        map.insert("Cert", Value::string(self.cert.clone()));
        map.insert("Key", Value::string(self.key.clone()));
        Value::Map(map)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The key that was given, or a new one.
fn key(environment: &Environment, args: &[Value], given: Option<usize>) -> Result<Key, Failure> {
    match given {
        Some(index) => Key::from_pem(&lossy(args, index))
            .map_err(|failure| Failure::new(format!("parsing private key: {failure}"))),
        None => costly("a certificate's key", 2_000_000)
            .and_then(|()| Key::generate_rsa(environment, BITS))
            .map_err(|failure| Failure::new(format!("error generating rsa key: {failure}"))),
    }
}

fn authority(
    environment: &Environment,
    args: &[Value],
    given: Option<usize>,
) -> Result<Value, Failure> {
    let key = key(environment, args, given)?;
    let mut params = params(environment, args, &[], &[], int(args, 1))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    sign(params, &key, None)
}

fn self_signed(
    environment: &Environment,
    args: &[Value],
    given: Option<usize>,
) -> Result<Value, Failure> {
    let key = key(environment, args, given)?;
    let params = params(
        environment,
        args,
        names(args, 1),
        names(args, 2),
        int(args, 3),
    )?;
    sign(params, &key, None)
}

fn signed(
    environment: &Environment,
    args: &[Value],
    given: Option<usize>,
) -> Result<Value, Failure> {
    let authority = match &args[4] {
        Value::Object(object) => object.as_any().downcast_ref::<Certificate>(),
        _ => None,
    };
    let Some(block) = authority.and_then(|authority| pem::decode(&authority.cert)) else {
        return Err(Failure::new("unable to decode certificate"));
    };
    let unreadable = |error: rcgen::Error| {
        Failure::new(format!(
            "error parsing certificate: decodedSignerCert.Bytes: {error}"
        ))
    };
    let authority_key = authority.map_or("", |authority| &authority.key);
    let authority_key = Key::from_pem(authority_key)
        .map_err(|failure| Failure::new(format!("error parsing private key: {failure}")))?;
    let signer = authority_key.signer().map_err(refused)?;
    let issuer =
        Issuer::from_ca_cert_der(&block.der.as_slice().into(), signer).map_err(unreadable)?;
    let mut params = params(
        environment,
        args,
        names(args, 1),
        names(args, 2),
        int(args, 3),
    )?;
    params.use_authority_key_identifier_extension = true;
    let key = key(environment, args, given)?;
    sign(params, &key, Some(&issuer))
}

fn names(args: &[Value], index: usize) -> &[Value] {
    items(args, index).unwrap_or_default()
}

fn refused(failure: Failure) -> Failure {
    Failure::new(format!("error creating certificate: {failure}"))
}

/// A certificate for servers and clients from now on, for that many days.
fn params(
    environment: &Environment,
    args: &[Value],
    addresses: &[Value],
    dns: &[Value],
    days: i64,
) -> Result<CertificateParams, Failure> {
    const DAY: i64 = 86_400_000_000_000;
    let addresses = addresses
        .iter()
        .map(address)
        .collect::<Result<Vec<_>, _>>()?;
    let dns = dns.iter().map(dns_name).collect::<Result<Vec<_>, _>>()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = dns.into_iter().chain(addresses).collect();
    params.distinguished_name = DistinguishedName::new();
    let name = lossy(args, 0);
    if !name.is_empty() {
        let value = match name.as_ref().try_into() {
            Ok(printable) => DnValue::PrintableString(printable),
            Err(_) => DnValue::Utf8String(name.clone().into_owned()),
        };
        params.distinguished_name.push(DnType::CommonName, value);
    }
    let now = Time::of(environment.now);
    let span = DAY.wrapping_mul(days);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let date = |time: &Time| match u64::try_from(time.seconds) {
        Ok(after) => epoch + Duration::from_secs(after),
        Err(_) => epoch - Duration::from_secs(time.seconds.unsigned_abs()),
    };
    // The span wraps as Go's does: it is never more than three centuries.
    params.not_before = date(&now);
    params.not_after = date(&now.add(i128::from(span)));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.is_ca = IsCa::ExplicitNoCa;
    params.serial_number = Some(SerialNumber::from(random::bytes(environment, 16)));
    Ok(params)
}

fn address(value: &Value) -> Result<SanType, Failure> {
    let Value::String(text) = value else {
        let shown = format::sprint(value);
        let shown = String::from_utf8_lossy(&shown);
        return Err(Failure::new(format!(
            "error parsing ip: {shown} is not a string"
        )));
    };
    let text = String::from_utf8_lossy(text);
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address.to_canonical())),
        Err(_) => Err(Failure::new(format!("error parsing ip: {text}"))),
    }
}

fn dns_name(value: &Value) -> Result<SanType, Failure> {
    let Value::String(text) = value else {
        let shown = format::sprint(value);
        let shown = String::from_utf8_lossy(&shown);
        let message = format!("error processing alternate dns name: {shown} is not a string");
        return Err(Failure::new(message));
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let name = text.as_str().try_into().map_err(|_| {
        let shown = format::sprintf(b"%q", &[Value::string(text.clone())]);
        let shown = String::from_utf8_lossy(&shown);
        refused(Failure::new(format!(
            "x509: {shown} cannot be encoded as an IA5String"
        )))
    })?;
    Ok(SanType::DnsName(name))
}

fn sign(
    params: CertificateParams,
    key: &Key,
    issuer: Option<&Issuer<'_, rcgen::KeyPair>>,
) -> Result<Value, Failure> {
    let pair = key.signer().map_err(refused)?;
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&pair, issuer),
        None => params.self_signed(&pair),
    };
    let certificate = certificate.map_err(|error| refused(Failure::new(error.to_string())))?;
    let made = Certificate {
        cert: pem::encode("CERTIFICATE", certificate.der()),
        key: key.to_pem(),
    };
    Ok(Value::Object(Rc::new(made)))
}

/// A pair that the caller has, in base 64: only looked at.
fn custom(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let decoded = |index: usize, what: &str| {
        let bytes = decode_base64(text(args, index));
        let bytes = bytes.map_err(|_| Failure::new(format!("unable to decode base64 {what}")))?;
        Ok::<_, Failure>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let cert = decoded(0, "certificate")?;
    let key = decoded(1, "private key")?;
    let Some(block) = pem::decode(&cert) else {
        return Err(Failure::new("unable to decode certificate"));
    };
    if x509_parser::parse_x509_certificate(&block.der).is_err() {
        let message = "error parsing certificate: decodedCert.Bytes: x509: malformed certificate";
        return Err(Failure::new(message));
    }
    Key::from_pem(&key)
        .map_err(|failure| Failure::new(format!("error parsing private key: {failure}")))?;
    Ok(Value::Object(Rc::new(Certificate { cert, key })))
}
