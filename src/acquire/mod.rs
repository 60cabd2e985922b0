//! An acquire under way: what drives the machine, and how long it waits.

#[cfg(feature = "tokio")]
pub(crate) mod async_acquire;
pub(crate) mod backoff;
pub(crate) mod cancel;
pub(crate) mod driver;
pub(crate) mod wait;
pub(crate) mod wait_queue;
