//! Work that waits for the disk, done where that does no harm.
//!
//! No such work may wait for what another task has to do: where there is one thread
//! alone it is done at once, and that task would never run.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    Files,
    error::{FilesError, Result},
};
use crate::environment;

/// Work and what comes of it. It is begun when somebody waits for it, and goes on
/// although nobody does any more.
pub(super) struct Work<T>(BoxFuture<'static, Result<T>>);

impl Files {
    /// Has something done that blocks.
    ///
    /// # Errors
    /// Those of `work`, and [`FilesError::Stopping`] when everything ends first.
    pub(super) fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Work<T> {
        let threads = Arc::clone(&self.inner.options.blocking);
        let done = async move {
            let done = environment::blocking(&*threads, work).await;
            done.unwrap_or(Err(FilesError::Stopping))
        };
        Work(done.boxed())
    }
}

impl<T> Future for Work<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(context)
    }
}

impl<T> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}
