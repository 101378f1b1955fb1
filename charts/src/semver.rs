//! Versions and ranges of versions, as Masterminds/semver has them: for charts, dependencies and repositories.

pub use crate::functions::{constraints::Constraints, versions::Version};

/// Whether a version is within a range; what is no range contains nothing, and what is no version is nowhere.
pub fn is_compatible(range: &str, version: &str) -> bool {
    match (Constraints::parse(range), Version::parse(version)) {
        (Ok(range), Ok(version)) => range.allow(&version),
        _ => false,
    }
}
