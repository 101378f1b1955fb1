//! Formats of strings, as custom resources may name them.
//!
//! Pure. Formats that are not known here hold for every text, as in Kubernetes.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::name;

/// Whether a text has a format.
pub(super) fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => time(text),
        "date" => date(text),
        "duration" => duration(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "email" => email(text),
        "hostname" => hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uri" => uri(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "hexcolor" => hex_color(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "k8s-short-name" => name::label_problems(text).is_empty(),
        "k8s-long-name" => name::subdomain_problems(text).is_empty(),
        _ => true,
    }
}

fn time(text: &str) -> bool {
    let zoned = text.ends_with(['Z', 'z'])
        || text
            .get(19..)
            .is_some_and(|rest| rest.contains(['+', '-']) && rest.len() >= 6);
    let shaped = text
        .as_bytes()
        .get(10)
        .is_some_and(|byte| b"Tt ".contains(byte));
    zoned && shaped && text.parse::<jiff::Timestamp>().is_ok()
}

fn date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// `1h15m30.5s`, as Go reads it; also `2 days`, as older schemas have it.
fn duration(text: &str) -> bool {
    let text = text.trim().trim_start_matches(['+', '-']);
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, unit) = rest.split_at(number);
        if digits.is_empty() || digits == "." || digits.matches('.').count() > 1 {
            return false;
        }
        let unit = unit.trim_start();
        let end = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        let (word, next) = unit.split_at(end);
        if !UNITS.contains(&word.trim()) {
            return false;
        }
        rest = next;
    }
    !text.is_empty()
}

const UNITS: &[&str] = &[
    "ns",
    "us",
    "µs",
    "μs",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "w",
    "nanosecond",
    "nanoseconds",
    "second",
    "seconds",
    "minute",
    "minutes",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
];

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let atom = |c: char| !c.is_whitespace() && !c.is_control() && !"()<>[]:;@\\,\"".contains(c);
    !local.is_empty()
        && !domain.is_empty()
        && local.chars().all(atom)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.chars().all(atom)
}

fn hostname(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.trim_end_matches('.').split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        })
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let within = |most: u8| plain && length.parse::<u8>().is_ok_and(|length| length <= most);
    (address.parse::<Ipv4Addr>().is_ok() && within(32))
        || (address.parse::<Ipv6Addr>().is_ok() && within(128))
}

fn mac(text: &str) -> bool {
    [':', '-'].iter().any(|joint| {
        let parts: Vec<_> = text.split(*joint).collect();
        [6, 8, 20].contains(&parts.len())
            && parts.iter().all(|part| part.len() == 2 && is_hex(part))
    }) || (text.split('.').all(|part| part.len() == 4 && is_hex(part))
        && [3, 4, 10].contains(&text.split('.').count()))
}

/// With a scheme, or a path alone.
fn uri(text: &str) -> bool {
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
    });
    (scheme || text.starts_with('/')) && !text.chars().any(|c| c.is_control() || c == ' ')
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    plain.len() == 32
        && is_hex(&plain)
        && version.is_none_or(|version| {
            let variant = plain.chars().nth(16).unwrap_or_default();
            plain.chars().nth(12) == Some(version) && (version == '3' || "89abAB".contains(variant))
        })
}

fn hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    [3, 6].contains(&digits.len()) && is_hex(digits)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(holds(format, text), "{format}: {text}");
        }
        for text in bad {
            assert!(!holds(format, text), "{format}: {text}");
        }
    }

    #[test]
    fn texts_have_their_formats() {
        check(
            "date-time",
            &["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5+01:00"],
            &["", "2026-01-02", "2026-01-02T03:04:05", "yesterday"],
        );
        check("date", &["2026-02-28"], &["2026-02-30", "26-02-28"]);
        check(
            "duration",
            &["0", "1h15m", "1.5s", "-3ms"],
            &["", "1", "h", "1x", "1..2s"],
        );
        check(
            "email",
            &["a@b.c", "a.b+c@d"],
            &["", "@", "a@", "a b@c", ".a@b", "a..b@c"],
        );
        check("ipv4", &["10.0.0.1"], &["10.0.0", "::1"]);
        check("ipv6", &["::1"], &["10.0.0.1"]);
        check(
            "cidr",
            &["10.0.0.0/8", "::/0"],
            &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8"],
        );
        check(
            "mac",
            &["00:00:5e:00:53:01", "0000.5e00.5301"],
            &["00:00", "0:0:0:0:0:0"],
        );
        check(
            "uuid",
            &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
            &["6ba7b810", "x"],
        );
        check(
            "uuid4",
            &["f47ac10b-58cc-4372-a567-0e02b2c3d479"],
            &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        );
        check("byte", &["YQ=="], &["YQ", "%"]);
        check("uri", &["https://a/b", "/a"], &["a", "http: //a", ":x"]);
        check("hostname", &["a.b-c"], &["", "-a", "a..b"]);
        check("unknown", &["anything"], &[]);
    }
}
