//! Where the author of a record ran, seen from this process, and what proves its death: the premises
//! of the judge, read off two records and the filesystem. Pure; the systems differ in what they fill in.
//!
//! | the record says | it is | its death is proved by |
//! | --- | --- | --- |
//! | none of our keys | the old format | its pid, by number and time |
//! | our boot, our pid namespace | here | its pid and start; our kernel lock, if it had one that excludes ours |
//! | our boot, another pid namespace | another namespace | our kernel lock, if it had one that excludes ours |
//! | another boot, our machine and name | an earlier boot | that boot is over |
//! | another boot, on a filesystem of this kernel alone | an earlier boot | that boot is over, or has nothing to do with this file |
//! | another boot, else | another machine | nothing |
//! | no boot, or ours is not known | as far as the filesystem shows | our kernel lock on a filesystem of this kernel alone |
//!
//! An equal name alone proves nothing: many machines are called `localhost`. What remains: clones
//! of a virtual machine share machine, boot and name, and on a shared directory they look like one.

use std::io;

use crate::protocol::{Author, FreeLock, Guarantee, LockDomain, Probe};
use crate::record::Holder;

/// Whose the filesystem of a lock file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// This kernel's alone: no other kernel has it mounted, and all its mounts share their locks.
    OfThisKernel,
    /// Not known to be: a network's, FUSE's, a copy of another directory's file.
    MayBeShared,
}

/// What a probe must find before it may say that the recorded process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identify {
    /// The process that started when the record says.
    ByStart,
    /// Any process with the number: the old format says no more.
    ByNumber,
}

/// The author of `holder` as the process of `me` sees it.
///
/// `device` is that of the lock file, as `me` has it open.
pub(crate) fn author(
    me: &Holder,
    holder: &Holder,
    device: Option<u64>,
    filesystem: impl FnOnce() -> Filesystem,
    probe: impl FnOnce(Identify) -> io::Result<Probe>,
) -> io::Result<Author> {
    let exclusion =
        if holder.kernel_lock { Guarantee::KernelLock } else { Guarantee::ExclusiveCreate };
    if is_old_format(holder) {
        return probe(Identify::ByNumber).map(Author::OldFormat);
    }
    let (Some(their_boot), Some(our_boot)) = (&holder.boot, &me.boot) else {
        return of_unknown_boot(me, holder, exclusion, filesystem(), probe);
    };
    if their_boot != our_boot {
        let is_over = is_this_machine(me, holder) || filesystem() == Filesystem::OfThisKernel;
        return Ok(if is_over { Author::EarlierBoot } else { Author::OtherMachine });
    }
    // Within one boot a device number is one filesystem, for as long as a file of it is open.
    let is_same_device = holder.device.is_some() && holder.device == device;
    let domain = if is_same_device || filesystem() == Filesystem::OfThisKernel {
        LockDomain::Shared
    } else {
        LockDomain::Unknown
    };
    let free = FreeLock::of(exclusion, domain);
    if holder.pid_namespace == me.pid_namespace {
        Ok(Author::Here(free, probe(Identify::ByStart)?))
    } else {
        Ok(Author::OtherNamespace(free))
    }
}

/// One of the two could not find out its boot, or its system has no number for it.
fn of_unknown_boot(
    me: &Holder,
    holder: &Holder,
    exclusion: Guarantee,
    filesystem: Filesystem,
    probe: impl FnOnce(Identify) -> io::Result<Probe>,
) -> io::Result<Author> {
    let domain = match filesystem {
        // Whichever boot it was: this one, whose locks exclude ours, or one that is over.
        Filesystem::OfThisKernel => LockDomain::Shared,
        Filesystem::MayBeShared => LockDomain::Unknown,
    };
    let free = FreeLock::of(exclusion, domain);
    match (&holder.host, &me.host) {
        _ if free == FreeLock::ProvesDeath => Ok(Author::Here(free, probe(Identify::ByStart)?)),
        (Some(theirs), Some(ours)) if theirs != ours => Ok(Author::OtherMachine),
        _ if holder.boot.is_none()
            && me.boot.is_none()
            && holder.pid_namespace == me.pid_namespace =>
        {
            probe(Identify::ByNumber).map(Author::OldFormat)
        }
        _ => Ok(Author::OtherNamespace(free)),
    }
}

fn is_old_format(holder: &Holder) -> bool {
    let Holder { host, machine, boot, pid_namespace, process_start, kernel_lock, device, .. } =
        holder;
    host.is_none()
        && machine.is_none()
        && boot.is_none()
        && pid_namespace.is_none()
        && process_start.is_none()
        && !kernel_lock
        && device.is_none()
}

/// Both the number that the system got when it was installed, which a copied image shares, and the
/// name, which many machines share.
fn is_this_machine(me: &Holder, holder: &Holder) -> bool {
    holder.machine.is_some()
        && holder.machine == me.machine
        && holder.host.is_some()
        && holder.host == me.host
}

/// A digest of the number of a machine, where the system has one, which is not to be shown to others itself (machine-id(5)):
/// FNV-1a, whose 64 bits do not reveal the 128 of the number.
#[cfg_attr(
    not(any(windows, target_os = "linux", target_vendor = "apple", target_os = "freebsd")),
    allow(dead_code)
)]
pub(crate) fn digest(number: &str) -> String {
    let hash = number.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use FreeLock::{ProvesDeath, ProvesNothing};

    const ALIVE: Probe = Probe::Alive;

    fn record() -> Holder {
        let mut record = Holder::new(7);
        record.host = Some("here".into());
        record.machine = Some("a machine".into());
        record.boot = Some("a boot".into());
        record.pid_namespace = Some(1);
        record.process_start = Some(100);
        record.kernel_lock = true;
        record.device = Some(42);
        record
    }

    fn changed(change: impl FnOnce(&mut Holder)) -> Holder {
        let mut record = record();
        change(&mut record);
        record
    }

    fn seen(holder: &Holder, filesystem: Filesystem) -> Author {
        seen_by(&record(), holder, filesystem)
    }

    fn seen_by(me: &Holder, holder: &Holder, filesystem: Filesystem) -> Author {
        author(me, holder, Some(42), || filesystem, |_| Ok(ALIVE)).expect("the probe works")
    }

    const OURS: Filesystem = Filesystem::OfThisKernel;
    const ANY: Filesystem = Filesystem::MayBeShared;

    #[test]
    fn any_fact_of_ours_makes_no_old_format() {
        assert!(is_old_format(&Holder::new(7)));
        let facts: [fn(&mut Holder); 7] = [
            |record| record.host = Some("here".into()),
            |record| record.machine = Some("a machine".into()),
            |record| record.boot = Some("a boot".into()),
            |record| record.pid_namespace = Some(1),
            |record| record.process_start = Some(100),
            |record| record.kernel_lock = true,
            |record| record.device = Some(42),
        ];
        for (number, add) in facts.into_iter().enumerate() {
            let mut record = Holder::new(7);
            add(&mut record);
            assert!(!is_old_format(&record), "fact {number}");
        }
    }

    #[test]
    fn pid_counts_without_boots_in_one_namespace_only() {
        let no_boot = changed(|record| (record.boot, record.machine) = (None, None));
        assert_eq!(seen_by(&no_boot, &no_boot, ANY), Author::OldFormat(ALIVE));
        let elsewhere = Holder { pid_namespace: Some(2), ..no_boot.clone() };
        assert_eq!(seen_by(&no_boot, &elsewhere, ANY), Author::OtherNamespace(ProvesNothing));
        let with_boot = changed(|record| record.machine = None);
        assert_eq!(seen_by(&no_boot, &with_boot, ANY), Author::OtherNamespace(ProvesNothing));
        assert_eq!(seen_by(&with_boot, &no_boot, ANY), Author::OtherNamespace(ProvesNothing));
    }

    #[test]
    fn own_boot_and_namespace_is_here() {
        assert_eq!(seen(&record(), ANY), Author::Here(ProvesDeath, ALIVE));
        let renamed = changed(|record| record.host = Some("renamed".into()));
        assert_eq!(seen(&renamed, ANY), Author::Here(ProvesDeath, ALIVE));
    }

    #[test]
    fn free_lock_of_lockless_author_proves_nothing() {
        let mut without = changed(|record| record.kernel_lock = false);
        assert_eq!(seen(&without, OURS), Author::Here(ProvesNothing, ALIVE));
        without.pid_namespace = Some(2);
        assert_eq!(seen(&without, OURS), Author::OtherNamespace(ProvesNothing));
    }

    #[test]
    fn lock_on_another_device_needs_a_local_filesystem() {
        for device in [Some(43), None] {
            let mut other = changed(|record| record.device = device);
            assert_eq!(seen(&other, ANY), Author::Here(ProvesNothing, ALIVE));
            assert_eq!(seen(&other, OURS), Author::Here(ProvesDeath, ALIVE));
            other.pid_namespace = Some(2);
            assert_eq!(seen(&other, ANY), Author::OtherNamespace(ProvesNothing));
            assert_eq!(seen(&other, OURS), Author::OtherNamespace(ProvesDeath));
        }
        // The number of a device that we could not find out is no number.
        let unknown = changed(|record| record.device = None);
        let me = record();
        let alone = author(&me, &unknown, None, || ANY, |_| Ok(ALIVE)).expect("the probe works");
        assert_eq!(alone, Author::Here(ProvesNothing, ALIVE));
    }

    #[test]
    fn equal_name_alone_is_not_the_same_machine() {
        let earlier = changed(|record| record.boot = Some("another".into()));
        assert_eq!(seen(&earlier, ANY), Author::EarlierBoot);
        let copied = changed(|record| {
            record.boot = Some("another".into());
            record.host = Some("there".into());
        });
        assert_eq!(seen(&copied, ANY), Author::OtherMachine, "a copied image");
        for machine in [Some("another machine".to_owned()), None] {
            let alike = changed(|record| {
                record.boot = Some("another".into());
                record.machine = machine;
            });
            assert_eq!(seen(&alike, ANY), Author::OtherMachine);
            assert_eq!(seen(&alike, OURS), Author::EarlierBoot, "its boot is over for this file");
        }
        let nameless = changed(|record| record.host = None);
        let other_boot = changed(|record| {
            record.host = None;
            record.boot = Some("another".into());
        });
        assert_eq!(seen_by(&nameless, &other_boot, ANY), Author::OtherMachine);
    }

    #[test]
    fn record_of_only_a_pid_is_old_format() {
        let old = Holder::new(7);
        let asked = author(
            &record(),
            &old,
            Some(42),
            || OURS,
            |how| {
                assert_eq!(how, Identify::ByNumber);
                Ok(ALIVE)
            },
        );
        assert_eq!(asked.expect("the probe works"), Author::OldFormat(ALIVE));
    }

    #[test]
    fn conclusive_lock_decides_an_unknown_boot() {
        let blind = changed(|record| {
            record.boot = None;
            record.pid_namespace = None;
            record.process_start = None;
        });
        for (me, holder) in [(&record(), &blind), (&blind, &record()), (&blind, &blind)] {
            assert_eq!(seen_by(me, holder, OURS), Author::Here(ProvesDeath, ALIVE));
        }
        for (me, holder) in [(&record(), &blind), (&blind, &record())] {
            assert_eq!(seen_by(me, holder, ANY), Author::OtherNamespace(ProvesNothing));
        }
        // A system that has no number for its boot.
        assert_eq!(seen_by(&blind, &blind, ANY), Author::OldFormat(ALIVE));
        let mut elsewhere = blind.clone();
        elsewhere.host = Some("there".into());
        assert_eq!(seen_by(&blind, &elsewhere, ANY), Author::OtherMachine);
    }

    #[test]
    fn namespace_that_is_not_known_is_another_one() {
        let blind = changed(|record| record.pid_namespace = None);
        assert_eq!(seen(&blind, ANY), Author::OtherNamespace(ProvesDeath));
        assert_eq!(seen_by(&blind, &record(), ANY), Author::OtherNamespace(ProvesDeath));
        assert_eq!(seen_by(&blind, &blind, ANY), Author::Here(ProvesDeath, ALIVE), "no namespaces");
    }

    #[test]
    fn failed_probe_is_an_error_where_needed() {
        let lacking = |holder: &Holder| {
            let lack = |_| Err(io::Error::other("no descriptor"));
            author(&record(), holder, Some(42), || ANY, lack)
        };
        assert!(lacking(&record()).is_err());
        assert!(lacking(&changed(|record| record.pid_namespace = Some(2))).is_ok());
    }

    #[test]
    fn digest_is_stable_and_hides_the_number() {
        let number = "0123456789abcdef0123456789abcdef";
        assert_eq!(digest(number), digest(number));
        assert_ne!(digest(number), digest("1123456789abcdef0123456789abcdef"));
        assert_eq!(digest(""), "cbf29ce484222325", "the offset of FNV-1a");
        assert_eq!(digest("a"), "af63dc4c8601ec8c", "its published test vector");
    }
}
