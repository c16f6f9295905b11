//! Who holds an interface: the process that has its XDP link open, found through `/proc`.
//!
//! Called once, after an open failed with EBUSY, to make the message useful. Best effort: other
//! users' processes are invisible without privileges.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// "process 123 (python3 app.py)" for the first other process in our network namespace that holds
/// an XDP link on `ifindex`.
pub fn find(ifindex: u32) -> Option<String> {
    let namespace = fs::metadata("/proc/thread-self/ns/net").ok()?.ino();
    let this = std::process::id();
    let processes = fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        let path = process.path();
        let theirs = fs::metadata(path.join("ns/net")).map(|m| m.ino());
        if theirs.is_ok_and(|ino| ino == namespace) && holds_link(&path, ifindex) {
            let who = if pid == this { "this process".to_owned() } else { describe(&path, pid) };
            return Some(who);
        }
    }
    None
}

fn describe(path: &Path, pid: u32) -> String {
    let command = fs::read(path.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let short: String = command.trim().chars().take(60).collect();
    format!("process {pid} ({short})")
}

fn holds_link(process: &Path, ifindex: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|fd| {
        let is_link = fs::read_link(fd.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("anon_inode:bpf_link"));
        is_link && {
            let info = process.join("fdinfo").join(fd.file_name());
            fs::read_to_string(info).is_ok_and(|text| describes_xdp_on(&text, ifindex))
        }
    })
}

fn describes_xdp_on(fdinfo: &str, ifindex: u32) -> bool {
    let field = |name: &str| {
        fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    field("link_type") == Some("xdp") && field("ifindex") == Some(ifindex.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_description_of_a_link() {
        let text = "pos:\t0\nflags:\t02000002\nlink_type:\txdp\nlink_id:\t3\nifindex:\t1\n";
        assert!(describes_xdp_on(text, 1));
        assert!(!describes_xdp_on(text, 11));
        assert!(!describes_xdp_on(&text.replace("xdp", "tcx"), 1));
        assert!(!describes_xdp_on("", 1));
    }
}
