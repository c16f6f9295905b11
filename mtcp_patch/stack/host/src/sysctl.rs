//! The two sysctls that a user-level stack on `lo` needs, and their way back.
//!
//! Without `accept_local` and `route_localnet` the kernel drops our answers on `lo` as martians,
//! silently. Both are set when a loopback device is opened and restored when the last process that
//! wants them ends. So that SIGKILL does not leave them for ever, every process writes an entry
//! into a journal first: `/run/mtcp_patch/sysctl-NETNS-PID-START-N`, one `path value` a line with
//! the values of before. Whoever comes next (another start, `--restore`) finds entries of dead
//! processes, told by PID and start time, and restores what no living one needs. All changes
//! happen under one file lock; entries are removed only after the values are back.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mtcp_engine::Config;

use crate::sys;

/// What must be 1 on a loopback interface.
const NEEDED: [&str; 2] = ["accept_local", "route_localnet"];
const WANTED: &str = "1";

/// Held while the sysctls are needed; dropping it gives them back.
#[derive(Debug)]
pub struct Applied {
    /// None when nothing had to be changed and no journal could be kept.
    held: Option<(Journal, Entry)>,
    pid: u32,
}

/// Sets `accept_local` and `route_localnet` of `ifname` in this network namespace.
/// First restores what dead processes left behind, in any namespace.
pub fn apply_for(ifname: &str) -> io::Result<Applied> {
    Journal::at(&default_directory()).apply(ifname)
}

/// Restores what dead processes left behind and no living one needs; what was restored, as
/// `net.ipv4.conf.lo.accept_local = 0`. Needs the privileges that changing it did.
pub fn restore_all() -> io::Result<Vec<String>> {
    Journal::at(&default_directory()).restore()
}

impl Drop for Applied {
    fn drop(&mut self) {
        // A forked child's copy is not the one that counts.
        if self.pid != std::process::id() {
            return;
        }
        if let Some((journal, entry)) = self.held.take() {
            // Nobody to tell; the entry stays, so that the next start tries again.
            let _ = journal.release(&entry);
        }
    }
}

/// Where the journal is: a directory that only its owner may write.
fn default_directory() -> PathBuf {
    let uid = sys::effective_uid();
    if uid == 0 {
        return PathBuf::from("/run/mtcp_patch");
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) => PathBuf::from(directory).join("mtcp_patch"),
        None => PathBuf::from(format!("/tmp/mtcp_patch-{uid}")),
    }
}

/// Who changed what: one file of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Inode of the network namespace.
    namespace: u64,
    pid: u32,
    /// Start time of the process, so that a reused PID is told apart.
    start: u64,
    /// Tells several devices of one process apart.
    number: u32,
    /// Path below /proc/sys and the value of before.
    values: Vec<(String, String)>,
}

impl Entry {
    fn file_name(&self) -> String {
        format!("sysctl-{}-{}-{}-{}", self.namespace, self.pid, self.start, self.number)
    }

    fn parse(name: &str, content: &str) -> Option<Self> {
        let mut fields = name.strip_prefix("sysctl-")?.split('-');
        let entry = Self {
            namespace: fields.next()?.parse().ok()?,
            pid: fields.next()?.parse().ok()?,
            start: fields.next()?.parse().ok()?,
            number: fields.next()?.parse().ok()?,
            values: content
                .lines()
                .filter_map(|line| line.split_once(' '))
                // Only what we ever write may be restored from a file.
                .filter(|(path, _)| is_ours(path))
                .map(|(path, value)| (path.to_owned(), value.to_owned()))
                .collect(),
        };
        fields.next().is_none().then_some(entry)
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }
}

fn is_ours(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts.as_slice(), ["net", "ipv4", "conf", ifname, name]
        if NEEDED.contains(name) && !ifname.is_empty() && !ifname.starts_with('.'))
}

/// Start time of a running process in clock ticks since boot; None for a dead one or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_start_time(&stat)
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The command in parentheses may contain anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // proc_pid_stat(5): state is field 3, starttime field 22.
    fields.nth(18)?.parse().ok()
}

fn this_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

fn read_value(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new("/proc/sys").join(path))?.trim().to_owned())
}

/// Lets `config` begin with what this namespace has for probing idle connections, as the kernel
/// sockets do that answer for ours. What cannot be read stays.
pub fn read_keepalive(config: &mut Config) {
    let number = |name: &str| -> Option<u64> {
        read_value(&format!("net/ipv4/tcp_keepalive_{name}")).ok()?.parse().ok()
    };
    if let Some(seconds) = number("time") {
        config.keepalive_idle_us = seconds.saturating_mul(1_000_000);
    }
    if let Some(seconds) = number("intvl") {
        config.keepalive_interval_us = seconds.saturating_mul(1_000_000);
    }
    if let Some(count) = number("probes") {
        config.keepalive_count = u8::try_from(count).unwrap_or(u8::MAX);
    }
}

fn write_value(path: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(path), value)
}

/// Puts values back in this thread's namespace where they are still as we set them; what changed.
fn restore_here(values: &[(String, String)]) -> io::Result<Vec<String>> {
    let mut restored = Vec::new();
    for (path, original) in values {
        let current = match read_value(path) {
            Ok(current) => current,
            // The interface is gone, and its sysctls with it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if current == WANTED && original != WANTED {
            write_value(path, original)?;
            restored.push(format!("{} = {original}", path.replace('/', ".")));
        }
    }
    Ok(restored)
}

/// A descriptor of the network namespace with this inode, if anything still shows it.
fn find_namespace(namespace: u64) -> Option<File> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    let named = list(Path::new("/run/netns"));
    let threads = list(Path::new("/proc")).flat_map(|process| list(&process.join("task")));
    named
        .chain(threads.map(|thread| thread.join("ns/net")))
        .find(|path| fs::metadata(path).is_ok_and(|m| m.ino() == namespace))
        .and_then(|path| File::open(path).ok())
}

/// As `restore_here`, in another namespace, by a thread that moves there and ends.
fn restore_there(file: File, values: Vec<(String, String)>) -> io::Result<Vec<String>> {
    let worker = std::thread::spawn(move || {
        // SAFETY: moves only this thread, which ends right after.
        if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        restore_here(&values)
    });
    worker.join().unwrap_or_else(|_| Err(io::Error::other("the restoring thread panicked")))
}

fn restore_in(namespace: u64, values: &[(String, String)]) -> io::Result<Vec<String>> {
    if this_namespace()? == namespace {
        return restore_here(values);
    }
    match find_namespace(namespace) {
        Some(file) => restore_there(file, values.to_vec()),
        None => Ok(Vec::new()), // gone with everything in it
    }
}

/// The directory of entries.
#[derive(Clone, Debug)]
struct Journal {
    directory: PathBuf,
}

/// The lock, held while it lives.
struct Locked(#[allow(dead_code)] File);

impl Journal {
    fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Makes the directory if needed and locks it; refuses one that others may write.
    fn lock(&self) -> io::Result<Locked> {
        let made = fs::DirBuilder::new().mode(0o700).create(&self.directory);
        match made {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let facts = fs::symlink_metadata(&self.directory)?;
        let uid = sys::effective_uid();
        if !facts.is_dir() || facts.uid() != uid || facts.mode() & 0o022 != 0 {
            let what = format!("{} is not a directory of ours alone", self.directory.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.directory.join("sysctl.lock"))?;
        // SAFETY: a live descriptor; the lock goes with it. Its holders only touch a few files.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Locked(file))
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if !name.starts_with("sysctl-") {
                continue;
            }
            let content = fs::read_to_string(file.path()).unwrap_or_default();
            entries.extend(Entry::parse(&name, &content));
        }
        Ok(entries)
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let lines: Vec<String> =
            entry.values.iter().map(|(path, value)| format!("{path} {value}\n")).collect();
        // Under another name first, so that an entry is whole or not there.
        let draft = self.directory.join(format!("draft-{}", entry.pid));
        fs::write(&draft, lines.concat())?;
        fs::rename(&draft, self.directory.join(entry.file_name()))
    }

    fn remove(&self, entry: &Entry) -> io::Result<()> {
        fs::remove_file(self.directory.join(entry.file_name()))
    }

    fn apply(self, ifname: &str) -> io::Result<Applied> {
        let pid = std::process::id();
        let paths: Vec<String> =
            NEEDED.iter().map(|name| format!("net/ipv4/conf/{ifname}/{name}")).collect();
        let locked = match self.lock() {
            Ok(locked) => locked,
            Err(e) => {
                // Without a journal nothing may be changed; perhaps nothing needs to be.
                for path in &paths {
                    if read_value(path)? != WANTED {
                        return Err(e);
                    }
                }
                return Ok(Applied { held: None, pid });
            }
        };
        // Other namespaces' remains are none of our business if they resist.
        let _ = self.restore_dead(&locked);
        let entry = self.new_entry(pid, paths)?;
        self.write(&entry)?;
        for (path, _) in &entry.values {
            // Not written when it is right: in a container it may be set and read-only.
            if read_value(path)? == WANTED {
                continue;
            }
            if let Err(e) = write_value(path, WANTED) {
                let undone = restore_here(&entry.values).and_then(|_| self.remove(&entry));
                return undone.and(Err(e));
            }
        }
        Ok(Applied { held: Some((self, entry)), pid })
    }

    /// An entry with the values of before: another holder's, where there is one.
    fn new_entry(&self, pid: u32, paths: Vec<String>) -> io::Result<Entry> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let namespace = this_namespace()?;
        let others: Vec<Entry> =
            self.entries()?.into_iter().filter(|e| e.namespace == namespace).collect();
        let mut values = Vec::new();
        for path in paths {
            let known = others.iter().flat_map(|e| &e.values).find(|(p, _)| *p == path);
            let original = match known {
                Some((_, value)) => value.clone(),
                None => read_value(&path)?,
            };
            values.push((path, original));
        }
        let start =
            start_time(pid).ok_or_else(|| io::Error::other("cannot read /proc/PID/stat"))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Entry { namespace, pid, start, number, values })
    }

    /// Gives up one entry; the last living one of its namespace restores.
    fn release(&self, entry: &Entry) -> io::Result<()> {
        let _locked = self.lock()?;
        let needed = self.entries()?.iter().any(|other| {
            other.namespace == entry.namespace
                && other.file_name() != entry.file_name()
                && other.is_alive()
        });
        if !needed {
            restore_in(entry.namespace, &entry.values)?;
        }
        self.remove(entry)
    }

    fn restore(&self) -> io::Result<Vec<String>> {
        match fs::metadata(&self.directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            _ => {}
        }
        let locked = self.lock()?;
        self.restore_dead(&locked)
    }

    /// Removes the entries of dead processes, after restoring what no living one needs.
    fn restore_dead(&self, _locked: &Locked) -> io::Result<Vec<String>> {
        let (living, dead): (Vec<Entry>, Vec<Entry>) =
            self.entries()?.into_iter().partition(Entry::is_alive);
        let mut restored = Vec::new();
        for entry in dead {
            if !living.iter().any(|other| other.namespace == entry.namespace) {
                restored.extend(restore_in(entry.namespace, &entry.values)?);
            }
            self.remove(&entry)?;
        }
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_start_time_whatever_the_command_is_called() {
        let stat = "42 (a) Z (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        assert_eq!(parse_start_time(stat), Some(98_765));
        assert_eq!(parse_start_time(&stat.replace(") S", ") Z")), None);
        assert_eq!(parse_start_time("42 (x"), None);
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn entries_survive_the_way_through_a_file() {
        let entry = Entry {
            namespace: 4_026_531_840,
            pid: 7,
            start: 99,
            number: 1,
            values: vec![("net/ipv4/conf/lo/accept_local".into(), "0".into())],
        };
        let content = "net/ipv4/conf/lo/accept_local 0\nkernel/core_pattern |/bin/evil\n\
                       net/ipv4/conf/../accept_local 0\nrubbish\n";
        assert_eq!(Entry::parse(&entry.file_name(), content), Some(entry));
        for name in ["sysctl-1-2-3", "sysctl-1-2-3-4-5", "sysctl-x-2-3-4", "sysctl.lock"] {
            assert_eq!(Entry::parse(name, ""), None, "{name}");
        }
    }

    #[test]
    fn refuses_a_directory_that_others_may_write() {
        use std::os::unix::fs::PermissionsExt;
        let directory = std::env::temp_dir().join(format!("mtcp-journal-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Journal::at(&directory).restore();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let allowed = Journal::at(&directory).restore();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(allowed.unwrap(), Vec::<String>::new());
    }

    /// Runs `body` with a journal of its own, in a thread with a network namespace of its own.
    fn with_journal(test: &str, body: impl FnOnce(Journal) + Send + 'static) {
        if sys::effective_uid() != 0 {
            eprintln!("SKIPPED {test}: needs root (network namespaces, sysctls)");
            return;
        }
        let directory = std::env::temp_dir().join(format!("mtcp-{test}-{}", std::process::id()));
        let journal = Journal::at(&directory);
        let worker = std::thread::spawn(move || {
            // SAFETY: affects only this thread.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            body(journal);
        });
        let result = worker.join();
        fs::remove_dir_all(&directory).unwrap();
        result.unwrap();
    }

    fn values() -> [String; 2] {
        NEEDED.map(|name| read_value(&format!("net/ipv4/conf/lo/{name}")).unwrap())
    }

    #[test]
    fn the_last_one_out_restores() {
        with_journal("the_last_one_out_restores", |journal| {
            write_value("net/ipv4/conf/lo/route_localnet", "1").unwrap();
            assert_eq!(values(), ["0", "1"]);
            let first = journal.clone().apply("lo").unwrap();
            let second = journal.clone().apply("lo").unwrap();
            assert_eq!(values(), ["1", "1"]);
            drop(first);
            assert_eq!(values(), ["1", "1"], "the second still needs them");
            drop(second);
            assert_eq!(values(), ["0", "1"]);
            assert_eq!(journal.entries().unwrap(), []);
        });
    }

    /// Leaves the journal as SIGKILL would.
    fn die(journal: &Journal, mut applied: Applied) {
        let (_, mut entry) = applied.held.take().unwrap();
        journal.remove(&entry).unwrap();
        entry.start -= 1; // a process that started at another time is another process
        journal.write(&entry).unwrap();
    }

    #[test]
    fn the_next_one_restores_what_the_dead_left() {
        with_journal("the_next_one_restores_what_the_dead_left", |journal| {
            die(&journal, journal.clone().apply("lo").unwrap());
            assert_eq!(values(), ["1", "1"]);
            let restored = journal.restore().unwrap();
            let lo = "net.ipv4.conf.lo";
            assert_eq!(
                restored,
                [format!("{lo}.accept_local = 0"), format!("{lo}.route_localnet = 0")]
            );
            assert_eq!(
                (values(), journal.entries().unwrap()),
                (["0", "0"].map(Into::into), vec![])
            );
            // A start after a death, and a death while another lives: the first values count.
            die(&journal, journal.clone().apply("lo").unwrap());
            let next = journal.clone().apply("lo").unwrap();
            die(&journal, journal.clone().apply("lo").unwrap());
            assert_eq!(journal.restore().unwrap(), Vec::<String>::new());
            assert_eq!(values(), ["1", "1"]);
            drop(next);
            assert_eq!(values(), ["0", "0"]);
        });
    }

    #[test]
    fn another_namespace_is_restored_from_outside() {
        with_journal("another_namespace_is_restored_from_outside", |journal| {
            die(&journal, journal.clone().apply("lo").unwrap());
            let outside = std::thread::spawn(move || {
                // SAFETY: affects only this thread.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
                journal.restore().unwrap()
            });
            assert_eq!(outside.join().unwrap().len(), 2);
            assert_eq!(values(), ["0", "0"]);
        });
    }

    #[test]
    fn what_somebody_else_changed_meanwhile_stays() {
        with_journal("what_somebody_else_changed_meanwhile_stays", |journal| {
            let applied = journal.apply("lo").unwrap();
            write_value("net/ipv4/conf/lo/accept_local", "0").unwrap();
            write_value("net/ipv4/conf/lo/route_localnet", "2").unwrap();
            drop(applied);
            assert_eq!(values(), ["0", "2"]);
        });
    }
}
