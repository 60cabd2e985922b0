//! Each file that calls Windows links to Microsoft's page of each call. (The links are not
//! fetched.)

use std::collections::BTreeSet;
use std::path::Path;

/// The page of a call has the call's name in its address: `nf-fileapi-createfilew`,
/// `cancelioex-func`.
const PAGES: &str = "https://learn.microsoft.com/windows/";

/// Reads the sources for Windows below `dir`.
fn sources(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("it exists") {
        let path = entry.expect("it is listed").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.to_string_lossy().contains("windows") {
            found.push(std::fs::read_to_string(&path).expect("it is text"));
        }
    }
}

fn not_in_name(c: char) -> bool {
    !c.is_ascii_alphanumeric() && c != '_'
}

/// The functions from windows-sys that a file calls.
fn calls(source: &str) -> BTreeSet<&str> {
    let imports =
        source.split("use windows_sys::").skip(1).filter_map(|rest| rest.split(';').next());
    let names = imports.flat_map(|import| import.split(not_in_name));
    let called: BTreeSet<_> =
        source.split('(').filter_map(|text| text.rsplit(not_in_name).next()).collect();
    names.filter(|name| !name.is_empty() && called.contains(name)).collect()
}

fn without_page(source: &str) -> Vec<&str> {
    let pages: Vec<_> = source
        .split(PAGES)
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|page| format!("{}-", page.rsplit('/').next().unwrap_or_default()))
        .collect();
    let has_page = |call: &str| {
        let call = format!("{}-", call.to_lowercase());
        pages.iter().any(|page| page.starts_with(&call) || page.ends_with(&format!("-{call}")))
    };
    calls(source).into_iter().filter(|call| !has_page(call)).collect()
}

#[test]
fn every_windows_call_cites_its_page() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let calls: BTreeSet<_> = found.iter().flat_map(|source| calls(source)).collect();
    assert!(calls.contains("LockFileEx") && calls.len() > 30, "{calls:?}");
    let missing: Vec<_> = found.iter().flat_map(|source| without_page(source)).collect();
    assert!(missing.is_empty(), "no page of Microsoft's for {missing:?}");
}

/// The control.
#[test]
fn call_without_its_page_is_detected() {
    let source = "use windows_sys::Win32::System::IO::{CancelIo, CancelIoEx};\n\
                  /// https://learn.microsoft.com/windows/win32/fileio/cancelioex-func)\n\
                  CancelIo(a); CancelIoEx(a);";
    assert_eq!(without_page(source), ["CancelIo"]);
}
