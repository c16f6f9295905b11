//! The engine's TCP over `XdpDevice` against the kernel's: large transfers both ways on `lo` and
//! over a veth pair, many short connections, and opening from our side.
#![allow(clippy::unwrap_used, clippy::panic)] // that is how a test fails

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant as Clock};

use common::{in_namespace, ip, privileged, with_veth_peer};
use mtcp_engine::device::{Device, DeviceId};

use mtcp_engine::event::ready;
use mtcp_engine::time::Instant;
use mtcp_engine::wire::Link;
use mtcp_engine::{
    Config, ConnId, ConnOptions, ConnectOptions, Error, Event, ListenOptions, Path, Shard,
};
use mtcp_host::route;
use mtcp_host::xdp::{XdpDevice, XdpOptions};

const DEVICE: DeviceId = DeviceId(1);
const LARGE: usize = 100_000_000;
const WAIT: Duration = Duration::from_secs(120);

/// A shard on a device, driven by the thread that owns it.
struct Stack {
    shard: Shard,
    device: XdpDevice,
    start: Clock,
}

impl Stack {
    fn open(ifname: &str) -> Self {
        let device = XdpDevice::open(ifname, &XdpOptions::default()).unwrap();
        let mut shard = Shard::new(Config::default(), [7; 32]);
        shard.add_device(DEVICE, device.caps());
        Self { shard, device, start: Clock::now() }
    }

    fn listen(&mut self, local: &str) {
        let local: SocketAddr = local.parse().unwrap();
        self.device.steer(local, true).unwrap();
        let inherit = ConnOptions::default();
        let options = ListenOptions { local, v6only: true, backlog: 1024, inherit };
        self.shard.listen(options).unwrap();
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Drives until `done`; `serve` gets each connection that something happened to.
    fn drive(
        &mut self,
        mut serve: impl FnMut(&mut Shard, Instant, ConnId) -> bool,
        mut done: impl FnMut(&mut Shard) -> bool,
    ) {
        let end = Clock::now() + WAIT;
        while !done(&mut self.shard) {
            assert!(Clock::now() < end, "stalled: {}", self.describe());
            let now = self.now();
            let shard = &mut self.shard;
            let received =
                self.device.receive(256, &mut |frame| shard.handle_frame(now, DEVICE, frame));
            self.shard.handle_timers(now);
            while let Some(event) = self.shard.poll_event() {
                let mut ready = Vec::new();
                match event {
                    Event::Listener(listener) => {
                        while let Ok(id) = self.shard.accept(listener) {
                            ready.push(id);
                        }
                    }
                    Event::Conn(id) => ready.push(id),
                    Event::Freed(_) => {}
                }
                for id in ready {
                    if !serve(&mut self.shard, now, id) {
                        self.shard.close(now, id);
                    }
                }
            }
            let mut sent = 0;
            while self.shard.has_output(DEVICE) {
                let n = self.shard.transmit(now, DEVICE, &mut self.device);
                self.device.flush();
                sent += n;
                if n == 0 {
                    break;
                }
            }
            if received + sent == 0 {
                let left = self.shard.next_timeout().map_or(100_000, |t| t.micros_since(now));
                let millis = left.div_ceil(1000).min(100) as i32;
                let events = libc::POLLIN;
                let mut poll = libc::pollfd { fd: self.device.fd(), events, revents: 0 };
                // SAFETY: one live pollfd.
                unsafe { libc::poll(&mut poll, 1, millis) };
            }
        }
    }

    fn describe(&self) -> String {
        let list: Vec<String> =
            self.shard.connections().map(|(_, info)| format!("{info:?}")).collect();
        let counters = self.device.counters();
        let drops = self.device.kernel_drops();
        format!("{} {counters:?} {drops:?} {:?}", list.join("\n"), self.shard.stats())
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

/// What our side of the large transfers does with its one connection.
#[derive(Default)]
struct Peer {
    received: Vec<u8>,
    ended: bool,
    sent: usize,
}

impl Peer {
    fn receive(&mut self, shard: &mut Shard, now: Instant, id: ConnId) {
        loop {
            let n = match shard.recv_slices(id) {
                Ok((a, b)) => {
                    self.received.extend_from_slice(a);
                    self.received.extend_from_slice(b);
                    a.len() + b.len()
                }
                Err(Error::WouldBlock) => return,
                Err(e) => panic!("receive: {e}"),
            };
            if n == 0 {
                self.ended = true;
                return;
            }
            shard.recv_consume(now, id, n).unwrap();
        }
    }

    fn send(&mut self, shard: &mut Shard, now: Instant, id: ConnId, data: &[u8]) {
        while self.sent < data.len() {
            match shard.send(now, id, &data[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Error::WouldBlock) => return,
                Err(e) => panic!("send: {e}"),
            }
        }
    }
}

/// The kernel's side: sends `up` while it reads to the end, and returns what it read.
fn kernel_client(to: SocketAddr, up: Vec<u8>) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&to, WAIT).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        writer.write_all(&up).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut down = Vec::new();
    stream.read_to_end(&mut down).unwrap();
    sender.join().unwrap();
    down
}

/// Serves `client` (a running `kernel_client`) until it has ended: takes what comes, sends `down`,
/// closes. Returns what came by each connection, and what the client got.
fn serve<R>(
    stack: &mut Stack,
    down: &[u8],
    client: std::thread::JoinHandle<R>,
) -> (Vec<Vec<u8>>, R) {
    let mut peers: HashMap<ConnId, Peer> = HashMap::new();
    stack.drive(
        |shard, now, id| {
            let peer = peers.entry(id).or_default();
            peer.receive(shard, now, id);
            peer.send(shard, now, id, down);
            !(peer.ended && peer.sent == down.len())
        },
        |_| client.is_finished(),
    );
    (peers.into_values().map(|peer| peer.received).collect(), client.join().unwrap())
}

/// `bytes` up, the same down, and both at once, by one connection each.
fn large_transfers(stack: &mut Stack, run: impl Fn(usize) -> std::thread::JoinHandle<Vec<u8>>) {
    for (up, down) in [(LARGE, 0), (0, LARGE), (LARGE / 2, LARGE / 2)] {
        let expected = pattern(down);
        let began = Clock::now();
        let (came, got) = serve(stack, &expected, run(up));
        let seconds = began.elapsed().as_secs_f64();
        let rate = (up + down) as f64 / seconds / 1e6;
        // A full ring is not a failure: TCP repeats what was lost.
        let drops = stack.device.kernel_drops();
        eprintln!("{up} up, {down} down: {rate:.0} MB/s, {drops:?}");
        assert!(got == expected, "down: {} of {} bytes", got.len(), expected.len());
        let expected = pattern(up);
        assert!(came == [expected], "up");
    }
}

#[test]
fn large_transfers_on_lo() {
    if !privileged("large_transfers_on_lo") {
        return;
    }
    in_namespace(|| {
        let mut stack = Stack::open("lo");
        for to in ["127.0.0.1:8080", "[::1]:8080"] {
            stack.listen(to);
            let to: SocketAddr = to.parse().unwrap();
            large_transfers(&mut stack, |up| {
                std::thread::spawn(move || kernel_client(to, pattern(up)))
            });
        }
    });
}

#[test]
fn large_transfers_over_veth() {
    if !privileged("large_transfers_over_veth") {
        return;
    }
    in_namespace(|| {
        let (order, orders) = std::sync::mpsc::channel::<(SocketAddr, usize)>();
        let (reply, replies) = std::sync::mpsc::channel();
        let peer = with_veth_peer("", move || {
            for (to, up) in orders {
                reply.send(kernel_client(to, pattern(up))).unwrap();
            }
        });
        let replies = std::sync::Arc::new(std::sync::Mutex::new(replies));
        let mut stack = Stack::open("va");
        for to in ["10.10.0.1:8080", "[fd00::1]:8080"] {
            stack.listen(to);
            large_transfers(&mut stack, |up| {
                order.send((to.parse().unwrap(), up)).unwrap();
                let replies = replies.clone();
                std::thread::spawn(move || replies.lock().unwrap().recv_timeout(WAIT).unwrap())
            });
        }
        drop(order);
        peer.join().unwrap();
    });
}

#[test]
fn short_connections_come_and_go() {
    if !privileged("short_connections_come_and_go") {
        return;
    }
    in_namespace(|| {
        let mut stack = Stack::open("lo");
        stack.listen("127.0.0.1:8080");
        let clients = std::thread::spawn(|| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    std::thread::spawn(|| {
                        for _ in 0..500 {
                            let to = "127.0.0.1:8080".parse().unwrap();
                            assert_eq!(kernel_client(to, vec![7; 64]), [9; 64]);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        let (came, ()) = serve(&mut stack, &[9; 64], clients);
        assert_eq!(came.len(), 2000);
        assert!(came.iter().all(|data| *data == [7; 64]));
    });
}

#[test]
fn our_side_opens_to_a_kernel_server() {
    if !privileged("our_side_opens_to_a_kernel_server") {
        return;
    }
    in_namespace(|| {
        let mut stack = Stack::open("lo");
        for host in ["127.0.0.1", "[::1]"] {
            let listener = TcpListener::bind(format!("{host}:0")).unwrap();
            let remote = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                let mut data = Vec::new();
                stream.read_to_end(&mut data).unwrap();
                stream.write_all(&data).unwrap();
            });
            let src = route::lookup(remote.ip(), None).unwrap().src;
            let local = SocketAddr::new(src, 40_000);
            stack.device.steer(local, true).unwrap();
            let caps = stack.device.caps();
            let path = Path { device: DEVICE, caps, link: Link::default() };
            let options = ConnOptions::default();
            let now = stack.now();
            let options = ConnectOptions { local, remote, path, options };
            let id = stack.shard.connect(now, options).unwrap();
            let sent = pattern(5_000_000);
            let mut peer = Peer::default();
            let ended = std::cell::Cell::new(false);
            stack.drive(
                |shard, now, _| {
                    if shard.readiness(id) & ready::OUT != 0 && peer.sent < sent.len() {
                        peer.send(shard, now, id, &sent);
                        if peer.sent == sent.len() {
                            shard.shutdown(now, id, false, true).unwrap();
                        }
                    }
                    peer.receive(shard, now, id);
                    ended.set(peer.ended);
                    !peer.ended
                },
                |_| ended.get(),
            );
            server.join().unwrap();
            assert!(peer.received == sent);
            stack.device.steer(local, false).unwrap();
        }
    });
}

#[test]
fn a_narrow_link_on_the_way_makes_segments_smaller() {
    if !privileged("a_narrow_link_on_the_way_makes_segments_smaller") {
        return;
    }
    in_namespace(|| {
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let (reply, replies) = std::sync::mpsc::channel();
        // A router, and behind it a client whose own interface says nothing of the narrow link.
        let router = with_veth_peer("", move || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            let (go, ready) = std::sync::mpsc::channel::<()>();
            let client = std::thread::spawn(move || {
                common::unshare();
                tell.send(common::thread_id()).unwrap();
                ready.recv().unwrap();
                ip("addr add 10.20.0.2/24 dev rb");
                ip("link set rb up");
                ip("route add default via 10.20.0.1");
                opened.recv().unwrap();
                let got = kernel_client("10.10.0.1:8080".parse().unwrap(), pattern(1000));
                reply.send(got).unwrap();
            });
            let client_thread = told.recv().unwrap();
            ip(&format!("link add ra mtu 1200 type veth peer name rb netns {client_thread}"));
            ip("addr add 10.20.0.1/24 dev ra");
            ip("link set ra up");
            go.send(()).unwrap();
            client.join().unwrap();
        });
        ip("route add default via 10.10.0.2");
        let mut stack = Stack::open("va");
        stack.listen("10.10.0.1:8080");
        open.send(()).unwrap();
        let down = pattern(3_000_000);
        let client = std::thread::spawn(move || replies.recv_timeout(WAIT).unwrap());
        let (came, got) = serve(&mut stack, &down, client);
        assert!(got == down, "{} of {} bytes", got.len(), down.len());
        assert!(came == [pattern(1000)]);
        router.join().unwrap();
    });
}
