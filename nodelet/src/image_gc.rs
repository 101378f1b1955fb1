//! Frees disk space of images that no pod uses, as the kubelet does.
//!
//! When the file system is fuller than the high threshold, images go until it is below the low one: those
//! that were used longest ago first, none that a pod names and none that has just come. What a runtime
//! made of them (compiled code) goes with them. Reads pods and images; writes Events about the node.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use runtimes::Image;

use crate::{events::Note, host, pod::worker::Context, pods::Pods};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(300);
/// How long what an unfinished pull left waits for the next one.
const UNFINISHED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Frees images of one node.
pub(crate) struct ImageGc {
    context: Arc<Context>,
    pods: Pods,
    seen: HashMap<String, Seen>,
    failed: bool,
}

/// What is known of an image since the nodelet started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Seen {
    used: Timestamp,
    first: Timestamp,
}

impl ImageGc {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> ImageGc {
        ImageGc {
            context,
            pods,
            seen: HashMap::new(),
            failed: false,
        }
    }

    /// Looks again and again, until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let disk = host::disk(&self.context.config.state_dir);
            let outcome = self.collect((disk.bytes, disk.free_bytes)).await;
            // Once may be bad luck.
            if let Err(message) = &outcome {
                tracing::warn!(message, "free the space of images");
                if self.failed {
                    self.note("ImageGCFailed", message.clone());
                }
            }
            self.failed = outcome.is_err();
        }
    }

    /// Frees what is too much of a disk of (total, available) bytes.
    pub(crate) async fn collect(&mut self, (total, available): (u64, u64)) -> Result<(), String> {
        let images = self
            .context
            .images
            .list()
            .await
            .map_err(|error| error.to_string())?;
        let in_use = self.in_use().await;
        let now = self.context.clock.now();
        self.look(&images, &in_use, now);
        let config = &self.context.config;
        if total == 0 {
            let message = "invalid capacity 0 on image filesystem".to_owned();
            self.note("InvalidDiskCapacity", message.clone());
            return Err(message);
        }
        self.tidy(UNFINISHED_KEPT).await?;
        let free_percent = |percent: u8| total / 100 * u64::from(100 - percent.min(100));
        if available > free_percent(config.image_gc_high_percent) {
            return Ok(());
        }
        let wanted = free_percent(config.image_gc_low_percent).saturating_sub(available);
        let plan = plan(&images, &in_use, &self.seen, now, config.image_min_age);
        let tidied = self.tidy(config.image_min_age).await?;
        let freed = tidied + self.free(plan, wanted.saturating_sub(tidied)).await?;
        if freed < wanted {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
            );
            self.note("FreeDiskSpaceFailed", message.clone());
            return Err(message);
        }
        Ok(())
    }

    /// Frees what no image needs.
    async fn tidy(&self, min_age: Duration) -> Result<u64, String> {
        let tidied = self.context.images.tidy(min_age).await;
        tidied.map_err(|error| error.to_string())
    }

    /// The digests of the images that pods name, by whichever name.
    async fn in_use(&self) -> HashSet<String> {
        let pods = self.pods.list();
        let specs = pods.iter().filter_map(|pod| pod.spec.as_ref());
        let images = specs.flat_map(|spec| {
            let containers = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            let ephemeral = spec.ephemeral_containers.iter().flatten();
            let images = containers.map(|container| &container.image);
            images.chain(ephemeral.map(|container| &container.image))
        });
        let mut references: HashSet<&str> = images.flatten().map(String::as_str).collect();
        let of_functions = self.context.functions.images();
        references.extend(of_functions.iter().map(|image| &**image));
        let mut digests = HashSet::new();
        for reference in references {
            let image = self.context.images.find(reference).await;
            digests.extend(image.map(|image| image.digest));
        }
        digests
    }

    fn look(&mut self, images: &[Image], in_use: &HashSet<String>, now: Timestamp) {
        let present: HashSet<&str> = images
            .iter()
            .map(|image| image.reference.as_str())
            .collect();
        self.seen
            .retain(|reference, _| present.contains(reference.as_str()));
        for image in images {
            let fresh = Seen {
                used: now,
                first: now,
            };
            let seen = self.seen.entry(image.reference.clone()).or_insert(fresh);
            if in_use.contains(&image.digest) {
                seen.used = now;
            }
        }
    }

    async fn free(&self, plan: Vec<Image>, wanted: u64) -> Result<u64, String> {
        let mut freed = 0;
        for image in plan {
            if freed >= wanted {
                break;
            }
            let images = &self.context.images;
            freed += images
                .remove(&image.reference)
                .await
                .map_err(|error| error.to_string())?;
            let left = images.list().await.map_err(|error| error.to_string())?;
            for runtime in &self.context.runtimes {
                let made = runtime.keep_only(&left).await;
                freed += made.map_err(|error| error.to_string())?;
            }
            tracing::info!(image = image.reference, "removed an image to free space");
        }
        Ok(freed)
    }

    fn note(&self, reason: &'static str, message: String) {
        let name = &self.context.config.node_name;
        self.context.events.send(Note {
            kind: "Node",
            namespace: String::new(),
            name: name.clone(),
            uid: name.clone(),
            field: None,
            warning: true,
            reason,
            message,
        });
    }
}

/// The images that may go, those to go first at the front. Pure.
fn plan(
    images: &[Image],
    in_use: &HashSet<String>,
    seen: &HashMap<String, Seen>,
    now: Timestamp,
    min_age: Duration,
) -> Vec<Image> {
    let old = |seen: &Seen| {
        Duration::try_from(now.duration_since(seen.first)).is_ok_and(|age| age >= min_age)
    };
    let mut unused: Vec<(Seen, &Image)> = images
        .iter()
        .filter(|image| !in_use.contains(&image.digest))
        .filter_map(|image| Some((*seen.get(&image.reference)?, image)))
        .filter(|(seen, _)| old(seen))
        .collect();
    unused.sort_by_key(|(seen, image)| (*seen, image.reference.clone()));
    unused.into_iter().map(|(_, image)| image.clone()).collect()
}

#[cfg(test)]
mod tests {
    use runtimes::fake::FakeImages;

    use super::*;

    #[test]
    fn images_go_that_were_used_longest_ago_and_none_that_is_used_or_new() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let images: Vec<Image> = ["a", "b", "c", "d"].map(FakeImages::image).into();
        let seen = [("a", 500, 0), ("b", 100, 0), ("c", 600, 0), ("d", 950, 950)];
        let seen = seen.map(|(name, used, first)| {
            (
                name.to_owned(),
                Seen {
                    used: at(used),
                    first: at(first),
                },
            )
        });
        let in_use = HashSet::from([FakeImages::image("c").digest]);
        let planned = plan(
            &images,
            &in_use,
            &seen.into(),
            at(1000),
            Duration::from_secs(120),
        );
        let planned: Vec<&str> = planned
            .iter()
            .map(|image| image.reference.as_str())
            .collect();
        assert_eq!(planned, ["b", "a"]);
    }
}
