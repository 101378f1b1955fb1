//! Names of repositories and tags, as the OCI distribution specification has them. Pure.

use std::fmt;

use crate::digest::Digest;

/// The longest name of a repository that is taken: registries and clients know no longer ones.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A repository: `NAMESPACE/NAME[/…]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Repository {
    text: String,
    /// Where the first slash is.
    slash: usize,
}

impl Repository {
    /// Reads a name.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Repository, String> {
        if text.len() > MAX_NAME {
            return Err(format!(
                "the name is {} bytes; at most {MAX_NAME} are taken",
                text.len()
            ));
        }
        for part in text.split('/') {
            if !is_component(part) {
                return Err(format!(
                    "{part:?} in {text:?} must be lower-case letters and digits, with ., _, __ or dashes between them"
                ));
            }
        }
        let Some(slash) = text.find('/') else {
            return Err(format!(
                "{text:?} is in no namespace: repositories are NAMESPACE/NAME"
            ));
        };
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if slash > 63 || !text[..slash].bytes().all(label) {
            return Err(format!("{:?} can be no namespace", &text[..slash]));
        }
        Ok(Repository {
            text: text.to_owned(),
            slash,
        })
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The rest of the name: what a role's `resourceNames` name.
    pub fn name(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// `NAMESPACE/NAME`
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(|byte| word(*byte))
        && bytes.last().is_some_and(|byte| word(*byte));
    let mut separators =
        part.split(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit());
    ends && separators.all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

/// What names a manifest within a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reference {
    /// By its content.
    Digest(Digest),
    /// By a name that may move.
    Tag(String),
}

impl Reference {
    /// Reads a tag or a digest.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Reference, String> {
        if text.contains(':') {
            let digest = text.parse::<Digest>();
            return digest
                .map(Reference::Digest)
                .map_err(|error| error.to_string());
        }
        if is_tag(text) {
            return Ok(Reference::Tag(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no tag: letters, digits, ., _ and -, at most {MAX_TAG}, not beginning with . or -"
        ))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Digest(digest) => digest.fmt(f),
            Reference::Tag(tag) => f.write_str(tag),
        }
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|byte| word(*byte))
        && bytes.iter().all(|byte| word(*byte) || b".-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_in_a_namespace() {
        let parsed = Repository::parse("web/team/app").unwrap();
        assert_eq!((parsed.namespace(), parsed.name()), ("web", "team/app"));
        for right in ["a/b", "a/b.c", "a/b__c", "a/b---c/d", "a-b/0"] {
            assert!(Repository::parse(right).is_ok(), "{right}");
        }
        let long = format!("a/{}", "b".repeat(300));
        for wrong in [
            "", "a", "/a", "a/", "a//b", "a/B", "a/.b", "a/b..c", "a/b._c", "a/b___c", "a/..",
            "a/-b", "a_b/c", "a.b/c", "a/b c", "a/ä", &long,
        ] {
            assert!(Repository::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reference_is_a_tag_or_a_digest() {
        for right in ["latest", "v1.0-rc_2", "_x", "A"] {
            assert_eq!(
                Reference::parse(right),
                Ok(Reference::Tag(right.to_owned()))
            );
        }
        let long = "a".repeat(129);
        for wrong in ["", ".a", "-a", "a b", "sha256:00", "a/b", &long] {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }
}
