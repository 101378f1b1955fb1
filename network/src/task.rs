//! Tasks that end with their owner.

use tokio_util::task::AbortOnDropHandle;

/// Runs a future as a task of its own, aborted when the handle is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "the handle is the owner that the rule asks for"
)]
pub(crate) fn owned<F>(future: F) -> AbortOnDropHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(future))
}
