//! The assertions of the fuzz targets, separate from the fuzzer, so that `cargo test` also runs
//! them: over the committed corpus, and over broken parsers that must be caught.

pub mod contents;
pub mod holder;
pub mod record;
pub mod schedule;

/// A broken variant of a fuzzed function, and the property that must catch it.
pub struct Control<F> {
    /// Its name.
    pub name: &'static str,
    /// The variant.
    pub broken: F,
    /// The property that it breaks.
    pub property: &'static str,
}

/// The function that a target fuzzes: the control named by `PORTLOCK_FUZZ_CONTROL`, or `shipped`.
pub fn fuzzed<F: Copy>(shipped: F, controls: &[Control<F>]) -> F {
    match std::env::var("PORTLOCK_FUZZ_CONTROL") {
        Ok(name) => {
            let control = controls.iter().find(|control| control.name == name);
            control.expect("the name of a control").broken
        }
        Err(_) => shipped,
    }
}

/// A committed corpus: the bytes of each file, by its name.
#[cfg(test)]
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is committed")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let bytes = std::fs::read(entry.path()).expect("a file");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    files.sort();
    files
}

/// That the committed corpus catches each control by its property.
#[cfg(test)]
fn assert_caught<F: Copy>(
    target: &str,
    controls: &[Control<F>],
    check: fn(F, &[u8]) -> Result<(), record::Broken>,
) {
    let corpus = corpus(target);
    for control in controls {
        let caught: Vec<_> = corpus
            .iter()
            .filter_map(|(_, bytes)| check(control.broken, bytes).err())
            .map(|broken| broken.property)
            .collect();
        assert!(caught.contains(&control.property), "{}: {caught:?}", control.name);
    }
}
