//! Fingerprints: 128 bits of a hash identify a state.
//!
//! Two different states share one only by chance: among a thousand million states with a
//! probability of 10^-21. `tests/search.rs` compares the counts with a search that keeps the
//! states.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use twox_hash::XxHash3_128;

use crate::scenario::state::State;

pub type Fingerprint = u128;

pub fn fingerprint(state: &State) -> Fingerprint {
    let mut bytes = Bytes { all: [0; ROOM], end: 0 };
    state.hash(&mut bytes);
    XxHash3_128::oneshot(&bytes.all[..bytes.end])
}

/// More bytes than the largest state has.
const ROOM: usize = 768;

/// Collects the bytes that a value feeds to a hasher. Different values feed different bytes.
struct Bytes {
    all: [u8; ROOM],
    end: usize,
}

impl Bytes {
    fn one(&mut self, byte: u8) {
        self.all[self.end] = byte;
        self.end += 1;
    }
}

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.all[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn write_u8(&mut self, byte: u8) {
        self.one(byte);
    }

    /// Which variant of an enum it is.
    fn write_isize(&mut self, variant: isize) {
        self.one(u8::try_from(variant).expect("no enum of the model has 256 variants"));
    }

    /// How long a slice is.
    fn write_usize(&mut self, length: usize) {
        self.one(u8::try_from(length).expect("no list of a scenario has 256 entries"));
    }

    fn finish(&self) -> u64 {
        unreachable!("the bytes are hashed all at once")
    }
}

/// A hash of a fingerprint, which is a part of it.
#[derive(Default)]
pub struct Part(u64);

impl Hasher for Part {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is one number")
    }

    fn write_u128(&mut self, fingerprint: Fingerprint) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub type ByPart = BuildHasherDefault<Part>;
