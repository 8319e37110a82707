//! What is made before the threads are, for each of them one. Knows not what it is.

use std::sync::{Mutex, PoisonError};

/// What every thread has one of; each takes its own, once.
pub(crate) struct OnePerThread<T: 'static>(&'static [Mutex<Option<T>>]);

impl<T> Clone for OnePerThread<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OnePerThread<T> {}

impl<T> OnePerThread<T> {
    /// One for each thread, in their order; for as long as the process lives.
    pub(crate) fn of(all: impl Iterator<Item = T>) -> Self {
        OnePerThread(Vec::leak(all.map(|one| Mutex::new(Some(one))).collect()))
    }

    /// A thread's; `None`: it has taken it before.
    pub(crate) fn take(self, thread: usize) -> Option<T> {
        // No panic can poison it: they abort.
        self.0.get(thread)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// For how many threads there is one.
    #[cfg(feature = "links")]
    pub(crate) fn threads(self) -> usize {
        self.0.len()
    }
}
