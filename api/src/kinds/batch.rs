//! The group batch: pods that do something and end.
//!
//! - `job`, `cron_job`: the kinds. `specification`: what is wrong with what a Job should do.
//! - `failure_policy`: what is wrong with its rules for failures.

pub(crate) mod cron_job;
mod failure_policy;
mod job;
mod specification;

pub(crate) use cron_job::CronJob;
pub(crate) use job::Job;
