//! Removal of files that no process holds: clear and force.

use portlock::Status;

use crate::identity::left_by_a_changed_self;
use crate::participant::{Participant, Place, cleared};
use crate::visible;

#[test]
fn clear_removes_stale_and_keeps_held() {
    let place = Place::new();
    assert_eq!(cleared(&place.lock.clear()), "nothing");
    let mut holder = Participant::holding(place.path());
    let before = visible(place.dir.path());
    let held = format!("refused, Holder, pid {}", holder.pid());
    assert_eq!(cleared(&place.lock.clear()), held);
    assert_eq!(visible(place.dir.path()), before);
    holder.kill();
    assert_eq!(cleared(&place.lock.clear()), format!("cleared of pid {}", holder.pid()));
    assert!(place.is_empty());
}

/// The holder is in another container and has no kernel lock, so it cannot be probed.
#[test]
fn forced_clear_removes_only_named_holders_file() {
    let place = Place::new();
    // Only Linux has pid namespaces. Elsewhere the holder is on another machine.
    let elsewhere = match cfg!(target_os = "linux") {
        true => ("pidNamespace", 7.into()),
        false => ("host", "build-7".into()),
    };
    left_by_a_changed_self(&place, &[elsewhere, ("kernelLock", false.into())]);
    let Status::Unknown { holder: Some(seen), .. } = place.lock.status().expect("it exists") else {
        panic!("the holder cannot be probed: {:?}", place.lock.status());
    };
    let refused = format!("refused, Unknown(NoSharedLock), pid {}", seen.pid);
    assert_eq!(cleared(&place.lock.clear()), refused);
    let mut another = seen.clone();
    another.process_start = Some(1);
    assert_eq!(cleared(&place.lock.force_clear(&another)), refused);
    assert_eq!(cleared(&place.lock.force_clear(&seen)), format!("cleared of pid {}", seen.pid));
    assert!(place.is_empty());
}

#[test]
fn forced_clear_never_removes_a_kernel_locked_file() {
    let place = Place::new();
    let mut holder = Participant::holding(place.path());
    let Status::Held { holder: Some(named), .. } = place.lock.status().expect("it exists") else {
        panic!("it is held");
    };
    let held = format!("refused, Holder, pid {}", holder.pid());
    assert_eq!(cleared(&place.lock.force_clear(&named)), held);
    assert_eq!(holder.request("current"), "true");
}
