//! When an object that was applied is ready: the judgement of releases of charts, for whoever applies anything else.

pub use charts::release::readiness::{Progress, progress, waiting_reason};
