//! The device and the engine without Python: an echo server on a real interface.
//!
//! ```text
//! ip netns add x && ip -n x link set lo up
//! ip netns exec x cargo run --example xdp_echo -- lo 8080 &
//! echo hello | ip netns exec x nc -q 1 127.0.0.1 8080
//! ```
//! With a third argument it serves HTTP instead: `GET /N` is answered with N bytes, a POST with
//! the number of bytes that came. One line a second on stderr tells what moves.
#![allow(clippy::unwrap_used)] // an example ends at the first surprise

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant as Clock};

use mtcp_engine::device::{Device, DeviceId};

use mtcp_engine::event::ready;
use mtcp_engine::time::Instant;
use mtcp_engine::{Config, ConnId, ConnOptions, Error, Event, ListenOptions, ListenerId, Shard};
use mtcp_host::xdp::{XdpDevice, XdpOptions};

const DEVICE: DeviceId = DeviceId(1);

/// What one connection still has to do.
#[derive(Default)]
struct Session {
    head: Vec<u8>,
    /// Bytes of the request's body that are still to come.
    body: u64,
    received: u64,
    /// Bytes of the answer: text first, then filler.
    answer: Vec<u8>,
    filler: u64,
    close: bool,
}

struct Server {
    shard: Shard,
    device: XdpDevice,
    start: Clock,
    http: bool,
    sessions: HashMap<ConnId, Session>,
}

impl Server {
    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// One turn: receive a batch, timers, events, transmit. Whether anything moved.
    fn turn(&mut self) -> bool {
        let now = self.now();
        let shard = &mut self.shard;
        let mut moved =
            self.device.receive(256, &mut |frame| shard.handle_frame(now, DEVICE, frame));
        self.shard.handle_timers(now);
        while let Some(event) = self.shard.poll_event() {
            match event {
                Event::Listener(listener) => self.accept(now, listener),
                Event::Conn(id) => self.serve(now, id),
                Event::Freed(_) => {}
            }
        }
        while self.shard.has_output(DEVICE) {
            let sent = self.shard.transmit(now, DEVICE, &mut self.device);
            self.device.flush();
            moved += sent;
            if sent == 0 {
                break;
            }
        }
        moved != 0
    }

    fn accept(&mut self, now: Instant, listener: ListenerId) {
        while let Ok(id) = self.shard.accept(listener) {
            self.sessions.insert(id, Session::default());
            self.serve(now, id);
        }
    }

    fn serve(&mut self, now: Instant, id: ConnId) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let alive = if self.http {
            http(&mut self.shard, now, id, &mut session)
        } else {
            echo(&mut self.shard, now, id)
        };
        if alive {
            self.sessions.insert(id, session);
        } else {
            self.shard.close(now, id);
        }
    }

    /// Sleeps until frames wait or a timer is due.
    fn wait(&self) {
        let now = self.now();
        let left = self.shard.next_timeout().map_or(1_000_000, |t| t.micros_since(now));
        let millis = left.div_ceil(1000).min(1000) as i32;
        poll(self.device.fd(), millis);
    }
}

fn poll(fd: RawFd, millis: i32) {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&mut poll, 1, millis) };
}

/// Sends back what came, as far as the send buffer takes it; false at the end.
fn echo(shard: &mut Shard, now: Instant, id: ConnId) -> bool {
    loop {
        let data = match shard.recv_slices(id) {
            Ok((a, b)) => [a, b].concat(),
            Err(Error::WouldBlock) => return true,
            Err(_) => return false,
        };
        if data.is_empty() {
            return false;
        }
        match shard.send(now, id, &data) {
            Ok(n) => shard.recv_consume(now, id, n).unwrap(),
            Err(Error::WouldBlock) => return true,
            Err(_) => return false,
        }
        if shard.readiness(id) & ready::IN == 0 {
            return true;
        }
    }
}

/// One step of HTTP/1.1 without its finer points; false when the connection is to be closed.
fn http(shard: &mut Shard, now: Instant, id: ConnId, session: &mut Session) -> bool {
    loop {
        let (count, end) = match shard.recv_slices(id) {
            Ok((a, b)) => {
                let count = a.len() + b.len();
                if session.body == 0 {
                    session.head.extend_from_slice(a);
                    session.head.extend_from_slice(b);
                } else {
                    session.body = session.body.saturating_sub(count as u64);
                    session.received += count as u64;
                }
                (count, count == 0)
            }
            Err(Error::WouldBlock) => (0, false),
            Err(_) => return false,
        };
        shard.recv_consume(now, id, count).unwrap();
        begin_answer(session);
        if !answer(shard, now, id, session) || (end && session.filler == 0) {
            return false;
        }
        if count == 0 {
            return true;
        }
    }
}

/// When a request is complete, decides what the answer is.
fn begin_answer(session: &mut Session) {
    if session.body == 0 && session.received == 0 {
        let Some(end) = session.head.windows(4).position(|w| w == b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&session.head[..end]).into_owned();
        let rest = session.head.len() - end - 4;
        session.head.clear();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let path = head.split_whitespace().nth(1).unwrap_or("/");
        session.close = head.contains("Connection: close");
        match length {
            Some(length) => {
                session.received = rest as u64;
                session.body = u64::saturating_sub(length, rest as u64);
            }
            None => {
                session.filler = path.trim_start_matches('/').parse().unwrap_or(0);
                session.answer = head_of_answer(session.filler, session.close);
                return;
            }
        }
    }
    if session.body == 0 && session.received != 0 {
        let text = format!("{}\n", session.received);
        session.received = 0;
        session.answer = head_of_answer(text.len() as u64, session.close);
        session.answer.extend(text.into_bytes());
    }
}

fn head_of_answer(length: u64, close: bool) -> Vec<u8> {
    let close = if close { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{close}\r\n").into_bytes()
}

/// Sends as much of the answer as fits.
fn answer(shard: &mut Shard, now: Instant, id: ConnId, session: &mut Session) -> bool {
    static FILLER: [u8; 65_536] = [b'x'; 65_536];
    while !session.answer.is_empty() || session.filler != 0 {
        let text = !session.answer.is_empty();
        let part = if text {
            session.answer.as_slice()
        } else {
            &FILLER[..session.filler.min(FILLER.len() as u64) as usize]
        };
        match shard.send(now, id, part) {
            Ok(n) if text => drop(session.answer.drain(..n)),
            Ok(n) => session.filler -= n as u64,
            Err(Error::WouldBlock) => return true,
            Err(_) => return false,
        }
        if session.filler == 0 && session.answer.is_empty() && session.close {
            return false;
        }
    }
    true
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ifname, port, mode @ ..] = arguments.as_slice() else {
        eprintln!("usage: xdp_echo IFACE PORT [http]");
        std::process::exit(2);
    };
    let port: u16 = port.parse().unwrap();
    let device = XdpDevice::open(ifname, &XdpOptions::default()).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1);
    });
    eprintln!("xdp:{ifname} {} {:?} {:?}", device.mode(), device.caps(), device.notes());
    let mut shard = Shard::new(Config::default(), [7; 32]);
    shard.add_device(DEVICE, device.caps());
    let http = !mode.is_empty();
    let start = Clock::now();
    let mut server = Server { shard, device, start, http, sessions: HashMap::new() };
    for local in ["0.0.0.0", "[::]"] {
        let local: SocketAddr = format!("{local}:{port}").parse().unwrap();
        server.device.steer(local, true).unwrap();
        let inherit = ConnOptions::default();
        let options = ListenOptions { local, v6only: true, backlog: 1024, inherit };
        server.shard.listen(options).unwrap();
    }
    let mut told = Clock::now();
    loop {
        if !server.turn() {
            server.wait();
        }
        if told.elapsed() > Duration::from_secs(1) {
            told = Clock::now();
            let sessions = server.sessions.len();
            let drops = server.device.kernel_drops();
            eprintln!("{sessions} connections, {:?}, {drops:?}", server.device.counters());
        }
    }
}
