//! Names that live as long as the process: groups, versions, kinds and fields of custom resources.
//!
//! Everywhere a name is `&'static str`, as those of the built-in kinds are. A custom one is kept once
//! for each different text, however often its definition changes, and never given back: a few hundred
//! bytes for a kind that nobody ever defined before. Texts that are no names (descriptions, messages)
//! are never interned, so a definition cannot make this grow by more than its names.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);

/// The text, kept.
pub(crate) fn text(text: &str) -> &'static str {
    let mut known = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(Box::from(text));
    known.insert(kept);
    kept
}

/// The list of texts, kept.
pub(crate) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> &'static [&'static str] {
    let texts: Vec<_> = texts.into_iter().map(text).collect();
    let mut known = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(texts.as_slice()) {
        return found;
    }
    let kept: &'static [&'static str] = Box::leak(texts.into_boxed_slice());
    known.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once() {
        let made = ["cron", "tabs"].concat();
        assert!(std::ptr::eq(text("crontabs"), text(&made)));
        assert!(std::ptr::eq(list(["a", "b"]), list(["a", "b"])));
        assert_ne!(list(["a", "b"]), list(["a"]));
    }
}
