//! Where a registry's images really come from: mirrors, and how each host is spoken to.
//!
//! Reads `<dir>/<registry>/hosts.toml`, or `<dir>/_default/hosts.toml`, as containerd has them: `server`, and a
//! table `[host."https://mirror.example"]` for each host to be asked before it, with `capabilities`, `ca` and
//! `skip_verify`. Read at each pull, so that a change needs no restart. What is in it and not known here is an
//! error: an image from somewhere else than the operator meant is worse than none.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

/// A host that has a registry's images.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    /// Host and port; `None` is the registry itself.
    pub(super) authority: Option<String>,
    /// `None`: as it is usual for that host.
    pub(super) plain_http: Option<bool>,
    /// Certificates, in PEM, to trust beside the usual ones.
    pub(super) ca: Vec<PathBuf>,
    pub(super) skip_verify: bool,
    /// It may say what a tag stands for.
    pub(super) resolves: bool,
}

impl Host {
    fn registry() -> Host {
        Host {
            authority: None,
            plain_http: None,
            ca: Vec::new(),
            skip_verify: false,
            resolves: true,
        }
    }
}

/// The hosts to ask, in order; the last is the registry itself or what stands for it.
pub(super) fn find(dir: Option<&Path>, registry: &str) -> Result<Vec<Host>, String> {
    // A name is one directory below ours, whatever a user writes for a registry.
    let plain = !registry.contains('/') && !registry.starts_with('.');
    let Some(dir) = dir.filter(|_| plain) else {
        return Ok(vec![Host::registry()]);
    };
    for name in [registry, "_default"] {
        let path = dir.join(name).join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return parse(&text, &dir.join(name))
                    .map_err(|why| format!("{}: {why}", path.display()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Ok(vec![Host::registry()])
}

/// Paths in the file are relative to `dir`.
fn parse(text: &str, dir: &Path) -> Result<Vec<Host>, String> {
    let table: Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut hosts = Vec::new();
    let mut own = Table::new();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("host", Value::Table(tables)) => {
                for (url, fields) in tables {
                    let Value::Table(fields) = fields else {
                        return Err(format!("host.{url:?} is not a table"));
                    };
                    hosts.extend(host(Some(url), fields, dir)?);
                }
            }
            ("server", _) => {}
            _ => drop(own.insert(key.clone(), value.clone())),
        }
    }
    let server = match table.get("server") {
        None => None,
        Some(Value::String(url)) => Some(url.as_str()),
        Some(_) => return Err("server must be a URL".to_owned()),
    };
    hosts.extend(host(server, &own, dir)?);
    Ok(hosts)
}

/// `None` if it has no images to pull.
fn host(url: Option<&str>, fields: &Table, dir: &Path) -> Result<Option<Host>, String> {
    let mut host = Host::registry();
    let shown = url.unwrap_or("the registry");
    if let Some(url) = url {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        host.plain_http = match scheme {
            "https" => Some(false),
            "http" => Some(true),
            _ => return Err(format!("{url:?} is neither https nor http")),
        };
        let rest = rest.trim_end_matches('/');
        let rest = rest.strip_suffix("/v2").unwrap_or(rest);
        if rest.is_empty() || rest.contains('/') {
            return Err(format!(
                "{url:?} must be a host, with a port or without, and no path"
            ));
        }
        host.authority = Some(rest.to_owned());
    }
    let mut pulls = true;
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("capabilities", Value::Array(list)) => {
                let has = |word: &str| list.iter().any(|item| item.as_str() == Some(word));
                (pulls, host.resolves) = (has("pull"), has("resolve"));
            }
            ("skip_verify", Value::Boolean(skip)) => host.skip_verify = *skip,
            ("ca", Value::String(path)) => host.ca.push(dir.join(path)),
            ("ca", Value::Array(list)) => {
                let paths = list
                    .iter()
                    .map(|item| item.as_str().map(|path| dir.join(path)));
                let paths: Option<Vec<_>> = paths.collect();
                host.ca = paths.ok_or_else(|| format!("{shown}: ca must be files"))?;
            }
            _ => {
                return Err(format!(
                    "{shown}: {key:?} is not supported, or not of this type"
                ));
            }
        }
    }
    Ok(pulls.then_some(host))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Expect) {
        let mut got = String::new();
        match parse(text, Path::new("/c")) {
            Err(error) => got = format!("error: {error}\n"),
            Ok(hosts) => {
                for host in hosts {
                    let Host {
                        authority,
                        plain_http,
                        ca,
                        skip_verify,
                        resolves,
                    } = host;
                    let authority = authority.unwrap_or_else(|| "itself".to_owned());
                    got += &format!(
                        "{authority} http={plain_http:?} ca={ca:?} skip={skip_verify} resolves={resolves}\n"
                    );
                }
            }
        }
        want.assert_eq(&got);
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file_and_the_server_last() {
        check(
            r#"
            server = "https://registry-1.docker.io"
            [host."http://mirror.example:5000"]
              capabilities = ["pull"]
              skip_verify = true
            [host."https://a.example/v2"]
              ca = "a.pem"
            [host."https://push.example"]
              capabilities = ["push"]
            "#,
            expect![[r#"
                mirror.example:5000 http=Some(true) ca=[] skip=true resolves=false
                a.example http=Some(false) ca=["/c/a.pem"] skip=false resolves=true
                registry-1.docker.io http=Some(false) ca=[] skip=false resolves=true
            "#]],
        );
        check(
            "ca = [\"/etc/own.pem\"]",
            expect![[r#"
            itself http=None ca=["/etc/own.pem"] skip=false resolves=true
        "#]],
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        check(
            "[host.\"https://a/b\"]",
            expect![[r#"
            error: "https://a/b" must be a host, with a port or without, and no path
        "#]],
        );
        check(
            "[host.\"https://a\"]\noverride_path = true",
            expect![[r#"
            error: https://a: "override_path" is not supported, or not of this type
        "#]],
        );
        check(
            "server = 3",
            expect![[r#"
            error: server must be a URL
        "#]],
        );
    }
}
