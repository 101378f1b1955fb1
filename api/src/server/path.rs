//! Which resource, object and subresource a path is about. Pure.

/// What `/api/v1/…` or `/apis/<group>/<version>/…` names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    /// Empty at the cluster scope and across all namespaces.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What comes after `…/proxy`, as it was sent: empty or with its leading slash.
    pub(crate) beyond: Option<String>,
}

impl Target {
    /// True if the request goes on to somebody else.
    pub(crate) fn is_proxied(&self) -> bool {
        self.beyond.is_some()
    }
}

/// Reads a path; `None` if it names no resource.
pub(crate) fn parse(path: &str) -> Option<Target> {
    match proxied(path) {
        Some((own, beyond)) => {
            let mut target = parse_own(own)?;
            target.beyond = Some(beyond.to_owned());
            Some(target)
        }
        None => parse_own(path),
    }
}

/// Splits the path of a proxied request: up to `proxy`, and what comes after it.
fn proxied(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/api/v1/")?;
    let mut segments = rest.split('/');
    let resource = match segments.next()? {
        "namespaces" => {
            segments.next()?;
            segments.next()?
        }
        other => other,
    };
    if !matches!(resource, "nodes" | "pods" | "services") {
        return None;
    }
    segments.next()?;
    if segments.next()? != "proxy" {
        return None;
    }
    let beyond: usize = segments.map(|segment| segment.len() + 1).sum();
    Some(path.split_at(path.len() - beyond))
}

fn parse_own(path: &str) -> Option<Target> {
    let segments: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(decode_percent)
        .collect::<Option<_>>()?;
    let mut segments = segments.into_iter().peekable();
    let mut target = Target::default();
    match segments.next()?.as_str() {
        "api" => {}
        "apis" => target.group = segments.next()?,
        _ => return None,
    }
    target.version = segments.next()?;
    let mut rest: Vec<String> = segments.collect();
    // `namespaces/<n>`, `namespaces/<n>/status` and `/finalize` are about the Namespace itself.
    let in_namespace = rest.len() > 2
        && rest[0] == "namespaces"
        && !(rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"));
    if in_namespace {
        target.namespace = rest.remove(1);
        rest.remove(0);
    }
    let mut rest = rest.into_iter();
    target.plural = rest.next()?;
    target.name = rest.next();
    target.subresource = rest.next();
    let hollow = [&target.name, &target.subresource]
        .iter()
        .any(|text| text.as_deref() == Some(""))
        || target.plural.is_empty()
        || (in_namespace && target.namespace.is_empty());
    let whole = rest.next().is_none() && !hollow;
    whole.then_some(target)
}

/// Undoes percent-encoding of a segment; `None` also if it hides a slash.
fn decode_percent(segment: &str) -> Option<String> {
    decode_percent_all(segment).filter(|text| segment.len() == text.len() || !text.contains('/'))
}

/// Undoes percent-encoding; `None` if it is broken, or hides bytes that are no text.
pub(crate) fn decode_percent_all(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Expect) {
        let text = parse(path).map_or_else(
            || "nothing".to_owned(),
            |target| {
                format!(
                    "{}/{} {} ns={} name={} sub={}",
                    target.group,
                    target.version,
                    target.plural,
                    target.namespace,
                    target.name.unwrap_or_default(),
                    target.subresource.unwrap_or_default()
                )
            },
        );
        expected.assert_eq(&text);
    }

    #[test]
    fn paths_name_resources() {
        check("/api/v1/pods", expect!["/v1 pods ns= name= sub="]);
        check(
            "/api/v1/nodes/n1/status",
            expect!["/v1 nodes ns= name=n1 sub=status"],
        );
        check(
            "/api/v1/namespaces",
            expect!["/v1 namespaces ns= name= sub="],
        );
        check(
            "/api/v1/namespaces/a",
            expect!["/v1 namespaces ns= name=a sub="],
        );
        check(
            "/api/v1/namespaces/a/finalize",
            expect!["/v1 namespaces ns= name=a sub=finalize"],
        );
        check(
            "/api/v1/namespaces/a/pods",
            expect!["/v1 pods ns=a name= sub="],
        );
        check(
            "/api/v1/namespaces/a/pods/p/log",
            expect!["/v1 pods ns=a name=p sub=log"],
        );
        check(
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            expect!["apps/v1 deployments ns=a name=d sub=scale"],
        );
        check(
            "/api/v1/nodes/a%3Ab",
            expect!["/v1 nodes ns= name=a:b sub="],
        );
    }

    #[test]
    fn what_comes_after_proxy_is_left_as_it_is() {
        for (path, name, beyond) in [
            ("/api/v1/namespaces/a/services/web/proxy", "web", ""),
            (
                "/api/v1/namespaces/a/services/http:web:80/proxy/",
                "http:web:80",
                "/",
            ),
            (
                "/api/v1/namespaces/a/pods/p:8080/proxy/x//y%2Fz/",
                "p:8080",
                "/x//y%2Fz/",
            ),
            ("/api/v1/nodes/n1/proxy/metrics", "n1", "/metrics"),
        ] {
            let target = parse(path).expect("it names something");
            assert_eq!(target.name.as_deref(), Some(name), "{path}");
            assert_eq!(target.subresource.as_deref(), Some("proxy"), "{path}");
            assert_eq!(target.beyond.as_deref(), Some(beyond), "{path}");
        }
        for path in [
            "/api/v1/namespaces/proxy",
            "/api/v1/namespaces/a/pods/proxy",
            "/api/v1/namespaces/a/configmaps/c/proxy/x",
        ] {
            assert!(
                parse(path).is_none_or(|target| !target.is_proxied()),
                "{path}"
            );
        }
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "/",
            "/api",
            "/apis/apps",
            "/metrics",
            "/api/v1/namespaces//pods",
            "/api/v1//",
            "/api/v1/pods/a/b/c/d",
            "/api/v1/pods/a%2Fb",
            "/api/v1/pods/a%zz",
            "/api/v1/pods/%ff",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
