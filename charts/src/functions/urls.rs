//! URLs, taken apart and put together as Go's `net/url` does it.

use std::fmt::Write as _;

use super::{
    arguments::{lossy, map, nil_pointer},
    fixed, types,
};
use crate::{
    Failure, Function, Map,
    Param::{Map as Dict, String as Text},
    Value, format,
};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("urlParse", &[Text], |_, args| {
        let url = Url::parse(&lossy(args, 0))
            .map_err(|why| Failure::new(format!("unable to parse url: {why}")))?;
        Ok(Value::Map(url.into_map()))
    }),
    fixed("urlJoin", &[Dict], |_, args| {
        Ok(Value::string(Url::of(map(args, 0))?.to_string()))
    }),
];

/// A URL's parts, none of them escaped but the query.
#[derive(Default)]
struct Url {
    scheme: String,
    opaque: String,
    user: Option<User>,
    host: String,
    path: String,
    query: String,
    fragment: String,
    /// An empty query was asked for by a `?`.
    question: bool,
}

struct User {
    name: Vec<u8>,
    password: Option<Vec<u8>>,
}

/// Where in a URL an escape stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    Path,
    User,
    Fragment,
}

impl Url {
    /// The error names the URL as Go's does.
    fn parse(whole: &str) -> Result<Url, String> {
        let (start, fragment) = whole.split_once('#').unwrap_or((whole, ""));
        let named = |text: &str, why: String| format!("parse {}: {why}", quote(text));
        let mut url = Url::parse_start(start).map_err(|why| named(start, why))?;
        let fragment = unescape(fragment, Place::Fragment).map_err(|why| named(whole, why))?;
        url.fragment = readable(fragment);
        Ok(url)
    }

    fn parse_start(start: &str) -> Result<Url, String> {
        if start.bytes().any(|byte| byte < b' ' || byte == 0x7F) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let mut url = Url::default();
        if start == "*" {
            url.path = "*".to_owned();
            return Ok(url);
        }
        let (scheme, mut rest) = scheme(start)?;
        url.scheme = scheme.to_ascii_lowercase();
        if rest.ends_with('?') && rest.matches('?').count() == 1 {
            url.question = true;
            rest = &rest[..rest.len() - 1];
        } else if let Some((before, query)) = rest.split_once('?') {
            url.query = query.to_owned();
            rest = before;
        }
        if !rest.starts_with('/') {
            if !url.scheme.is_empty() {
                url.opaque = rest.to_owned();
                return Ok(url);
            }
            if rest
                .split('/')
                .next()
                .is_some_and(|segment| segment.contains(':'))
            {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        if let Some(authority) = rest.strip_prefix("//")
            && (!url.scheme.is_empty() || !rest.starts_with("///"))
        {
            let end = authority.find('/').unwrap_or(authority.len());
            rest = &authority[end..];
            url.read_authority(&authority[..end])?;
        }
        url.path = readable(unescape(rest, Place::Path)?);
        Ok(url)
    }

    fn read_authority(&mut self, authority: &str) -> Result<(), String> {
        let Some((user, host)) = authority.rsplit_once('@') else {
            self.host = host(authority)?;
            return Ok(());
        };
        self.host = self::host(host)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if !user.chars().all(allowed) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(unescape(password, Place::User)?)),
            None => (user, None),
        };
        let name = unescape(name, Place::User)?;
        self.user = Some(User { name, password });
        Ok(())
    }

    /// The host without its port and brackets.
    fn hostname(&self) -> &str {
        let colon = self.host.rfind(':').filter(|at| is_port(&self.host[*at..]));
        let host = &self.host[..colon.unwrap_or(self.host.len())];
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(host)
    }

    fn into_map(self) -> Map {
        let map = Map::new();
        let user = self.user.as_ref().map(User::escaped).unwrap_or_default();
        map.insert("hostname", Value::string(self.hostname().to_owned()));
        map.insert("userinfo", Value::string(user));
        map.insert("scheme", Value::string(self.scheme));
        map.insert("host", Value::string(self.host));
        map.insert("path", Value::string(self.path));
        map.insert("query", Value::string(self.query));
        map.insert("opaque", Value::string(self.opaque));
        map.insert("fragment", Value::string(self.fragment));
        map
    }

    /// Of a map as [`Url::into_map`] makes it; what is not there is empty.
    fn of(map: Option<&Map>) -> Result<Url, Failure> {
        let part = |key: &str| match map.and_then(|map| map.get(key.as_bytes())) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Some(Value::Nil) => Err(nil_pointer()),
            Some(other) => Err(Failure::new(format!(
                "unable to parse {key} key, must be of type string, but {} found",
                types::kind(&other)
            ))),
        };
        let mut url = Url {
            scheme: part("scheme")?,
            host: part("host")?,
            path: part("path")?,
            query: part("query")?,
            opaque: part("opaque")?,
            fragment: part("fragment")?,
            ..Url::default()
        };
        let user = part("userinfo")?;
        if !user.is_empty() {
            let parsed = Url::parse(&format!("proto://{user}@host"))
                .map_err(|why| Failure::new(format!("unable to parse userinfo in dict: {why}")))?;
            url.user = parsed.user;
        }
        Ok(url)
    }
}

impl User {
    fn escaped(&self) -> String {
        let mut out = escape(&self.name, Place::User);
        if let Some(password) = &self.password {
            out.push(':');
            out.push_str(&escape(password, Place::User));
        }
        out
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            write!(out, "{}:", self.scheme)?;
        }
        if self.opaque.is_empty() {
            let placed = !self.host.is_empty() || self.user.is_some();
            if placed || !self.scheme.is_empty() && !self.path.is_empty() {
                out.push_str("//");
            }
            if let Some(user) = &self.user {
                write!(out, "{}@", user.escaped())?;
            }
            out.push_str(&escape(self.host.as_bytes(), Place::Host));
            let path = match self.path.as_str() {
                "*" => "*".to_owned(),
                path => escape(path.as_bytes(), Place::Path),
            };
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.push('/');
            }
            if out.is_empty()
                && path
                    .split('/')
                    .next()
                    .is_some_and(|first| first.contains(':'))
            {
                out.push_str("./");
            }
            out.push_str(&path);
        } else {
            out.push_str(&self.opaque);
        }
        if self.question || !self.query.is_empty() {
            write!(out, "?{}", self.query)?;
        }
        if !self.fragment.is_empty() {
            write!(
                out,
                "#{}",
                escape(self.fragment.as_bytes(), Place::Fragment)
            )?;
        }
        f.write_str(&out)
    }
}

fn quote(text: &str) -> String {
    let quoted = format::sprintf(b"%q", &[Value::string(text.to_owned())]);
    String::from_utf8_lossy(&quoted).into_owned()
}

fn readable(text: Vec<u8>) -> String {
    String::from_utf8_lossy(&text).into_owned()
}

/// The scheme, if there is one, and the rest.
fn scheme(whole: &str) -> Result<(&str, &str), String> {
    for (index, c) in whole.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&whole[..index], &whole[index + 1..])),
            _ => break,
        }
    }
    Ok(("", whole))
}

fn host(host: &str) -> Result<String, String> {
    let colon = match host.rfind('[') {
        Some(_) => Some(host.rfind(']').ok_or("missing ']' in host")? + 1),
        None => host.rfind(':'),
    };
    let port = &host[colon.unwrap_or(host.len())..];
    if !port.is_empty() && !is_port(port) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    Ok(readable(unescape(host, Place::Host)?))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn unescape(text: &str, place: Place) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'%' {
            let rest = &bytes[at..];
            let shown = || quote(&String::from_utf8_lossy(&rest[..rest.len().min(3)]));
            let digit = |index: usize| rest.get(index).and_then(|c| char::from(*c).to_digit(16));
            let Some((high, low)) = digit(1).zip(digit(2)) else {
                return Err(format!("invalid URL escape {}", shown()));
            };
            if place == Place::Host && high < 8 && !rest.starts_with(b"%25") {
                return Err(format!("invalid URL escape {}", shown()));
            }
            out.push((high * 16 + low) as u8);
            at += 3;
            continue;
        }
        if place == Place::Host && byte.is_ascii() && !is_plain(byte, place) {
            let shown = quote(&char::from(byte).to_string());
            return Err(format!("invalid character {shown} in host name"));
        }
        out.push(byte);
        at += 1;
    }
    Ok(out)
}

fn escape(text: &[u8], place: Place) -> String {
    text.iter()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match is_plain(*byte, place) {
                true => out.push(char::from(*byte)),
                false => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}

/// Whether a byte stands for itself there.
fn is_plain(byte: u8, place: Place) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-_.~".contains(&byte)
        || match place {
            Place::Host => b"!$&'()*+,;=:[]<>\"".contains(&byte),
            Place::Path => b"$&+,/:;=@".contains(&byte),
            Place::User => b"$&+,;=".contains(&byte),
            Place::Fragment => b"$&+,/:;=?@!()*".contains(&byte),
        }
}
