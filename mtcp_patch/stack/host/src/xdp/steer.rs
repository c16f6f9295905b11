//! Which frames come to us: the XDP program and its three maps.
//!
//! Owned by `XdpDevice`. The program looks up the *destination* address and port of every TCP
//! segment, and the *source* in the segment that an ICMP error quotes: the port alone first (`ports`),
//! then the exact address, then the wildcard of its family. A hit goes to the AF_XDP socket of the queue it came by, everything
//! else goes on to the kernel untouched. So do fragments (only the first has ports), IPv6 with
//! more than four extension headers or with ones other than hop-by-hop, routing and destination
//! options, and VLAN-tagged frames.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use super::asm::{
    Alu, AsmError, Assembler, Cond, Insn, Label, Reg, Size, FP, R0, R1, R2, R3, R4, R5, R6, R7, R8,
};
use super::bpf::{self, Map};
use super::ports::Ports;
use crate::runtime_fd::RuntimeFd;

/// Most addresses and ports that one device steers at once. The kernel allocates all of them at
/// once, 6 MB: allocating each when it comes made steering cost 5 µs instead of 2.
pub const MAX_STEERED: u32 = 65_536;

/// Most IPv6 extension headers that the program steps over.
const MAX_EXTENSIONS: usize = 4;

const HELPER_MAP_LOOKUP: i32 = 1;
const HELPER_REDIRECT_MAP: i32 = 51;
/// `bpf_xdp_load_bytes`, Linux 5.18.
const HELPER_LOAD_BYTES: i32 = 189;
const XDP_PASS: i32 = 2;

// struct xdp_md
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_RX_QUEUE: i16 = 16;

/// What the hash map is keyed by: 16 bytes of address (IPv4 mapped), the port in network byte
/// order, and the family, so that a frame of IPv6 with a mapped address cannot pass for IPv4.
pub type Key = [u8; 20];

const FAMILY_V4: u16 = 4;
const FAMILY_V6: u16 = 6;

/// The map key of a local address; an unspecified one gives the wildcard of its family.
pub fn key(local: SocketAddr) -> Key {
    let (address, family) = match local.ip() {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), FAMILY_V4),
        IpAddr::V6(v6) => (v6, FAMILY_V6),
    };
    let mut key = [0; 20];
    let tail = local.port().to_be_bytes().into_iter().chain(family.to_ne_bytes());
    for (to, from) in key.iter_mut().zip(address.octets().into_iter().chain(tail)) {
        *to = from;
    }
    key
}

// The key on the program's stack.
const KEY: i16 = -24;
const KEY_MIDDLE: i16 = KEY + 8; // 0 for IPv6 wildcards, 00 00 ff ff for IPv4
const KEY_LAST: i16 = KEY + 12; // the IPv4 address
const KEY_PORT: i16 = KEY + 16;
const KEY_FAMILY: i16 = KEY + 18;
/// Where the program reads pieces of the frame to.
const BYTES: i16 = -32;
/// The same, for an ICMP message with the IP header that it quotes.
const QUOTE: i16 = -80;
/// Length of an ICMP header.
const ICMP: i32 = 8;
/// Length of an Ethernet II header.
const ETHERNET: i16 = 14;

/// A 16-bit constant as a load of two network-order bytes sees it.
fn net16(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// The program; `ports`, `owned` and `sockets` are descriptors of the three maps.
///
/// Registers: r6 context, r7 offset of the TCP header in the frame, r8 third word of the wildcard
/// address. Pointers into the frame are only ever moved by constants: anything else needs
/// CAP_PERFMON, so what stands behind options or extension headers is read by a helper.
fn program(ports: i32, owned: i32, sockets: i32) -> Result<Vec<Insn>, AsmError> {
    let mut a = Assembler::new();
    let (pass, v6, hit) = (a.label(), a.label(), a.label());
    let (tcp, icmp4, icmp6) = (a.label(), a.label(), a.label());
    a.mov(R6, R1);
    a.load(Size::Word, R2, R6, MD_DATA);
    a.load(Size::Word, R3, R6, MD_DATA_END);
    require(&mut a, ETHERNET, pass);
    a.load(Size::Half, R5, R2, 12);
    a.jump_if(Cond::Eq, R5, net16(0x86dd), v6);
    a.jump_if(Cond::Ne, R5, net16(0x0800), pass);
    ipv4(&mut a, pass);
    a.jump_if(Cond::Eq, R0, libc::IPPROTO_TCP, tcp);
    a.jump_if(Cond::Eq, R0, libc::IPPROTO_ICMP, icmp4);
    a.jump(pass);
    a.place(v6);
    ipv6(&mut a, pass, tcp, icmp6);
    a.place(icmp4);
    quoted_ipv4(&mut a, pass);
    a.jump(tcp);
    a.place(icmp6);
    quoted_ipv6(&mut a, pass);
    a.place(tcp);
    load_bytes(&mut a, BYTES, 4, pass); // source and destination port
    a.load(Size::Half, R5, FP, BYTES + 2);
    a.store(Size::Half, FP, KEY_PORT, R5);
    known_port(&mut a, ports, pass);
    lookup(&mut a, owned, KEY);
    a.jump_if(Cond::Ne, R0, 0, hit);
    a.store(Size::Double, FP, KEY, 0);
    a.store(Size::Word, FP, KEY_MIDDLE, R8);
    a.store(Size::Word, FP, KEY_LAST, 0);
    lookup(&mut a, owned, KEY);
    a.jump_if(Cond::Eq, R0, 0, pass);
    a.place(hit);
    a.load_map(R1, sockets);
    a.load(Size::Word, R2, R6, MD_RX_QUEUE);
    a.mov(R3, XDP_PASS); // the verdict when the queue has no socket
    a.call(HELPER_REDIRECT_MAP);
    a.exit();
    a.place(pass);
    a.mov(R0, XDP_PASS);
    a.exit();
    a.finish()
}

/// Passes the frame on unless its first `bytes` bytes are there (r2 start, r3 end, clobbers r4).
fn require(a: &mut Assembler, bytes: i16, pass: Label) {
    a.mov(R4, R2);
    a.alu(Alu::Add, R4, i32::from(bytes));
    a.jump_if(Cond::Gt, R4, R3, pass);
}

/// Copies `count` bytes at offset r7 of the frame to the stack at `to`; passes the frame on when
/// they are not there. Clobbers r0 to r5.
fn load_bytes(a: &mut Assembler, to: i16, count: i32, pass: Label) {
    a.mov(R1, R6);
    a.mov(R2, R7);
    a.mov(R3, FP);
    a.alu(Alu::Add, R3, i32::from(to));
    a.mov(R4, count);
    a.call(HELPER_LOAD_BYTES);
    a.jump_if(Cond::Ne, R0, 0, pass);
}

/// Looks up the key at `at` on the stack: r0 is its value's address, or 0.
fn lookup(a: &mut Assembler, map: i32, at: i16) {
    a.load_map(R1, map);
    a.mov(R2, FP);
    a.alu(Alu::Add, R2, i32::from(at));
    a.call(HELPER_MAP_LOOKUP);
}

/// Passes the frame on when nothing with the port in r5, and in the key, is steered. The kernel
/// compiles the look-up in an array to a few instructions, with no call. Clobbers r0 to r5.
fn known_port(a: &mut Assembler, ports: i32, pass: Label) {
    a.alu(Alu::Rsh, R5, 6);
    a.store(Size::Word, FP, BYTES, R5);
    lookup(a, ports, BYTES);
    a.jump_if(Cond::Eq, R0, 0, pass);
    a.load(Size::Double, R1, R0, 0);
    a.load(Size::Half, R2, FP, KEY_PORT);
    a.alu(Alu::And, R2, 63);
    a.alu(Alu::Rsh, R1, R2);
    a.alu(Alu::And, R1, 1);
    a.jump_if(Cond::Eq, R1, 0, pass);
}

/// Finds what an unfragmented IPv4 packet carries: r0 protocol, r7 its offset; r8 and the key's
/// address filled.
fn ipv4(a: &mut Assembler, pass: Label) {
    let mapped = i32::from_ne_bytes([0, 0, 0xff, 0xff]);
    require(a, ETHERNET + 20, pass);
    a.load(Size::Byte, R7, R2, ETHERNET);
    a.mov(R0, R7);
    a.alu(Alu::Rsh, R0, 4);
    a.jump_if(Cond::Ne, R0, 4, pass);
    a.load(Size::Half, R0, R2, ETHERNET + 6);
    a.alu(Alu::And, R0, net16(0x3fff)); // more fragments, or not the first one
    a.jump_if(Cond::Ne, R0, 0, pass);
    a.load(Size::Word, R0, R2, ETHERNET + 16);
    a.store(Size::Double, FP, KEY, 0);
    a.mov(R8, mapped);
    a.store(Size::Word, FP, KEY_MIDDLE, R8);
    a.store(Size::Word, FP, KEY_LAST, R0);
    a.store(Size::Half, FP, KEY_FAMILY, i32::from(FAMILY_V4));
    a.load(Size::Byte, R0, R2, ETHERNET + 9);
    header_length(a, R7, pass);
    a.alu(Alu::Add, R7, i32::from(ETHERNET));
}

/// Turns the first byte of an IPv4 header into the header's length, 20 to 60.
fn header_length(a: &mut Assembler, reg: Reg, pass: Label) {
    a.alu(Alu::And, reg, 15);
    a.alu(Alu::Lsh, reg, 2);
    a.jump_if(Cond::Lt, reg, 20, pass);
}

/// Finds what an IPv6 packet carries behind at most four extension headers, and jumps to `tcp` or
/// `icmp` or passes it on; r7 is its offset, r8 and the key's address are filled.
fn ipv6(a: &mut Assembler, pass: Label, tcp: Label, icmp: Label) {
    require(a, ETHERNET + 40, pass);
    a.load(Size::Byte, R5, R2, ETHERNET);
    a.alu(Alu::Rsh, R5, 4);
    a.jump_if(Cond::Ne, R5, 6, pass);
    for word in 0..4 {
        a.load(Size::Word, R5, R2, ETHERNET + 24 + word * 4);
        a.store(Size::Word, FP, KEY + word * 4, R5);
    }
    a.mov(R8, 0);
    a.store(Size::Half, FP, KEY_FAMILY, i32::from(FAMILY_V6));
    a.load(Size::Byte, R5, R2, ETHERNET + 6);
    a.mov(R7, i32::from(ETHERNET + 40));
    for _ in 0..MAX_EXTENSIONS {
        let extension = a.label();
        a.jump_if(Cond::Eq, R5, libc::IPPROTO_TCP, tcp);
        a.jump_if(Cond::Eq, R5, libc::IPPROTO_ICMPV6, icmp);
        for kind in [libc::IPPROTO_HOPOPTS, libc::IPPROTO_ROUTING] {
            a.jump_if(Cond::Eq, R5, kind, extension);
        }
        a.jump_if(Cond::Ne, R5, libc::IPPROTO_DSTOPTS, pass);
        a.place(extension);
        load_bytes(a, BYTES, 2, pass);
        a.load(Size::Byte, R5, FP, BYTES + 1); // units of 8 bytes, not counting the first
        a.alu(Alu::Add, R5, 1);
        a.alu(Alu::Lsh, R5, 3);
        a.alu(Alu::Add, R7, R5);
        a.load(Size::Byte, R5, FP, BYTES);
    }
    a.jump_if(Cond::Eq, R5, libc::IPPROTO_TCP, tcp);
    a.jump(pass);
}

/// In an ICMP error (RFC 792) at r7: the key becomes the source of the segment that it quotes, and
/// r7 stands so that the segment's source port is where a destination port would be.
fn quoted_ipv4(a: &mut Assembler, pass: Label) {
    let error = a.label();
    load_bytes(a, QUOTE, ICMP + 20, pass);
    a.load(Size::Byte, R5, FP, QUOTE);
    for kind in [3, 11] {
        a.jump_if(Cond::Eq, R5, kind, error); // unreachable, time exceeded
    }
    a.jump_if(Cond::Ne, R5, 12, pass); // parameter problem
    a.place(error);
    let header = QUOTE + ICMP as i16;
    a.load(Size::Byte, R0, FP, header + 9);
    a.jump_if(Cond::Ne, R0, libc::IPPROTO_TCP, pass);
    a.load(Size::Half, R0, FP, header + 6);
    a.alu(Alu::And, R0, net16(0x1fff)); // only the first fragment has ports
    a.jump_if(Cond::Ne, R0, 0, pass);
    a.load(Size::Word, R0, FP, header + 12);
    a.store(Size::Word, FP, KEY_LAST, R0);
    a.load(Size::Byte, R0, FP, header);
    header_length(a, R0, pass);
    a.alu(Alu::Add, R7, R0);
    a.alu(Alu::Add, R7, ICMP - 2);
}

/// The same for ICMPv6 (RFC 4443), of which types 1 to 4 are the errors that are defined.
fn quoted_ipv6(a: &mut Assembler, pass: Label) {
    load_bytes(a, QUOTE, ICMP + 40, pass);
    a.load(Size::Byte, R5, FP, QUOTE);
    a.jump_if(Cond::Eq, R5, 0, pass);
    a.jump_if(Cond::Gt, R5, 4, pass);
    let header = QUOTE + ICMP as i16;
    a.load(Size::Byte, R0, FP, header + 6);
    a.jump_if(Cond::Ne, R0, libc::IPPROTO_TCP, pass);
    for word in 0..4 {
        a.load(Size::Word, R5, FP, header + 8 + word * 4);
        a.store(Size::Word, FP, KEY + word * 4, R5);
    }
    a.alu(Alu::Add, R7, ICMP + 40 - 2);
}

/// The loaded program with its maps, and who asked for which key.
pub struct Steering {
    ports: Ports,
    owned: Map,
    sockets: Map,
    program: RuntimeFd,
    frags: bool,
    /// How many times each key was asked for: several listeners may share one (SO_REUSEPORT).
    users: HashMap<Key, u32>,
    /// What a wildcard became on an interface other than `lo`.
    expanded: HashMap<SocketAddr, Vec<Vec<SocketAddr>>>,
}

impl Steering {
    /// Makes the maps and loads the program for an interface of `queues` receive queues.
    /// A kernel that knows no multi-buffer XDP (before 5.18) gets the program without that flag.
    pub fn load(queues: u32) -> io::Result<Self> {
        let owned = Map::create(bpf::MAP_HASH, size_of::<Key>(), 4, MAX_STEERED, 0, "mtcp_owned")?;
        let sockets = Map::create(bpf::MAP_XSK, 4, 4, queues, 0, "mtcp_sockets")?;
        let ports = Ports::new()?;
        let maps = (ports.raw_fd(), owned.raw_fd(), sockets.raw_fd());
        let insns = program(maps.0, maps.1, maps.2).map_err(io::Error::other)?;
        let (program, frags) = match bpf::load_xdp(&insns, bpf::PROG_XDP_HAS_FRAGS, "mtcp_steer") {
            Ok(fd) => (fd, true),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && e.raw_os_error().is_some() => {
                return Err(e)
            }
            Err(_) => (bpf::load_xdp(&insns, 0, "mtcp_steer")?, false),
        };
        let (users, expanded) = (HashMap::new(), HashMap::new());
        Ok(Self { ports, owned, sockets, program, frags, users, expanded })
    }

    /// Whether the program may see frames of several buffers.
    pub fn has_frags(&self) -> bool {
        self.frags
    }

    /// Sends what queue `queue` redirects to the socket `fd`.
    pub fn set_socket(&self, queue: u32, fd: i32) -> io::Result<()> {
        self.sockets.set(&queue.to_ne_bytes(), &fd.to_ne_bytes())
    }

    /// Attaches the program; it leaves with the descriptor.
    pub fn attach(&self, ifindex: u32, mode: u32) -> io::Result<RuntimeFd> {
        bpf::attach_xdp(self.program.as_fd(), ifindex, mode)
    }

    /// Starts or stops steering one address and port, counted.
    pub fn steer(&mut self, local: SocketAddr, on: bool) -> io::Result<()> {
        let key = key(local);
        let users = self.users.get(&key).copied().unwrap_or(0);
        match (on, users) {
            (true, 0) => {
                self.ports.add(local.port());
                if let Err(e) = self.owned.set(&key, &1u32.to_ne_bytes()) {
                    self.ports.remove(local.port());
                    return Err(e);
                }
                self.users.insert(key, 1);
            }
            (true, n) => {
                self.users.insert(key, n.saturating_add(1));
            }
            (false, 0) => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
            (false, 1) => {
                self.owned.remove(&key)?;
                self.ports.remove(local.port());
                self.users.remove(&key);
            }
            (false, n) => {
                self.users.insert(key, n - 1);
            }
        }
        Ok(())
    }

    /// The same for a wildcard that must not catch forwarded traffic: each of `addresses` of its
    /// family is steered, and stopping stops what starting had started.
    pub fn steer_expanded(
        &mut self,
        wildcard: SocketAddr,
        on: bool,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> io::Result<()> {
        if !on {
            let list = self.expanded.get_mut(&wildcard).and_then(Vec::pop);
            let list = list.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
            return list.into_iter().try_for_each(|local| self.steer(local, false));
        }
        let mut done = Vec::new();
        let mut failed = None;
        for address in addresses.filter(|a| a.is_ipv4() == wildcard.is_ipv4()) {
            let local = SocketAddr::new(address, wildcard.port());
            match self.steer(local, true) {
                Ok(()) => done.push(local),
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        if let Some(e) = failed {
            // The first error is the one to report; undoing can only fail for the same reason.
            let undone: io::Result<()> = done.into_iter().try_for_each(|l| self.steer(l, false));
            return undone.and(Err(e));
        }
        self.expanded.entry(wildcard).or_default().push(done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_families_and_wildcards_apart() {
        let v4 = key("127.0.0.1:80".parse().unwrap());
        assert_eq!(&v4[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1, 0, 80]);
        let mapped = key("[::ffff:127.0.0.1]:80".parse().unwrap());
        assert_eq!(v4[..18], mapped[..18]);
        assert_ne!(v4, mapped);
        let any4 = key("0.0.0.0:80".parse().unwrap());
        let any6 = key("[::]:80".parse().unwrap());
        assert_eq!(any4[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0, 80]);
        assert_eq!(any6[..18], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80]);
    }

    #[test]
    fn the_program_is_finite_and_small() {
        let p = program(2, 3, 4).unwrap();
        assert!(p.len() < 220, "{} instructions", p.len());
        assert!(p.iter().all(|i| i.code & 7 != 5 || i.off >= 0));
    }
}
