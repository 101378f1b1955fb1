//! The paths of one host: exact ones first, then the longest prefix, element by element.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    ops::BitOrAssign,
};

use http::Method;

use super::claim::{Claim, Conflict, Route, To};

/// Methods as bits; those that are not of RFC 9110 are one.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Methods(u16);

const NAMED: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];
const OTHER: u16 = 1 << 9;
const ALL: u16 = (1 << 10) - 1;

impl Methods {
    /// The methods of a route; none named is all.
    pub(crate) fn named<S: AsRef<str>>(names: &[S]) -> Self {
        if names.is_empty() {
            return Self(ALL);
        }
        Self(
            names
                .iter()
                .fold(0, |bits, name| bits | Self::bit(name.as_ref())),
        )
    }

    fn bit(name: &str) -> u16 {
        let place = NAMED.iter().position(|named| *named == name);
        place.map_or(OTHER, |place| 1 << place)
    }

    pub(crate) fn contains(self, method: &Method) -> bool {
        self.0 == ALL || self.0 & Self::bit(method.as_str()) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOrAssign for Methods {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMED.iter().enumerate();
        let mine: Vec<&str> = named
            .filter(|(place, _)| self.0 & (1 << place) != 0)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&mine.join(", "))
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Default)]
struct Rules {
    exact: Vec<(Methods, To)>,
    prefix: Vec<(Methods, To)>,
}

/// What is known of one host.
#[derive(Clone, Default)]
pub(crate) struct Paths {
    rules: HashMap<Box<str>, Rules>,
    /// Whose they are.
    namespaces: BTreeSet<Box<str>>,
}

impl Paths {
    /// Makes them of what is claimed, the eldest claim first; a claim to what is another's goes without.
    pub(crate) fn new<'a>(claims: impl Iterator<Item = &'a Claim>) -> (Self, Vec<Conflict>) {
        let mut taken: HashMap<(&str, bool), Vec<(Methods, &Claim)>> = HashMap::new();
        let mut paths = Self::default();
        let mut conflicts = Vec::new();
        for claim in claims {
            let Route {
                path,
                exact,
                methods,
            } = &claim.route;
            let held = taken.entry((path, *exact)).or_default();
            let holder = held
                .iter()
                .find(|(other, holder)| other.overlaps(*methods) && holder.owner != claim.owner);
            if let Some((_, holder)) = holder {
                conflicts.push(Conflict::new(claim, holder));
                continue;
            }
            held.push((*methods, claim));
            let namespace = claim.owner.name.namespace.as_str();
            if !paths.namespaces.contains(namespace) {
                paths.namespaces.insert(namespace.into());
            }
            let rules = paths.rules.entry(path.clone()).or_default();
            match exact {
                true => rules.exact.push((*methods, claim.to.clone())),
                false => rules.prefix.push((*methods, claim.to.clone())),
            }
        }
        (paths, conflicts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a namespace has any of them.
    pub(crate) fn is_of(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// The route of a path, or the methods that it has routes for.
    pub(crate) fn find(&self, path: &str, method: &Method) -> Result<&To, Methods> {
        let mut others = Methods::default();
        if self.rules.is_empty() {
            return Err(others);
        }
        if let Some(rules) = self.rules.get(path)
            && let Some(to) = pick(&rules.exact, method, &mut others)
        {
            return Ok(to);
        }
        let mut rest = path;
        loop {
            if let Some(rules) = self.rules.get(rest)
                && let Some(to) = pick(&rules.prefix, method, &mut others)
            {
                return Ok(to);
            }
            match rest.rfind('/') {
                Some(end) => rest = &rest[..end],
                None => return Err(others),
            }
        }
    }
}

fn pick<'a>(rules: &'a [(Methods, To)], method: &Method, others: &mut Methods) -> Option<&'a To> {
    for (methods, to) in rules {
        if methods.contains(method) {
            return Some(to);
        }
        *others |= *methods;
    }
    None
}

/// A prefix as it is kept: `/a/` is `/a`, and `/` is empty.
pub(crate) fn prefix(path: &str) -> &str {
    path.trim_end_matches('/')
}
