//! Names of stored values: group, resource, namespace and name in one ordered string.
//!
//! The text is `<group>/<resource>/<namespace>/<name>`; the core group and the namespace of a
//! cluster-scoped object are empty segments (`/nodes//n1`). Order is byte order, so a resource, and
//! a namespace within it, is one contiguous range.

use std::sync::Arc;

/// The name of one stored value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(Arc<str>);

/// A resource of a group: what a watch, a list or a cache table is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ResourceKey {
    /// API group; empty for the core group.
    pub group: Arc<str>,
    /// Plural resource, as in the path: `pods`.
    pub resource: Arc<str>,
}

impl ResourceKey {
    /// Names a resource.
    pub fn new(group: &str, resource: &str) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }

    /// The prefix that all of its keys share, those of one namespace if one is given.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}/{}/{namespace}/", self.group, self.resource),
            None => format!("{}/{}/", self.group, self.resource),
        }
    }

    /// The key of one object; `namespace` is empty for a cluster-scoped one.
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        Key(format!("{}/{}/{namespace}/{name}", self.group, self.resource).into())
    }
}

/// The text after every key that starts with `prefix`, so that `prefix <= key < end` is its range.
pub fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Skips the surrogates, which no text has.
        if let Some(next) = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32) {
            end.push(next);
            return end;
        }
    }
    char::MAX.to_string()
}

impl Key {
    /// Reads a key back from its text; `None` if it does not have four segments.
    pub fn parse(text: &str) -> Option<Self> {
        (text.split('/').count() == 4).then(|| Self(text.into()))
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource it belongs to.
    pub fn resource_key(&self) -> ResourceKey {
        ResourceKey::new(self.segment(0), self.segment(1))
    }

    /// The prefix that every key of its resource shares: `apps/deployments/`.
    pub fn resource_prefix(&self) -> &str {
        Self::resource_prefix_of(&self.0)
    }

    /// The same of a key's text or the beginning of one.
    pub(crate) fn resource_prefix_of(text: &str) -> &str {
        let end = text.match_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
        &text[..end]
    }

    /// Empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        self.segment(2)
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.segment(3)
    }

    fn segment(&self, index: usize) -> &str {
        self.0.split('/').nth(index).unwrap_or_default()
    }
}

/// A key orders, compares and hashes as its text does, so a map of keys is searched by a prefix.
impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
