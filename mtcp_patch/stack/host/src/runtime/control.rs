//! The control socket: whoever connects gets the status document and the end of the stream. It
//! has a thread of its own, so that it answers while Python computes; the socket lies in a
//! directory that only its owner may enter, and the peer's user is checked besides.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Shared;
use crate::runtime_fd::{self, RuntimeFd};
use crate::stack_thread;
use crate::sys;

/// How long a client may take to read its document.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The control socket of a process.
pub(super) struct Control {
    /// To be removed at the end.
    pub path: PathBuf,
    listener: RawFd,
}

impl Control {
    /// In a forked child: the socket is the parent's, and nobody here would answer who calls when the
    /// parent has died.
    pub fn leave_behind(&self) {
        runtime_fd::close(self.listener);
    }
}

/// Where the sockets of this user's processes are.
pub(super) fn directory(configured: Option<String>) -> PathBuf {
    if let Some(dir) = configured.or_else(|| std::env::var("MTCP_PATCH_RUNTIME_DIR").ok()) {
        return PathBuf::from(dir);
    }
    match std::env::var("XDG_RUNTIME_DIR") {
        Ok(dir) if !dir.is_empty() => Path::new(&dir).join("mtcp_patch"),
        _ => PathBuf::from(format!("/tmp/mtcp_patch-{}", sys::effective_uid())),
    }
}

/// Makes the directory, or checks that it is ours alone: in /tmp anybody could have made it.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != sys::effective_uid() || meta.permissions().mode() & 0o77 != 0
    {
        let text = format!("{} is not a directory of ours with mode 0700", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

fn open(dir: &Path) -> io::Result<(RuntimeFd<UnixListener>, PathBuf)> {
    prepare(dir)?;
    let path = dir.join(format!("{}.sock", std::process::id()));
    // A socket of this name is a dead process's: the number is ours now.
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    Ok((RuntimeFd::new(listener), path))
}

/// Starts serving. A process that cannot have a control socket works without one, and says so in
/// its messages.
pub(super) fn start(shared: &Arc<Shared>, configured: Option<String>) -> Option<Control> {
    let dir = directory(configured);
    let weak = Arc::downgrade(shared);
    let started = open(&dir).and_then(|(listener, path)| {
        let control = Control { path, listener: listener.as_raw_fd() };
        stack_thread::spawn("mtcp-control", move || serve(&listener, &weak))?;
        Ok(control)
    });
    match started {
        Ok(control) => Some(control),
        Err(e) => {
            let text = format!(
                "control socket in {}: {e}; mtcp_patch.ss will not see this process",
                dir.display()
            );
            shared.lock().devices.messages.push(text);
            None
        }
    }
}

fn serve(listener: &UnixListener, shared: &Weak<Shared>) {
    loop {
        // accept4(2) holds a free number all the while it waits, and the program's dup2 onto that
        // number fails with EBUSY: it is called when there is somebody.
        let waited = sys::ppoll(&mut [sys::readable(listener.as_raw_fd())], None);
        let Some(shared) = shared.upgrade() else { return };
        match listener.accept() {
            // A client that goes away early is its own affair.
            Ok((stream, _)) => drop(answer(&RuntimeFd::new(stream), &shared)),
            Err(e) if waited.is_ok() && e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn answer(mut stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let uid = sys::peer_uid(stream.as_raw_fd())?;
    if uid != 0 && uid != sys::effective_uid() {
        return Ok(());
    }
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let status = shared.lock_detached().status().to_string();
    stream.write_all(status.as_bytes())?;
    // A child that was forked meanwhile has the connection too, and would keep it open.
    stream.shutdown(Shutdown::Both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let dir = std::env::temp_dir().join(format!("mtcp-control-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(prepare(&dir).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(prepare(&dir).is_ok());
        fs::remove_dir(&dir).unwrap();
    }
}
