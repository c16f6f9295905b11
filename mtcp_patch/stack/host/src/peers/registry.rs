//! Who serves what: a directory of the user's, one for each network namespace.
//!
//! ```text
//!     $XDG_RUNTIME_DIR/mtcp_patch/net-COOKIE/      mode 0700, as the directory above
//!         4711.9a3c51f0                            the socket of process 4711 (`rendezvous`)
//!         127.0.0.1:8000@4711.9a3c51f0             it serves this address
//!         *:8001@4711.9a3c51f0                     and port 8001 of every address, IPv4 and IPv6
//! ```
//! A reader keeps what it has read until the directory changes, so that a look costs one fstat(2). An entry
//! is made after its port is ours and taken away before it is given back. A process that was killed leaves
//! its entries: its socket refuses, and whoever finds that out removes them. They only waste a look.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{symlink, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A directory that changed less than this before it was read may change again within the same tick of
/// the file system's clock, unseen.
const TICK: Duration = Duration::from_millis(20);

/// A process's name in the registry: its number, which a forked child does not share, and a random one,
/// which no later process shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) pid: u32,
    pub(crate) nonce: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.pid, self.nonce)
    }
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (pid, nonce) = text.split_once('.')?;
        let id = Self { pid: pid.parse().ok()?, nonce: u32::from_str_radix(nonce, 16).ok()? };
        // One spelling: what is removed later is what was read.
        (id.to_string() == text).then_some(id)
    }
}

/// An address that a listener serves, as the engine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Served {
    /// One address, or the wildcard of one family.
    At(SocketAddr),
    /// A port of every address of both families.
    Everywhere(u16),
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(addr) => addr.fmt(f),
            Self::Everywhere(port) => write!(f, "*:{port}"),
        }
    }
}

impl Served {
    /// What a listener at `local` serves.
    pub(crate) fn by(local: SocketAddr, v6only: bool) -> Self {
        if local.is_ipv6() && local.ip().is_unspecified() && !v6only {
            return Self::Everywhere(local.port());
        }
        Self::At(local)
    }

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*:") {
            Some(port) => Some(Self::Everywhere(port.parse().ok()?)),
            None => Some(Self::At(text.parse().ok()?)),
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::At(addr) => addr.port(),
            Self::Everywhere(port) => port,
        }
    }

    /// How closely it matches a destination of its port; `None`: not at all. The closest serves.
    fn closeness(self, dst: &SocketAddr) -> Option<u8> {
        match self {
            Self::At(addr) if addr == *dst => Some(2),
            Self::At(addr) if addr.ip() == Ipv4Addr::UNSPECIFIED => dst.is_ipv4().then_some(1),
            Self::At(addr) if addr.ip() == Ipv6Addr::UNSPECIFIED => dst.is_ipv6().then_some(1),
            Self::At(_) => None,
            Self::Everywhere(_) => Some(u8::from(dst.is_ipv6())),
        }
    }
}

/// What the directory held when it was read.
#[derive(Default)]
struct Listing {
    by_port: HashMap<u16, Vec<(Served, Id)>>,
    /// Of the directory, as of before it was read.
    changed: Option<(i64, i64)>,
    /// Whether a later change would show in its time.
    settled: bool,
}

/// The directory, for its readers and for the process that publishes in it.
pub(crate) struct Registry {
    path: PathBuf,
    /// Opened with O_PATH, to ask for its time.
    handle: Option<File>,
    listing: Listing,
    own: Option<Id>,
    /// Which process it was that published.
    pid: u32,
}

impl Registry {
    /// The registry in `path`, which need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        let (listing, pid) = (Listing::default(), std::process::id());
        Self { path, handle: None, listing, own: None, pid }
    }

    /// Where the socket of a process is.
    pub(crate) fn socket(&self, id: Id) -> PathBuf {
        self.path.join(id.to_string())
    }

    /// Its own directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on this process publishes, under a name of its own.
    pub(crate) fn join(&mut self, id: Id) {
        self.own = Some(id);
    }

    /// Says that this process serves an address. Without effect before [`Registry::join`].
    pub(crate) fn publish(&self, served: Served) -> io::Result<()> {
        let Some(own) = self.own else { return Ok(()) };
        // What it leads to is for people: only the name is read.
        match symlink(own.to_string(), self.entry(served, own)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Takes that back.
    pub(crate) fn withdraw(&self, served: Served) {
        if let Some(own) = self.own {
            // Gone is what it shall be.
            let _ = fs::remove_file(self.entry(served, own));
        }
    }

    fn entry(&self, served: Served, id: Id) -> PathBuf {
        self.path.join(format!("{served}@{id}"))
    }

    /// The other processes that serve a destination, the closest only; more than one when they share the
    /// port by SO_REUSEPORT.
    pub(crate) fn find(&mut self, dst: &SocketAddr) -> Vec<Id> {
        if !self.is_current() {
            self.read();
        }
        let Some(entries) = self.listing.by_port.get(&dst.port()) else { return Vec::new() };
        let matching = || entries.iter().filter_map(|(s, id)| Some((s.closeness(dst)?, *id)));
        let closest = matching().map(|(closeness, _)| closeness).max();
        matching().filter(|(c, _)| Some(*c) == closest).map(|(_, id)| id).collect()
    }

    /// All processes that have entries.
    pub(crate) fn everybody(&mut self) -> Vec<Id> {
        self.read();
        let mut all: Vec<Id> = self.listing.by_port.values().flatten().map(|(_, id)| *id).collect();
        all.sort_by_key(|id| (id.pid, id.nonce));
        all.dedup();
        all
    }

    /// Removes what a dead process has left.
    pub(crate) fn forget(&mut self, id: Id) {
        let entries = self.listing.by_port.values().flatten();
        for (served, _) in entries.filter(|(_, owner)| *owner == id) {
            // Somebody else may have been quicker.
            let _ = fs::remove_file(self.entry(*served, id));
        }
        let _ = fs::remove_file(self.socket(id));
        self.listing = Listing::default();
    }

    /// This process publishes no more. In a forked child the parent goes on.
    pub(crate) fn leave(&mut self) {
        let Some(own) = self.own.take().filter(|_| self.pid == std::process::id()) else { return };
        self.read();
        self.forget(own);
        // As long as others are in it, this fails.
        let _ = fs::remove_dir(&self.path);
    }

    fn is_current(&mut self) -> bool {
        let Some(now) = self.stat() else {
            // Nobody has ever published here.
            self.listing = Listing::default();
            return true;
        };
        self.listing.settled && self.listing.changed == Some(now)
    }

    /// When the directory changed last; `None` while there is none.
    fn stat(&mut self) -> Option<(i64, i64)> {
        for _ in 0..2 {
            if self.handle.is_none() {
                let mut options = fs::OpenOptions::new();
                let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                self.handle = options.read(true).custom_flags(flags).open(&self.path).ok();
            }
            let meta = self.handle.as_ref()?.metadata().ok();
            match meta {
                Some(meta) if meta.nlink() > 0 => return Some((meta.mtime(), meta.mtime_nsec())),
                // It was removed; there may be another one.
                _ => self.handle = None,
            }
        }
        None
    }

    fn read(&mut self) {
        let changed = self.stat();
        self.listing =
            Listing { changed, settled: changed.is_some_and(is_old), ..Listing::default() };
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((served, id)) = name.to_str().and_then(|name| name.split_once('@')) else {
                continue;
            };
            let (Some(served), Some(id)) = (Served::parse(served), Id::parse(id)) else { continue };
            self.listing.by_port.entry(served.port()).or_default().push((served, id));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.leave();
    }
}

fn is_old((seconds, nanos): (i64, i64)) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Duration::new(u64::try_from(seconds).unwrap_or(0), nanos as u32);
    now.checked_sub(at).is_some_and(|age| age > TICK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::DirBuilderExt;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn registries(name: &str) -> (Registry, Registry) {
        let path = std::env::temp_dir().join(format!("mtcp-reg-{}-{name}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let (mut one, other) = (Registry::new(path.clone()), Registry::new(path));
        one.join(Id { pid: 1, nonce: 0xabc });
        (one, other)
    }

    #[test]
    fn what_is_published_is_found_by_others_until_it_is_withdrawn() {
        let (one, mut other) = registries("found");
        let own = Id { pid: 1, nonce: 0xabc };
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
        one.publish(Served::At(at("127.0.0.1:80"))).unwrap();
        one.publish(Served::At(at("127.0.0.1:80"))).unwrap();
        assert_eq!(other.find(&at("127.0.0.1:80")), [own]);
        assert_eq!(other.find(&at("127.0.0.2:80")), []);
        one.withdraw(Served::At(at("127.0.0.1:80")));
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
    }

    #[test]
    fn the_closest_listener_serves() {
        let (mut one, mut other) = registries("closest");
        let ids = [1, 2, 3].map(|nonce| Id { pid: 9, nonce });
        let served =
            [Served::Everywhere(80), Served::At(at("0.0.0.0:80")), Served::At(at("127.0.0.1:80"))];
        for (id, served) in ids.into_iter().zip(served) {
            one.join(id);
            one.publish(served).unwrap();
        }
        one.join(ids[0]);
        one.publish(Served::At(at("[::1]:81"))).unwrap();
        for (dst, expected) in [
            ("127.0.0.1:80", Some(ids[2])),
            ("127.0.0.2:80", Some(ids[1])),
            ("[::1]:80", Some(ids[0])),
            ("[::1]:81", Some(ids[0])),
            ("127.0.0.1:81", None),
            ("127.0.0.1:82", None),
        ] {
            assert_eq!(other.find(&at(dst)), expected.into_iter().collect::<Vec<_>>(), "{dst}");
        }
        assert_eq!(other.everybody(), ids);
        for id in ids {
            other.forget(id);
        }
    }

    #[test]
    fn a_listener_of_one_family_and_one_of_both_are_told_apart_by_their_names() {
        for (served, name) in [
            (Served::by(at("[::]:5"), false), "*:5"),
            (Served::by(at("[::]:5"), true), "[::]:5"),
            (Served::by(at("0.0.0.0:5"), false), "0.0.0.0:5"),
            (Served::by(at("[2001:db8::1]:5"), false), "[2001:db8::1]:5"),
        ] {
            assert_eq!((served.to_string().as_str(), Served::parse(name)), (name, Some(served)));
        }
    }

    #[test]
    fn names_that_are_no_entries_are_passed_over() {
        let (one, mut other) = registries("odd");
        for name in
            ["x", "80@1.2", "127.0.0.1:80@", "127.0.0.1:80@1.0000000Z", "*:80@01.00000abc", "@"]
        {
            fs::write(one.path().join(name), "").unwrap();
        }
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
        fs::remove_dir_all(one.path()).unwrap();
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
    }

    #[test]
    fn a_directory_that_was_removed_and_made_again_is_read_again() {
        let (one, mut other) = registries("again");
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
        fs::remove_dir(one.path()).unwrap();
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
        fs::create_dir(one.path()).unwrap();
        one.publish(Served::Everywhere(80)).unwrap();
        assert_eq!(other.find(&at("127.0.0.1:80")).len(), 1);
    }

    #[test]
    fn who_leaves_takes_all_its_entries_and_an_empty_directory_away() {
        let (mut one, mut other) = registries("leave");
        one.publish(Served::Everywhere(80)).unwrap();
        one.publish(Served::At(at("127.0.0.1:81"))).unwrap();
        fs::write(one.socket(Id { pid: 1, nonce: 0xabc }), "").unwrap();
        assert_eq!(other.find(&at("127.0.0.1:80")).len(), 1);
        one.leave();
        assert!(!one.path().exists());
        assert_eq!(other.find(&at("127.0.0.1:80")), []);
    }
}
