//! Opens the object store that the operator names.

use std::{path::Path as File, sync::Arc};

use object_store::{
    ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore,
};

use super::Storage;

impl Storage {
    /// A directory, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(root: &File) -> Result<Storage, String> {
        let in_words = |error: &dyn std::fmt::Display| format!("{}: {error}", root.display());
        std::fs::create_dir_all(root).map_err(|error| in_words(&error))?;
        let store = LocalFileSystem::new_with_prefix(root).map_err(|error| in_words(&error))?;
        Ok(Storage {
            store: Arc::new(store.with_fsync(true).with_automatic_cleanup(true)),
            root: Some(Arc::new(root.to_owned())),
            shown: root.display().to_string().into(),
        })
    }

    /// `s3://BUCKET[/PREFIX]`: an S3-compatible bucket, with the endpoint, region and account that the environment
    /// has (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, …). Any other text is a directory.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn open(place: &str) -> Result<Storage, String> {
        let Some(rest) = place.strip_prefix("s3://") else {
            return match place.split_once("://") {
                Some((scheme, _)) => Err(format!(
                    "{place:?}: {scheme}:// is not known: a directory, or s3://BUCKET/PREFIX"
                )),
                None => Storage::directory(File::new(place)),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("{place:?} names no bucket: s3://BUCKET/PREFIX"));
        }
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .build()
            .map_err(|error| format!("{place}: {error}"))?;
        let store: Arc<dyn ObjectStore> = match prefix.trim_matches('/') {
            "" => Arc::new(store),
            prefix => Arc::new(PrefixStore::new(store, Path::from(prefix))),
        };
        Ok(Storage {
            store,
            root: None,
            shown: place.into(),
        })
    }
}

#[cfg(test)]
impl Storage {
    /// Shared by its clones, as a bucket is by processes.
    pub(crate) fn in_memory() -> Storage {
        Storage {
            store: Arc::new(object_store::memory::InMemory::new()),
            root: None,
            shown: "memory".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_directory_or_a_bucket() {
        let error = |place: &str| Storage::open(place).err().unwrap();
        assert_eq!(
            error("gs://a"),
            "\"gs://a\": gs:// is not known: a directory, or s3://BUCKET/PREFIX"
        );
        assert_eq!(
            error("s3:///a"),
            "\"s3:///a\" names no bucket: s3://BUCKET/PREFIX"
        );
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a/b");
        assert!(Storage::open(place.to_str().unwrap()).unwrap().is_local());
    }
}
