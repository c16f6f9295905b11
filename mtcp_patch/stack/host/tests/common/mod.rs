//! What the privileged tests share: a network namespace that vanishes by itself, and frames made
//! by hand, so that a fault in the engine's own parser cannot hide one here.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used, clippy::panic)] // that is how a test fails

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mtcp_engine::device::Device;
use mtcp_host::xdp::{XdpDevice, XdpOptions};

/// Longest that a test may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whether this process may do what the tests need; says loudly when it may not.
pub fn privileged(test: &str) -> bool {
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED {test}: needs root (network namespaces, XDP)");
    }
    root
}

/// Runs `body` in a thread with a network namespace of its own in which `lo` is up. The namespace
/// goes when the thread and the sockets end. Panics when `body` does, or takes too long.
pub fn in_namespace<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        unshare();
        ip("link set lo up");
        // A receiver that gave up has already failed the test.
        let _ = done.send(body());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(value) => {
            thread.join().unwrap();
            value
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {PATIENCE:?}"),
    }
}

/// Moves the calling thread into a new network namespace.
pub fn unshare() {
    // SAFETY: affects only the calling thread.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "unshare: {}", std::io::Error::last_os_error());
}

/// The calling thread's id, by which `ip link set … netns` finds its namespace.
pub fn thread_id() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// Runs `body` in a thread with another namespace, joined to the caller's by a veth pair: `va` with
/// 10.10.0.1/24 and fd00::1/64 here, `vb` with .2 and ::2 there. `extra` goes to `ip link add`.
pub fn with_veth_peer<R: Send + 'static>(
    extra: &str,
    body: impl FnOnce() -> R + Send + 'static,
) -> std::thread::JoinHandle<R> {
    let (tell, told) = mpsc::channel();
    let (go, ready) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        unshare();
        ip("link set lo up");
        tell.send(thread_id()).unwrap();
        ready.recv().unwrap();
        ip("addr add 10.10.0.2/24 dev vb");
        ip("addr add fd00::2/64 dev vb nodad");
        ip("link set vb up");
        tell.send(0).unwrap();
        body()
    });
    let peer = told.recv_timeout(PATIENCE).unwrap();
    ip(&format!("link add va {extra} type veth peer name vb netns {peer} {extra}"));
    ip("addr add 10.10.0.1/24 dev va");
    ip("addr add fd00::1/64 dev va nodad");
    ip("link set va up");
    go.send(()).unwrap();
    told.recv_timeout(PATIENCE).unwrap(); // both ends are up
    thread
}

/// Runs `ip ARGUMENTS` in the calling thread's namespace.
pub fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a program in the calling thread's namespace and expects success.
pub fn run(program: &str, arguments: &str) {
    let out = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// A TCP segment to be sent by hand.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|p| (u64::from(p[0]) << 8) | u64::from(*p.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An Ethernet frame with zero addresses around a transport packet whose checksum field is zero
/// and stands at `checksum_at`; `middle` stands between the IP header and the packet (IPv4
/// options, or IPv6 extension headers with `first` as the first one's number).
pub fn frame(
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    mut packet: Vec<u8>,
    checksum_at: usize,
    middle: (u8, &[u8]),
) -> Vec<u8> {
    let pseudo = sum(&octets(src)) + sum(&octets(dst)) + u64::from(protocol) + packet.len() as u64;
    let checksum = fold(pseudo + sum(&packet));
    packet[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    let (first, middle) = middle;
    let mut out = vec![0; 12];
    if src.is_ipv4() {
        out.extend([0x08, 0x00]);
        let total = (20 + middle.len() + packet.len()) as u16;
        let mut header = vec![0x45 + (middle.len() / 4) as u8, 0];
        header.extend(total.to_be_bytes());
        header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        header.extend(octets(src));
        header.extend(octets(dst));
        header.extend(middle);
        let checksum = fold(sum(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        out.extend(header);
    } else {
        out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        out.extend(((middle.len() + packet.len()) as u16).to_be_bytes());
        out.extend([if middle.is_empty() { protocol } else { first }, 64]);
        out.extend(octets(src));
        out.extend(octets(dst));
        out.extend(middle);
    }
    out.extend(packet);
    out
}

impl Tcp {
    /// The segment as a frame for `lo`.
    pub fn to_frame(&self) -> Vec<u8> {
        self.to_frame_with((0, &[]))
    }

    /// The same with IPv4 options or IPv6 extension headers before it.
    pub fn to_frame_with(&self, middle: (u8, &[u8])) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend(self.src.port().to_be_bytes());
        packet.extend(self.dst.port().to_be_bytes());
        packet.extend(self.seq.to_be_bytes());
        packet.extend(self.ack.to_be_bytes());
        packet.extend([(((20 + self.options.len()) / 4) << 4) as u8, self.flags]);
        packet.extend(self.window.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(&self.options);
        packet.extend(&self.payload);
        frame(self.src.ip(), self.dst.ip(), 6, packet, 16, middle)
    }

    /// Reads a frame without IP options or extension headers; None when it is not TCP.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (src, dst, at, protocol): (IpAddr, IpAddr, usize, u8) = match frame.get(12..14)? {
            [0x08, 0x00] => (
                <[u8; 4]>::try_from(frame.get(26..30)?).ok()?.into(),
                <[u8; 4]>::try_from(frame.get(30..34)?).ok()?.into(),
                34,
                *frame.get(23)?,
            ),
            [0x86, 0xdd] => (
                <[u8; 16]>::try_from(frame.get(22..38)?).ok()?.into(),
                <[u8; 16]>::try_from(frame.get(38..54)?).ok()?.into(),
                54,
                *frame.get(20)?,
            ),
            _ => return None,
        };
        let tcp = (protocol == 6).then(|| frame.get(at..))??;
        let word16 = |i: usize| Some(u16::from_be_bytes(tcp.get(i..i + 2)?.try_into().ok()?));
        let word32 = |i: usize| Some(u32::from_be_bytes(tcp.get(i..i + 4)?.try_into().ok()?));
        let header = usize::from(*tcp.get(12)? >> 4) * 4;
        Some(Self {
            src: SocketAddr::new(src, word16(0)?),
            dst: SocketAddr::new(dst, word16(2)?),
            seq: word32(4)?,
            ack: word32(8)?,
            flags: *tcp.get(13)?,
            window: word16(14)?,
            options: tcp.get(20..header)?.to_vec(),
            payload: tcp.get(header..)?.to_vec(),
        })
    }
}

/// A UDP datagram as a frame for `lo`.
pub fn udp_frame(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(src.port().to_be_bytes());
    packet.extend(dst.port().to_be_bytes());
    packet.extend(((8 + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    frame(src.ip(), dst.ip(), 17, packet, 6, (0, &[]))
}

/// An ICMP or ICMPv6 message as a frame for `lo`.
pub fn icmp_frame(src: IpAddr, dst: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    if src.is_ipv6() {
        return frame(src, dst, 58, message, 2, (0, &[]));
    }
    let checksum = fold(sum(&message));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    // No pseudo-header here: undo what `frame` puts into the checksum field.
    let mut out = frame(src, dst, 1, message.clone(), 2, (0, &[]));
    out[36..38].copy_from_slice(&checksum.to_be_bytes());
    out
}

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
pub const PSH: u8 = 8;
/// How long one thing that must happen may take.
pub const WAIT: Duration = Duration::from_secs(5);

/// The device with its default options.
pub fn open(ifname: &str) -> XdpDevice {
    XdpDevice::open(ifname, &XdpOptions::default()).unwrap()
}

/// An address and port from text.
pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Receives until a segment satisfies `wanted`; panics after a while.
pub fn expect(device: &mut XdpDevice, wanted: impl Fn(&Tcp) -> bool) -> (Tcp, Vec<u8>) {
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        let mut found = None;
        // One at a time: what comes after the wanted one is for the next call.
        let received = device.receive(1, &mut |frame| {
            if let Some(tcp) = Tcp::parse(frame).filter(|tcp| wanted(tcp)) {
                found = Some((tcp, frame.to_vec()));
            }
        });
        if let Some(found) = found {
            return found;
        }
        if received != 0 {
            continue;
        }
        let mut poll = libc::pollfd { fd: device.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live pollfd.
        unsafe { libc::poll(&mut poll, 1, 100) };
    }
    panic!("no such segment came in {WAIT:?}");
}

/// Sends one frame at once.
pub fn send(device: &mut XdpDevice, frame: &[u8]) {
    assert!(device.transmit(frame.len(), &mut |out| out.copy_from_slice(frame)));
    device.flush();
}

/// Begins a connection by the kernel in another thread of this namespace.
pub fn connecting(to: SocketAddr) -> std::thread::JoinHandle<std::io::Result<TcpStream>> {
    std::thread::spawn(move || TcpStream::connect_timeout(&to, WAIT))
}

/// Answers the kernel's SYN to `local` with a SYN-ACK (MSS 65,495, window scale 14).
pub fn answer_syn(device: &mut XdpDevice, local: SocketAddr) -> Tcp {
    let (syn, _) = expect(device, |t| t.flags & SYN != 0 && t.dst.port() == local.port());
    let answer = Tcp {
        src: syn.dst,
        dst: syn.src,
        seq: 1000,
        ack: syn.seq.wrapping_add(1),
        flags: SYN | ACK,
        window: 65_535,
        options: vec![2, 4, 0xff, 0xd7, 1, 3, 3, 14],
        payload: Vec::new(),
    };
    send(device, &answer.to_frame());
    syn
}
