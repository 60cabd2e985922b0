//! How to test a program that uses locks: this page has no items of its own.
//!
//! # A directory of the test's own
//!
//! Give the program its [`LockDir`](crate::LockDir) as a value, or set `PORTLOCK_DIR` for a process
//! that a test starts. Then tests neither see each other nor touch the user's locks.
//! `examples/testing.rs` is such a program with its tests.
//!
//! # A lock that is held
//!
//! Acquire it in the test: a second acquire is refused, in the same process too, and names this
//! process.
//!
//! ```
//! # let home = tempfile::tempdir()?;
//! use portlock::{AcquireError, LockDir};
//!
//! let lock = LockDir::at(home.path()).port(5338)?;
//! let _guard = lock.try_acquire()?;
//! let refused = lock.try_acquire();
//! assert!(matches!(refused, Err(AcquireError::Held(held))
//!     if held.holder.as_ref().is_some_and(|holder| holder.pid == std::process::id())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A holder of your choice
//!
//! Write its record. A holder of the old format ([`Holder::new`](crate::Holder::new)) is alive for as
//! long as its process is: that of the test's parent, or of a child that it started.
//!
//! ```
//! # #[cfg(unix)] {
//! # let home = tempfile::tempdir()?;
//! use portlock::{AcquireError, Holder, LockDir};
//!
//! let lock = LockDir::at(home.path()).port(5338)?;
//! let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
//! let mut holder = Holder::new(child.id());
//! holder.command = Some("node".into());
//! std::fs::write(lock.path(), holder.to_bytes())?;
//! let refusal = lock.try_acquire().expect_err("its holder is alive").to_string();
//! assert!(refusal.starts_with(&format!("port 5338 is locked by pid {} (node", child.id())));
//!
//! // From here on the lock is stale, and the next acquire reclaims it.
//! child.kill()?;
//! child.wait()?;
//! let guard = lock.try_acquire()?;
//! assert!(guard.recovered_from().is_some());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A stale lock
//!
//! The record of a process of an earlier boot is stale on any system, whatever its pid is.
//!
//! ```
//! # let home = tempfile::tempdir()?;
//! use portlock::{Holder, LockDir};
//!
//! let lock = LockDir::at(home.path()).port(5338)?;
//! let mut dead = Holder::of_this_process();
//! dead.boot = Some("an earlier boot".into());
//! std::fs::write(lock.path(), dead.to_bytes())?;
//! # if dead.host.is_some() && !cfg!(windows) {
//! assert!(lock.try_acquire()?.recovered_from().is_some());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A refusal without any file
//!
//! For code that branches on a refusal, or shows one.
//!
//! ```
//! use portlock::{AcquireError, Held, Holder, LockDir, Refusal, UnknownReason};
//!
//! let lock = LockDir::at("/run/my-app").port(5338)?;
//! let unknown = Refusal::Unknown(UnknownReason::OtherMachine);
//! let error = AcquireError::Held(Held::new(&lock, Some(Holder::new(20211)), unknown));
//! assert!(error.is_held());
//! assert!(error.to_string().contains("may be locked on another machine"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
