//! The group autoscaling: HorizontalPodAutoscaler, in two versions of one stored object.
//!
//! - `v2`: the kind as it is stored. `v1`: its older form.
//! - `conversion`: between the two. `metrics`: what is wrong with a metric, and how it is shown.

mod conversion;
mod metrics;
mod v1;
mod v2;

pub(crate) use v1::HorizontalPodAutoscaler as HorizontalPodAutoscalerV1;
pub(crate) use v2::HorizontalPodAutoscaler;
