//! Where a GET goes. Pure.
//!
//! Written as Go writes it, with the port always, since Events show it.

use std::fmt;

use ::http::{HeaderValue, Uri};

use crate::probe::dial::join;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Url {
    pub(super) https: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they were written.
    authority: String,
    /// Path and query; begins with `/`, or is empty, and holds only what may stand in a request's first line.
    target: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.target)
    }
}

impl Url {
    pub(super) fn new(https: bool, host: &str, port: u16, path: &str) -> Url {
        Url {
            https,
            host: host.to_owned(),
            port,
            authority: join(host, port),
            target: target(path),
        }
    }

    /// For a request's first line.
    pub(super) fn target(&self) -> Uri {
        let target = if self.target.is_empty() || self.target.starts_with('?') {
            format!("/{}", self.target)
        } else {
            self.target.clone()
        };
        target.parse().unwrap_or(Uri::from_static("/"))
    }

    /// For the header `Host`.
    pub(super) fn authority(&self) -> HeaderValue {
        HeaderValue::from_str(&self.authority).unwrap_or(HeaderValue::from_static(""))
    }

    /// The whole, with another authority if one is given.
    pub(super) fn absolute(&self, host: Option<&HeaderValue>) -> Uri {
        let authority = host.and_then(|host| host.to_str().ok());
        let scheme = if self.https { "https" } else { "http" };
        Uri::builder()
            .scheme(scheme)
            .authority(authority.unwrap_or(&self.authority))
            .path_and_query(self.target().to_string())
            .build()
            .unwrap_or_else(|_| self.target())
    }

    /// Where a redirect leads, and whether it was said relative to here; `None` if it cannot be followed.
    pub(super) fn join(&self, location: &str) -> Option<(Url, bool)> {
        let location = location.split('#').next().unwrap_or_default();
        let own = if self.https { "https:" } else { "http:" };
        let whole = if location.starts_with("//") {
            format!("{own}{location}")
        } else {
            location.to_owned()
        };
        let lower = whole.get(..8).unwrap_or(&whole).to_ascii_lowercase();
        if lower.starts_with("http://") || lower.starts_with("https://") {
            let uri: Uri = whole.parse().ok()?;
            let https = uri.scheme_str() == Some("https");
            let authority = uri.authority()?;
            let host = authority.host().trim_matches(['[', ']']);
            return Some((
                Url {
                    https,
                    host: host.to_owned(),
                    port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
                    authority: authority.to_string(),
                    target: target(uri.path_and_query().map_or("", |target| target.as_str())),
                },
                false,
            ));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let directory = path.rfind('/').map_or("/", |end| &path[..=end]);
        let next = match location.chars().next() {
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            Some(_) => format!("{directory}{location}"),
            None => self.target.clone(),
        };
        Some((
            Url {
                target: target(&next),
                ..self.clone()
            },
            true,
        ))
    }
}

/// A path and query without fragment; what must not stand in them is escaped.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::with_capacity(path.len() + 1);
    if !path.is_empty() && !path.starts_with(['/', '?']) {
        target.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                target.push(char::from(byte));
            }
            byte => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let url = Url::new(false, "10.0.0.1", 80, path);
        assert_eq!(url.to_string(), expected);
    }

    #[test]
    fn a_path_is_escaped_where_it_must_be() {
        check("/healthz?a=b#c", "http://10.0.0.1:80/healthz?a=b");
        check("healthz", "http://10.0.0.1:80/healthz");
        check("/a b/ü%20", "http://10.0.0.1:80/a%20b/%C3%BC%20");
        check("", "http://10.0.0.1:80");
        assert_eq!(Url::new(true, "fd00::1", 8443, "").target(), "/");
    }

    #[track_caller]
    fn joins(location: &str, expected: Option<&str>) {
        let url = Url::new(false, "10.0.0.1", 8080, "/a/b?c");
        let joined = url.join(location).map(|(url, _)| url.to_string());
        assert_eq!(joined.as_deref(), expected);
    }

    #[test]
    fn a_redirect_is_joined_to_where_it_came_from() {
        joins("/x", Some("http://10.0.0.1:8080/x"));
        joins("x", Some("http://10.0.0.1:8080/a/x"));
        joins("?x", Some("http://10.0.0.1:8080/a/b?x"));
        joins("//other/x", Some("http://other/x"));
        joins("HTTPS://[fd00::1]:1/x", Some("https://[fd00::1]:1/x"));
        joins("http:///x", None);
    }
}
