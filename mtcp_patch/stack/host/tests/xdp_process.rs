//! What `XdpDevice` leaves behind when its process dies, forks, or may do little; each test in a
//! network namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic)] // that is how a test fails

mod common;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::*;
use mtcp_host::sysctl;
use mtcp_host::xdp::{XdpDevice, XdpOptions};

/// Not a test: the process that the tests below kill.
#[test]
#[ignore = "run by other tests"]
fn child_that_holds_lo() {
    let mut device = open("lo");
    device.steer(address("0.0.0.0:8080"), true).unwrap();
    println!("ready {:?}", device.notes());
    std::thread::sleep(Duration::from_secs(30));
}

/// Starts `child_that_holds_lo` in this namespace by `command` and waits until it holds; the child
/// and the line that says so.
fn hold_by(mut command: Command) -> (Child, String) {
    let mut child = command
        .args(["--exact", "child_that_holds_lo", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| line.ok().filter(|line| line.contains("ready")));
    (child, ready.unwrap_or_else(|| panic!("the child did not open lo")))
}

fn holder() -> Child {
    hold_by(Command::new(std::env::current_exe().unwrap())).0
}

fn lo_sysctls() -> [String; 2] {
    ["accept_local", "route_localnet"].map(|name| {
        let value = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/lo/{name}"));
        value.unwrap().trim().to_owned()
    })
}

fn programs_on_lo() -> bool {
    let shown = Command::new("ip").args(["link", "show", "lo"]).output().unwrap();
    String::from_utf8(shown.stdout).unwrap().contains("xdp")
}

#[test]
fn another_process_is_named_and_sigkill_leaves_nothing() {
    if !privileged("another_process_is_named_and_sigkill_leaves_nothing") {
        return;
    }
    in_namespace(|| {
        let mut child = holder();
        assert!(programs_on_lo());
        assert_eq!(lo_sysctls(), ["1", "1"]);
        let refused = XdpDevice::open("lo", &XdpOptions::default()).err().unwrap();
        let named = format!("process {}", child.id());
        assert!(refused.to_string().contains(&named), "{refused}");
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel lets go a little later; open waits for that.
        drop(open("lo"));
        assert!(!programs_on_lo());
        assert_eq!(lo_sysctls(), ["0", "0"], "the next start has restored them");
        let mut child = holder();
        child.kill().unwrap();
        child.wait().unwrap();
        sysctl::restore_all().unwrap();
        assert_eq!(lo_sysctls(), ["0", "0"]);
        let refused = TcpStream::connect_timeout(&address("127.0.0.1:8080"), WAIT).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn three_capabilities_and_little_locked_memory_are_enough() {
    if !privileged("three_capabilities_and_little_locked_memory_are_enough") {
        return;
    }
    in_namespace(|| {
        // Where an unprivileged user can read it.
        let directory = std::env::temp_dir().join(format!("mtcp-xdp-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let program = directory.join("holder");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let capabilities = "+net_admin,+net_raw,+bpf";
        let mut command = Command::new("prlimit");
        command
            .args(["--memlock=8388608", "setpriv", "--reuid=65534", "--regid=65534"])
            .args(["--clear-groups", "--inh-caps", capabilities, "--ambient-caps", capabilities])
            .arg(program)
            .env("XDG_RUNTIME_DIR", &directory);
        let (mut child, said) = hold_by(command);
        assert!(said.contains("RLIMIT_MEMLOCK"), "{said}");
        assert_eq!(lo_sysctls(), ["1", "1"]);
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn a_forked_child_lets_go_without_harm() {
    if !privileged("a_forked_child_lets_go_without_harm") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let local = address("127.0.0.1:8080");
        device.steer(local, true).unwrap();
        // SAFETY: the child only drops what it inherited and ends without running anything else.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(device);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        let mut status = -1;
        // SAFETY: our own child, and a live integer.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(lo_sysctls(), ["1", "1"]);
        let client = connecting(local);
        answer_syn(&mut device, local);
        client.join().unwrap().unwrap();
    });
}
