//! The program that decides about each frame. Assembled here, loaded by `steer`.
//!
//! Registers: r6 context, r7 offset of the TCP header in the frame, r8 third word of the wildcard
//! address, r9 whether it is an ICMP error. Pointers into the frame are only ever moved by constants:
//! anything else needs CAP_PERFMON, so what stands behind options or extension headers is read by a
//! helper.

use super::asm::{
    Alu, AsmError, Assembler, Cond, Insn, Label, Reg, Size, FP, R0, R1, R2, R3, R4, R5, R6, R7, R8,
    R9,
};

/// The family in a key, of IPv4.
pub const FAMILY_V4: u16 = 4;
/// Of IPv6.
pub const FAMILY_V6: u16 = 6;

/// What the map holds for a port that is ours alone. Else it is the port's place in `shares`.
pub const ALONE: u32 = 0;

/// Most IPv6 extension headers that the program steps over.
const MAX_EXTENSIONS: usize = 4;

const HELPER_MAP_LOOKUP: i32 = 1;
const HELPER_REDIRECT_MAP: i32 = 51;
const HELPER_SK_RELEASE: i32 = 86;
const HELPER_SKC_LOOKUP_TCP: i32 = 99;
/// `bpf_xdp_load_bytes`, Linux 5.18.
const HELPER_LOAD_BYTES: i32 = 189;
/// BPF_F_CURRENT_NETNS: the device's.
const THIS_NETNS: i32 = -1;
/// Offset in `struct bpf_sock`.
const SOCK_STATE: i16 = 72;
const TCP_LISTEN: i32 = 10;
const SYN: i32 = 0x02;
const SYN_ACK: i32 = 0x12;
const XDP_PASS: i32 = 2;

// struct xdp_md
const MD_DATA: i16 = 0;
const MD_DATA_END: i16 = 4;
const MD_RX_QUEUE: i16 = 16;

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
/// `struct bpf_sock_tuple` of a shared port's segment, where a quote would be.
const TUPLE: i16 = QUOTE;
const TUPLE_V4_BYTES: i32 = 12;
const TUPLE_V6_BYTES: i32 = 36;
/// Where the program has an index of an array, behind the ports.
const INDEX: i16 = BYTES + 4;

/// Length of an ICMP header.
const ICMP: i32 = 8;
/// Length of an Ethernet II header.
const ETHERNET: i16 = 14;

/// A 16-bit constant as a load of two network-order bytes sees it.
fn net16(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// The descriptors of the program's maps.
pub struct ProgramMaps {
    /// A bit a port.
    pub ports: i32,
    /// By address and port.
    pub owned: i32,
    /// New connections that we take, by a shared port's place.
    pub shares: i32,
    /// The AF_XDP sockets, by queue.
    pub sockets: i32,
}

/// The program.
pub fn program(maps: &ProgramMaps) -> Result<Vec<Insn>, AsmError> {
    let &ProgramMaps { ports, owned, shares, sockets } = maps;
    let mut a = Assembler::new();
    let (pass, v6, hit) = (a.label(), a.label(), a.label());
    let (tcp, icmp4, icmp6) = (a.label(), a.label(), a.label());
    let ours = a.label();
    a.mov(R6, R1);
    a.mov(R9, 0);
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
    a.mov(R9, 1);
    quoted_ipv4(&mut a, pass);
    a.jump(tcp);
    a.place(icmp6);
    a.mov(R9, 1);
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
    a.load(Size::Word, R5, R0, 0);
    a.jump_if(Cond::Eq, R5, ALONE as i32, ours);
    a.jump_if(Cond::Ne, R9, 0, pass);
    a.store(Size::Word, FP, INDEX, R5);
    lookup(&mut a, shares, INDEX);
    a.jump_if(Cond::Eq, R0, 0, pass);
    a.mov(R9, R0);
    shared(&mut a, pass, ours);
    a.place(ours);
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
    a.store(Size::Word, FP, INDEX, R5);
    lookup(a, ports, INDEX);
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

/// Decides about a segment of a shared port: r6 context, r7 offset of the TCP header, r9 how many
/// new connections we take. Two processors that decide at once may each take the last one.
fn shared(a: &mut Assembler, pass: Label, ours: Label) {
    let (v6, look, none, unknown) = (a.label(), a.label(), a.label(), a.label());
    a.load(Size::Word, R2, R6, MD_DATA);
    a.load(Size::Word, R3, R6, MD_DATA_END);
    require(a, ETHERNET + 20, pass);
    a.load(Size::Word, R8, FP, BYTES); // both ports
    a.load(Size::Half, R5, FP, KEY_FAMILY);
    a.jump_if(Cond::Eq, R5, i32::from(FAMILY_V6), v6);
    copy_words(a, ETHERNET + 12, 2);
    a.mov(R3, TUPLE_V4_BYTES);
    a.jump(look);
    a.place(v6);
    require(a, ETHERNET + 40, pass);
    copy_words(a, ETHERNET + 8, 8);
    a.mov(R3, TUPLE_V6_BYTES);
    a.place(look);
    a.mov(R8, R3);
    a.alu(Alu::Add, R7, 12);
    load_bytes(a, BYTES, 2, pass);
    a.mov(R3, R8);
    a.load(Size::Byte, R8, FP, BYTES + 1);
    a.alu(Alu::And, R8, SYN_ACK);
    a.mov(R1, R6);
    a.mov(R2, FP);
    a.alu(Alu::Add, R2, i32::from(TUPLE));
    a.mov(R4, THIS_NETNS);
    a.mov(R5, 0);
    a.call(HELPER_SKC_LOOKUP_TCP);
    a.jump_if(Cond::Eq, R0, 0, none);
    a.load(Size::Word, R7, R0, SOCK_STATE);
    a.mov(R1, R0);
    a.call(HELPER_SK_RELEASE);
    // Established, half open or in TIME-WAIT there: its own.
    a.jump_if(Cond::Ne, R7, TCP_LISTEN, pass);
    a.place(none);
    a.jump_if(Cond::Eq, R8, SYN, unknown);
    a.jump(ours);
    a.place(unknown);
    a.load(Size::Word, R5, R9, 0);
    a.jump_if(Cond::Eq, R5, 0, pass);
    a.alu(Alu::Add, R5, -1);
    a.store(Size::Word, R9, 0, R5);
}

/// Copies `count` words at a constant offset of the frame (r2) into the tuple, and the ports (r8)
/// behind them. Clobbers r5.
fn copy_words(a: &mut Assembler, from: i16, count: i16) {
    for word in 0..count {
        a.load(Size::Word, R5, R2, from + word * 4);
        a.store(Size::Word, FP, TUPLE + word * 4, R5);
    }
    a.store(Size::Word, FP, TUPLE + count * 4, R8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_finite_and_small() {
        let p = program(&ProgramMaps { ports: 2, owned: 3, shares: 4, sockets: 5 }).unwrap();
        assert!(p.len() < 300, "{} instructions", p.len());
        assert!(p.iter().all(|i| i.code & 7 != 5 || i.off >= 0));
    }
}
