//! What every control loop is made of: [`key`], the name of an object; [`queue`], which brings keys to those who
//! reconcile them; [`error`], why a reconcile stopped, and the deadline of every request; [`metrics`] of the queues.
//!
//! Knows no kind of objects.

pub mod error;
pub mod key;
pub mod metrics;
pub mod queue;
