//! The files of a volume that is made of objects, as they are to be. Pure.
//!
//! Keys, items, modes and messages follow Kubernetes: without `items` every key is a file, with them only those are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::KeyToPath;

/// The mode of files where the volume says none.
pub(crate) const DEFAULT_MODE: u32 = 0o644;
/// Longest path, and longest name in one, as the kernel has them.
const LONGEST_PATH: usize = 4_096;
const LONGEST_NAME: usize = 255;

/// One file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    /// `None`: this process' user.
    pub(crate) owner: Option<u32>,
}

/// Files by their path below the volume.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Payload {
    files: BTreeMap<String, File>,
    /// The group of all of them, which may read them.
    group: Option<u32>,
}

/// What a ConfigMap or a Secret holds.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) entries: BTreeMap<String, Vec<u8>>,
    /// It never changes: nobody needs to look again.
    pub(crate) immutable: bool,
}

/// Which kind of object a file comes from, for messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmap",
            Kind::Secret => "secret",
        }
    }
}

impl Payload {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Adds a file; of two at one path the later stays, as in Kubernetes.
    ///
    /// # Errors
    /// The path would lead outside the volume, or is one of the volume's own.
    pub(crate) fn put(&mut self, path: &str, data: Vec<u8>, mode: u32) -> Result<(), String> {
        self.put_for(None, path, data, mode)
    }

    /// Adds a file that is a certain user's.
    ///
    /// # Errors
    /// As [`Payload::put`].
    pub(crate) fn put_for(
        &mut self,
        owner: Option<u32>,
        path: &str,
        data: Vec<u8>,
        mode: u32,
    ) -> Result<(), String> {
        let path = checked(path)?;
        // What the group is given, whoever made the volume.
        let mode = mode | self.group.map_or(0, |_| 0o440);
        self.files.insert(path, File { data, mode, owner });
        Ok(())
    }

    /// No files, which are to be of that group.
    pub(crate) fn of_group(group: Option<u32>) -> Payload {
        Payload {
            group,
            ..Payload::default()
        }
    }

    /// The group of all files.
    pub(crate) fn group(&self) -> Option<u32> {
        self.group
    }

    /// Adds the entries of an object that `items` choose; all of them if there are none.
    ///
    /// # Errors
    /// A key that is not there, unless `optional`; a path that is none.
    pub(crate) fn put_entries(
        &mut self,
        kind: Kind,
        contents: &Contents,
        items: Option<&[KeyToPath]>,
        optional: bool,
        default_mode: u32,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, value) in &contents.entries {
                self.put(key, value.clone(), default_mode)?;
            }
            return Ok(());
        };
        for item in items {
            let Some(value) = contents.entries.get(&item.key) else {
                if optional {
                    continue;
                }
                return Err(match kind {
                    Kind::ConfigMap => {
                        format!("configmap references non-existent config key: {}", item.key)
                    }
                    Kind::Secret => format!("references non-existent secret key: {}", item.key),
                });
            };
            self.put(&item.path, value.clone(), mode(item.mode, default_mode))?;
        }
        Ok(())
    }
}

/// A mode as the API has it, or the default.
pub(crate) fn mode(given: Option<i32>, default: u32) -> u32 {
    given
        .and_then(|mode| u32::try_from(mode).ok())
        .map_or(default, |mode| mode & 0o777)
}

/// A relative path in normal form, which stays below where it starts and is none of the volume's own.
fn checked(path: &str) -> Result<String, String> {
    let invalid = |why: &str| Err(format!("invalid path {path:?}: {why}"));
    if path.starts_with('/') {
        return invalid("must be a relative path");
    }
    if path.len() > LONGEST_PATH {
        return invalid("must not be longer than 4096 bytes");
    }
    let steps: Vec<&str> = path
        .split('/')
        .filter(|step| !matches!(*step, "" | "."))
        .collect();
    if steps.contains(&"..") {
        return invalid("must not contain '..'");
    }
    let Some(first) = steps.first() else {
        return invalid("must name a file");
    };
    if first.starts_with("..") {
        return invalid("must not start with '..'");
    }
    if steps.iter().any(|step| step.len() > LONGEST_NAME) {
        return invalid("must not have a name longer than 255 bytes");
    }
    if path.contains('\0') {
        return invalid("must not contain a zero byte");
    }
    Ok(steps.join("/"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn contents(entries: &[(&str, &str)]) -> Contents {
        let entries = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Contents {
            entries: entries.collect(),
            immutable: false,
        }
    }

    #[track_caller]
    fn check(kind: Kind, items: &str, optional: bool, expect: Expect) {
        let contents = contents(&[("a", "1"), ("b.conf", "2")]);
        let items: Option<Vec<KeyToPath>> = serde_json::from_str(items).expect("items");
        let mut payload = Payload::default();
        let outcome =
            payload.put_entries(kind, &contents, items.as_deref(), optional, DEFAULT_MODE);
        let mut text = String::new();
        for (path, file) in payload.iter() {
            text += &format!(
                "{path} {:o} {}\n",
                file.mode,
                String::from_utf8_lossy(&file.data)
            );
        }
        if let Err(message) = outcome {
            text += &format!("{message}\n");
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn every_key_is_a_file_unless_items_choose() {
        check(
            Kind::ConfigMap,
            "null",
            false,
            expect![[r#"
                a 644 1
                b.conf 644 2
            "#]],
        );
        check(
            Kind::Secret,
            r#"[{"key": "a", "path": "x/./y"}, {"key": "b.conf", "path": "b", "mode": 256}]"#,
            false,
            expect![[r#"
                b 400 2
                x/y 644 1
            "#]],
        );
    }

    #[test]
    fn a_key_that_is_not_there_is_an_error_unless_it_is_optional() {
        let items = r#"[{"key": "c", "path": "c"}, {"key": "a", "path": "a"}]"#;
        check(
            Kind::ConfigMap,
            items,
            false,
            expect![[r#"
                configmap references non-existent config key: c
            "#]],
        );
        check(
            Kind::Secret,
            items,
            false,
            expect![[r#"
                references non-existent secret key: c
            "#]],
        );
        check(
            Kind::Secret,
            items,
            true,
            expect![[r#"
                a 644 1
            "#]],
        );
    }

    #[test]
    fn a_path_stays_in_its_volume_and_off_the_volumes_own_names() {
        for path in [
            "",
            "/",
            ".",
            "/a",
            "..",
            "../a",
            "a/../../b",
            "..data",
            "..x/a",
            "a\0b",
        ] {
            assert!(checked(path).is_err(), "{path:?}");
        }
        assert_eq!(checked("a//b/./c/").as_deref(), Ok("a/b/c"));
        assert_eq!(checked("a/..b").as_deref(), Ok("a/..b"));
    }

    proptest! {
        #[test]
        fn no_accepted_path_leads_outside(path in "[./a]{0,12}|\\PC{0,12}") {
            if let Ok(path) = checked(&path) {
                prop_assert!(!path.is_empty());
                prop_assert!(!path.starts_with("..") && !path.starts_with('/'));
                prop_assert!(path.split('/').all(|step| !matches!(step, "" | "." | "..")));
            }
        }
    }
}
