//! A link between two interfaces, in user space: rate, queue, delay, loss, reordering, delay spikes.
//!
//! ```text
//! [namespace A] veth ---- a [this process, namespace of its own] b ---- veth [namespace B]
//! link_emulator a b --rate-mbit 100 --delay-us 5000 --loss 0.01 --seed 7
//! ```
//! For machines whose kernel has no `tc netem`. It prints `ready` when it carries frames, ends when
//! its standard input does, and then prints one JSON object: what happened to the frames of each
//! direction, and how late they were released, which tells whether the emulator was the
//! bottleneck. Interfaces must give frames as on a wire: offloads off (`ethtool -K IFACE tx off tso
//! off gso off gro off`) on both ends of both pairs. `--priority` asks for SCHED_FIFO, so that
//! other work on the machine does not delay frames. `bench/loss_grid.py` is what runs it.
#![allow(clippy::unwrap_used)] // an example ends at the first surprise

mod line;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use line::{Counters, Line, Profile};
use mtcp_host::errno::Errno;
use mtcp_host::sys;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

const RECEIVE_BUFFER: libc::c_int = 1 << 24;
/// Frames taken from one side before the other gets its turn.
const BATCH: usize = 64;

/// How late frames were released: a histogram by powers of two of microseconds.
#[derive(Default)]
struct Lateness {
    counts: [u64; 32],
    max_us: u64,
}

impl Lateness {
    fn note(&mut self, late_ns: u64) {
        let us = late_ns / 1000;
        self.max_us = self.max_us.max(us);
        self.counts[(64 - us.leading_zeros()).min(31) as usize] += 1;
    }

    /// The bound, in microseconds, below which a share of the frames was.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.counts.iter().sum::<u64>() as f64 * share) as u64;
        let mut seen = 0;
        for (power, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return 1 << power;
            }
        }
        self.max_us
    }
}

/// One side of the link.
struct End {
    socket: Socket,
    /// What came in here, on its way to the other end.
    line: Line,
}

struct Emulator {
    ends: [End; 2],
    start: Instant,
    lateness: Lateness,
    send_errors: u64,
}

impl Emulator {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Takes what waits at one end.
    fn receive(&mut self, index: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let now = self.now();
            let end = &mut self.ends[index];
            match sys::recv(end.socket.as_raw_fd(), buffer, 0) {
                Ok(n) => end.line.offer(now, &buffer[..n]),
                Err(Errno(libc::EAGAIN)) => return,
                Err(error) => fail(&format!("recv: {error:?}")),
            }
        }
    }

    /// Releases what is due.
    fn release(&mut self) {
        let now = self.now();
        let [a, b] = &mut self.ends;
        for (from, to) in [(&mut a.line, &b.socket), (&mut b.line, &a.socket)] {
            from.release(now, |frame, late| {
                self.lateness.note(late);
                self.send_errors += u64::from(to.send(frame).is_err());
            });
        }
    }

    /// Carries frames until the standard input ends.
    fn run(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        let mut fds = [&self.ends[0].socket, &self.ends[1].socket]
            .map(|socket| sys::readable(socket.as_raw_fd()))
            .to_vec();
        fds.push(sys::readable(libc::STDIN_FILENO));
        loop {
            let due = self.ends.iter().filter_map(|end| end.line.next()).min();
            let wait = due.map(|due| Duration::from_nanos(due.saturating_sub(self.now())));
            if wait != Some(Duration::ZERO) {
                sys::ppoll(&mut fds, wait).unwrap();
                let ended = fds[2].revents != 0;
                if ended && std::io::stdin().read(&mut [0]).unwrap_or(0) == 0 {
                    return;
                }
            }
            self.release();
            self.receive(0, &mut buffer);
            self.release();
            self.receive(1, &mut buffer);
            self.release();
        }
    }

    fn report(&self) -> serde_json::Value {
        serde_json::json!({
            "a_to_b": direction(&self.ends[0]),
            "b_to_a": direction(&self.ends[1]),
            "late_us": {
                "p50": self.lateness.quantile(0.5),
                "p99": self.lateness.quantile(0.99),
                "max": self.lateness.max_us,
            },
            "send_errors": self.send_errors,
            "seconds": self.start.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds(),
        })
    }
}

fn direction(end: &End) -> serde_json::Value {
    let Counters { frames, bytes, lost, queue_full, held_back, spikes } = end.line.counters;
    serde_json::json!({
        "frames": frames, "bytes": bytes, "lost": lost, "queue_full": queue_full,
        "held_back": held_back, "spikes": spikes, "missed": missed(&end.socket),
    })
}

/// Frames that the socket had no room for: the emulator was too slow.
fn missed(socket: &Socket) -> u32 {
    let mut stats = [0; 8]; // struct tpacket_stats: packets, drops
    sys::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut stats)
        .unwrap();
    u32::from_ne_bytes([stats[4], stats[5], stats[6], stats[7]])
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A raw socket on the interface that does not hear what itself sends.
fn open(ifname: &str) -> Socket {
    let every = (libc::ETH_P_ALL as u16).to_be();
    let protocol = Protocol::from(i32::from(every));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
    let index = std::fs::read_to_string(format!("/sys/class/net/{ifname}/ifindex"))
        .unwrap_or_else(|error| fail(&format!("{ifname}: {error}")));
    let set = |level, name, value: libc::c_int| {
        sys::setsockopt(socket.as_raw_fd(), level, name, &value.to_ne_bytes()).unwrap();
    };
    set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1);
    set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER);
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is large enough and aligned for every address of the system, and any
    // bytes are a valid sockaddr_ll.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = every;
    link.sll_ifindex = index.trim().parse().unwrap();
    // SAFETY: a sockaddr_ll was written there.
    let address =
        unsafe { SockAddr::new(storage, std::mem::size_of::<libc::sockaddr_ll>() as u32) };
    socket.bind(&address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Timers to the nanosecond, and before other work if asked.
fn precise(priority: bool) {
    // SAFETY: no pointers, but for one live sched_param.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        if priority {
            let param = libc::sched_param { sched_priority: 10 };
            if libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) != 0 {
                fail(&format!("SCHED_FIFO: {}", std::io::Error::last_os_error()));
            }
        }
    }
}

fn fail(why: &str) -> ! {
    eprintln!("link_emulator: {why}");
    std::process::exit(2);
}

/// The arguments after the interfaces: every `--name value`.
fn options(arguments: &[String]) -> HashMap<&str, f64> {
    let known = [
        "--rate-mbit",
        "--queue-bytes",
        "--delay-us",
        "--jitter-us",
        "--loss",
        "--reorder",
        "--reorder-by-us",
        "--spike-every-ms",
        "--spike-length-ms",
        "--seed",
        "--priority",
    ]; // fmt: skip
    let mut options = HashMap::new();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if known.contains(&name.as_str()) => {
                let value = value.parse().unwrap_or_else(|_| fail(&format!("{name} {value}?")));
                options.insert(name.as_str(), value);
            }
            _ => fail(&format!("{pair:?} is none of: {} with a number", known.join(", "))),
        }
    }
    options
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, rest @ ..] = arguments.as_slice() else {
        fail("usage: link_emulator IFACE IFACE [--name number]...")
    };
    let options = options(rest);
    let number = |name, default| options.get(name).copied().unwrap_or(default);
    let whole = |name, default, unit| (number(name, default) * unit) as u64;
    let profile = Profile {
        rate: whole("--rate-mbit", 100.0, 1e6),
        queue_bytes: whole("--queue-bytes", 150_000.0, 1.0),
        delay: whole("--delay-us", 0.0, 1e3),
        jitter: whole("--jitter-us", 0.0, 1e3),
        loss: number("--loss", 0.0),
        reorder: number("--reorder", 0.0),
        reorder_by: whole("--reorder-by-us", 0.0, 1e3),
        spike_every: whole("--spike-every-ms", 0.0, 1e6),
        spike_length: whole("--spike-length-ms", 0.0, 1e6),
    };
    let seed = whole("--seed", 1.0, 1.0);
    precise(number("--priority", 0.0) != 0.0);
    let ends = [(a, 1), (b, 2)].map(|(name, side)| End {
        socket: open(name),
        line: Line::new(profile, seed << 2 | side, seed, 0),
    });
    let mut emulator =
        Emulator { ends, start: Instant::now(), lateness: Lateness::default(), send_errors: 0 };
    println!("ready");
    std::io::stdout().flush().unwrap();
    emulator.run();
    println!("{}", emulator.report());
}
