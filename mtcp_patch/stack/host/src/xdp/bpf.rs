//! The five commands of `bpf(2)` that we need, without libbpf.
//!
//! Called by `steer` only. Each attribute block is the prefix of `union bpf_attr` that its command
//! reads; the kernel takes the missing rest as zero.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::asm::Insn;
use crate::runtime_fd::RuntimeFd;

const CMD_MAP_CREATE: libc::c_int = 0;
const CMD_MAP_UPDATE: libc::c_int = 2;
const CMD_MAP_DELETE: libc::c_int = 3;
const CMD_PROG_LOAD: libc::c_int = 5;
const CMD_LINK_CREATE: libc::c_int = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;

/// Map type: hash table.
pub const MAP_HASH: u32 = 1;
/// Map type: array.
pub const MAP_ARRAY: u32 = 2;
/// Map flag: its memory can be mapped (Linux 5.5).
pub const MAP_MMAPABLE: u32 = 1 << 10;
/// Map type: AF_XDP sockets by index.
pub const MAP_XSK: u32 = 17;
/// Program flag: it may run on frames that are spread over several buffers.
pub const PROG_XDP_HAS_FRAGS: u32 = 1 << 5;
/// Attach flag: generic mode, on the socket buffer.
pub const XDP_MODE_GENERIC: u32 = 1 << 1;
/// Attach flag: native mode, in the driver.
pub const XDP_MODE_NATIVE: u32 = 1 << 2;

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkCreate {
    prog: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Runs one command; `T` is the prefix of the attribute union that belongs to `cmd`.
fn bpf<T>(cmd: libc::c_int, attr: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live repr(C) block of the size passed; every pointer in it comes from a
    // reference that the caller holds over this call, and the kernel keeps none of them.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_ref(attr), size_of::<T>() as libc::c_ulong)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn bpf_fd<T>(cmd: libc::c_int, attr: &T) -> io::Result<RuntimeFd> {
    let fd = bpf(cmd, attr)?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just handed us this descriptor (close-on-exec) and nobody else has it.
    Ok(RuntimeFd::new(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn address<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as usize as u64
}

fn name(text: &str) -> [u8; 16] {
    let mut out = [0; 16];
    // The last byte stays zero: the kernel wants a C string.
    for (to, from) in out.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    out
}

/// A map and the sizes that every access to it must have.
pub struct Map {
    fd: RuntimeFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl Map {
    /// Creates a map; `what` names it in `bpftool map`.
    pub fn create(
        map_type: u32,
        key_bytes: usize,
        value_bytes: usize,
        max_entries: u32,
        flags: u32,
        what: &str,
    ) -> io::Result<Self> {
        let attr = MapCreate {
            map_type,
            key_bytes: key_bytes as u32,
            value_bytes: value_bytes as u32,
            max_entries,
            flags,
            inner_map: 0,
            numa_node: 0,
            name: name(what),
        };
        Ok(Self { fd: bpf_fd(CMD_MAP_CREATE, &attr)?, key_bytes, value_bytes })
    }

    /// Its descriptor's number, for `Assembler::load_map`.
    pub fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn element(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<MapElement> {
        use std::os::fd::AsFd;
        // The kernel reads as many bytes as the map was created with, whatever we pass.
        if key.len() != self.key_bytes || value.is_some_and(|v| v.len() != self.value_bytes) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let value = value.map_or(0, address);
        Ok(MapElement { map: raw(self.fd.as_fd()), pad: 0, key: address(key), value, flags: 0 })
    }

    /// Sets `key` to `value`.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        bpf(CMD_MAP_UPDATE, &self.element(key, Some(value))?).map(drop)
    }

    /// Removes `key`; an absent one is an ENOENT.
    pub fn remove(&self, key: &[u8]) -> io::Result<()> {
        bpf(CMD_MAP_DELETE, &self.element(key, None)?).map(drop)
    }
}

/// Loads an XDP program. On refusal the error carries the end of the verifier's log.
pub fn load_xdp(insns: &[Insn], flags: u32, what: &str) -> io::Result<RuntimeFd> {
    let mut attr = ProgLoad {
        prog_type: PROG_TYPE_XDP,
        insn_count: insns.len() as u32,
        insns: address(insns),
        license: address(c"Apache-2.0".to_bytes_with_nul()),
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel_version: 0,
        flags,
        name: name(what),
    };
    match bpf_fd(CMD_PROG_LOAD, &attr) {
        // Ask for the reason only now: with a log the good case would be slower.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) => {
            let mut log = vec![0u8; 64 * 1024];
            attr.log_level = 1;
            attr.log_bytes = log.len() as u32;
            attr.log = log.as_mut_ptr() as usize as u64;
            bpf_fd(CMD_PROG_LOAD, &attr).map_err(|e| explain(&e, &log))
        }
        other => other,
    }
}

fn explain(error: &io::Error, log: &[u8]) -> io::Error {
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().rev().take(6).collect();
    let tail: Vec<&str> = lines.into_iter().rev().collect();
    io::Error::new(error.kind(), format!("{error}; verifier: {}", tail.join(" | ")))
}

/// Attaches `prog` to an interface for as long as the returned descriptor is open anywhere: when
/// the process dies the kernel detaches it.
pub fn attach_xdp(prog: BorrowedFd<'_>, ifindex: u32, mode: u32) -> io::Result<RuntimeFd> {
    let attr = LinkCreate { prog: raw(prog), ifindex, attach_type: ATTACH_TYPE_XDP, flags: mode };
    bpf_fd(CMD_LINK_CREATE, &attr)
}
