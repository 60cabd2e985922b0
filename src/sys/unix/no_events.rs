//! Events of one file, where the system reports none: the listener checks after pauses.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// There are none.
#[derive(Debug)]
pub(super) enum Events {}

impl Events {
    /// Always fails.
    pub(super) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn watch(&mut self, _: &Path, _: &File) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(super) fn take(&mut self) -> io::Result<bool> {
        match *self {}
    }
}
