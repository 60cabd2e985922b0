//! The permissions of what we create: the user's alone, as modes 0600 and 0700 are on Unix.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null_mut, slice_from_raw_parts};

use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER,
    TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::CreateDirectoryW;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::values::{code, wide};

/// A security descriptor: this user, the system and the administrators may do anything, and no one
/// else may do anything. Administrators are kept out no more than root is on Unix.
///
/// A filesystem without access control (FAT) ignores it.
pub(super) struct UsersOwn(PSECURITY_DESCRIPTOR);

impl UsersOwn {
    /// For a file.
    pub(super) fn file() -> io::Result<Self> {
        Self::with_flags("")
    }

    /// For a directory, and for what others will make in it.
    fn directory() -> io::Result<Self> {
        Self::with_flags("OICI")
    }

    /// [`ConvertStringSecurityDescriptorToSecurityDescriptorW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertstringsecuritydescriptortosecuritydescriptorw)
    /// of a protected list (`D:P`), which takes over nothing from the directory above.
    fn with_flags(flags: &str) -> io::Result<Self> {
        let user = user()?;
        let grant = |who: &str| format!("(A;{flags};FA;;;{who})");
        let text = format!("D:P{}{}{}\0", grant(&user), grant("SY"), grant("BA"));
        let text: Vec<u16> = text.encode_utf16().collect();
        let mut descriptor = null_mut();
        // SAFETY: the text ends with NUL, and `descriptor` has room for a pointer.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        if made == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }

    /// To be created with, by a handle that no child inherits. Lives no longer than `self`.
    pub(super) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for UsersOwn {
    /// [`LocalFree`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-localfree).
    fn drop(&mut self) {
        // SAFETY: it was made by a call that says to free it so, and has no other owner.
        unsafe { LocalFree(self.0) };
    }
}

/// The user of this process, as in `S-1-5-21-…`
/// ([`OpenProcessToken`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocesstoken) of
/// [`GetCurrentProcess`](https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getcurrentprocess),
/// [`ConvertSidToStringSidW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertsidtostringsidw),
/// [`GetTokenInformation`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-gettokeninformation)).
fn user() -> io::Result<String> {
    let mut token = null_mut();
    // SAFETY: the pseudo handle needs no closing, and `token` has room for a handle.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open and has no other owner.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // A pointer and the longest identity that there is (68 bytes), aligned for the pointer.
    let mut found = [0_u64; 16];
    let room: *mut c_void = found.as_mut_ptr().cast();
    let mut length = 0;
    // SAFETY: the handle is open, and `found` has the room that is said.
    let returned = unsafe {
        let size = size_of_val(&found) as u32;
        GetTokenInformation(token.as_raw_handle(), TokenUser, room, size, &raw mut length)
    };
    if returned == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call filled it in with this structure.
    let sid = unsafe { room.cast::<TOKEN_USER>().read() }.User.Sid;
    let mut text = null_mut();
    // SAFETY: the identity is in `found`, and `text` has room for a pointer.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made `text` a text that ends with NUL, which has no other owner; it is read up
    // to there, and freed as the call says.
    unsafe {
        let length = (0..).take_while(|&at| *text.add(at) != 0).count();
        let copy = String::from_utf16_lossy(&*slice_from_raw_parts(text, length));
        LocalFree(text.cast());
        Ok(copy)
    }
}

/// Makes the directory `path` with its ancestors, each for the user alone. One that exists is left
/// as it is
/// ([`CreateDirectoryW`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createdirectoryw)).
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    match make_one(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(path.parent().ok_or(error)?)?;
            make_one(path)
        }
        done => done,
    }
}

fn make_one(path: &Path) -> io::Result<()> {
    let own = UsersOwn::directory()?;
    let name = wide(path)?;
    // SAFETY: the path ends with NUL, and the attributes live for as long as the call.
    if unsafe { CreateDirectoryW(name.as_ptr(), &own.attributes()) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match code(&error) {
        Some(ERROR_ALREADY_EXISTS) if std::fs::metadata(path)?.is_dir() => Ok(()),
        Some(ERROR_ALREADY_EXISTS) => Err(io::ErrorKind::NotADirectory.into()),
        _ => Err(error),
    }
}
