//! Which repositories there are, a page at a time: walked in the order of their names, no further than the page.

use std::collections::BTreeSet;

use object_store::path::Path;

use crate::{error::Error, name::Repository, registry::Inner, storage};

impl Inner {
    /// The repositories after `last` that are `wanted`, in order: `count`, and one more if there are more. What is not
    /// wanted is not looked into.
    pub(crate) async fn catalog(
        &self,
        last: &str,
        count: usize,
        wanted: impl Fn(&Repository) -> bool,
    ) -> Result<Vec<Repository>, Error> {
        let mut found = Vec::new();
        // What is to be looked at, in order: a name, and with a final slash what is below it. Below `a/` nothing comes
        // before it, so that what is added is never late.
        let mut ahead: BTreeSet<String> = self
            .namespaces()
            .await?
            .into_iter()
            .map(|namespace| format!("{namespace}/"))
            .collect();
        while let Some(place) = ahead.pop_first() {
            if let Some(above) = place.strip_suffix('/') {
                // Nothing below comes after `last`.
                if place.as_str() < last && !last.starts_with(&place) {
                    continue;
                }
                if !above.contains('/') && !self.is_current(above).await? {
                    continue;
                }
                let below = Path::from(format!("{}/{above}", storage::repositories()));
                for name in self.storage.directories(&below).await? {
                    // No part of a repository's name begins so.
                    if !name.starts_with('_') {
                        ahead.insert(format!("{place}{name}"));
                        ahead.insert(format!("{place}{name}/"));
                    }
                }
                continue;
            }
            if place.as_str() <= last {
                continue;
            }
            let Ok(repository) = Repository::parse(&place) else {
                continue;
            };
            if wanted(&repository) && self.is_repository(&repository).await? {
                found.push(repository);
                if found.len() > count {
                    break;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{Storage, in_memory::registry};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pages_have_every_repository_once_and_in_order(
            names in proptest::collection::btree_set("a(/[ab](-[ab]|[ab])?){1,3}", 0..12),
            hidden in proptest::collection::btree_set("a/[ab]", 0..2),
            count in 1_usize..5,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let registry = registry(Storage::in_memory(), None, Duration::from_secs(60));
                for name in &names {
                    let repository = Repository::parse(name).unwrap();
                    registry.0.own(&repository).await.unwrap();
                    let link = storage::links(&repository, "_manifests").join("one");
                    registry.0.storage.put(&link, "".into()).await.unwrap();
                }
                let wanted = |repository: &Repository| !hidden.contains(repository.as_str());
                let mut seen: Vec<String> = Vec::new();
                loop {
                    let last = seen.last().cloned().unwrap_or_default();
                    let page = registry.0.catalog(&last, count, wanted).await.unwrap();
                    let more = page.len() > count;
                    seen.extend(page.iter().take(count).map(ToString::to_string));
                    if !more {
                        break;
                    }
                }
                let expected: Vec<String> = names.difference(&hidden).cloned().collect();
                prop_assert_eq!(seen, expected);
                Ok::<_, TestCaseError>(())
            })?;
        }
    }
}
