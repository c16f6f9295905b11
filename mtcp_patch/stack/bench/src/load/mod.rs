//! The load generators: closed loop (as fast as the replies come), open loop (at a given rate), bulk
//! in one direction, and connections that do nothing.

mod bulk;
mod closed;
mod idle;
mod open;

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::exchange::Exchange;
use crate::net::{is_later, Id, Net, Ready};
use crate::PATIENCE;

/// The largest read at once. Bytes.
const READ_BYTES: usize = 256 * 1024;

/// What all loads share: the stack, the address, a buffer.
struct Client<'n, N> {
    net: &'n mut N,
    address: SocketAddr,
    /// Addresses from `address` up that connections are spread over, so that a client does not run
    /// out of ports.
    spread: u32,
    next: u32,
    buffer: Vec<u8>,
    news: Vec<Ready>,
}

impl<'n, N: Net> Client<'n, N> {
    fn new(given: &Arguments, net: &'n mut N) -> Result<Self, String> {
        let spread = given.number("spread", 1u32)?.max(1);
        let buffer = vec![0; READ_BYTES];
        Ok(Self { net, address: given.address()?, spread, next: 0, buffer, news: Vec::new() })
    }

    /// Begins a connection.
    fn connect(&mut self) -> Result<Id, String> {
        let mut to = self.address;
        if let IpAddr::V4(first) = to.ip() {
            to.set_ip(IpAddr::V4((u32::from(first) + self.next).into()));
            self.next = (self.next + 1) % self.spread;
        }
        self.net.connect(to).map_err(|e| format!("connect to {to}: {e}"))
    }

    fn connected(&mut self, id: Id) -> Result<(), String> {
        self.net.connected(id).map_err(|e| format!("connect: {e}"))
    }

    /// As much as there is room for.
    fn send(&mut self, id: Id, data: &[u8]) -> Result<usize, String> {
        match self.net.send(id, data) {
            Ok(n) => Ok(n),
            Err(e) if is_later(&e) => Ok(0),
            Err(e) => Err(format!("send: {e}")),
        }
    }

    /// What is there, as a length of the buffer; `None` when nothing is.
    fn recv(&mut self, id: Id) -> Result<Option<usize>, String> {
        match self.net.recv(id, &mut self.buffer) {
            Ok(0) => Err("the server closed a connection".to_owned()),
            Ok(n) => Ok(Some(n)),
            Err(e) if is_later(&e) => Ok(None),
            Err(e) => Err(format!("recv: {e}")),
        }
    }

    /// Waits for news until `end`; false after it.
    fn wait_until(&mut self, end: Instant) -> Result<bool, String> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.news.clear();
        self.net.wait(Some(left), &mut self.news).map_err(|e| format!("wait: {e}"))?;
        Ok(true)
    }

    /// Makes `count` connections, some at a time so that no accept queue overflows, and returns when
    /// all are made. Nothing may be sent before.
    fn connect_all(&mut self, count: usize) -> Result<Vec<Id>, String> {
        const AT_A_TIME: usize = 32;
        let deadline = Instant::now() + PATIENCE.mul_f64(1.0 + count as f64 / 20_000.0);
        let mut begun = 0;
        let mut made = Vec::with_capacity(count);
        while made.len() < count {
            while begun < count && begun - made.len() < AT_A_TIME {
                self.connect()?;
                begun += 1;
            }
            if !self.wait_until(deadline)? {
                return Err(format!("{} of {count} connections were made in time", made.len()));
            }
            for ready in std::mem::take(&mut self.news) {
                if ready.writable {
                    self.connected(ready.id)?;
                    made.push(ready.id);
                }
            }
        }
        Ok(made)
    }

    /// One connection, one request, its reply, the end: what a server does once only is done, and the
    /// length of the replies is known. asyncio maps and unmaps memory at every message until its
    /// first connection has closed.
    fn warm_up(&mut self, exchange: &mut Exchange) -> Result<(), String> {
        let [id] = self.connect_all(1)?[..] else { return Err("no connection".to_owned()) };
        let deadline = Instant::now() + PATIENCE;
        let request = exchange.request.clone();
        let (mut sent, mut reply) = (0, Vec::new());
        loop {
            sent += self.send(id, request.get(sent..).unwrap_or_default())?;
            if !self.wait_until(deadline)? {
                return Err("the first reply did not come".to_owned());
            }
            if let Some(n) = self.recv(id)? {
                reply.extend_from_slice(self.buffer.get(..n).unwrap_or_default());
                if exchange.learn(&reply)? {
                    break;
                }
            }
        }
        self.net.close(id);
        Ok(())
    }
}

/// Runs the load that `--mode` names.
///
/// # Errors
/// Why there is no figure.
pub fn run<N: Net>(given: &Arguments, net: &mut N) -> Result<(), String> {
    let client = Client::new(given, net)?;
    match given.text("mode").unwrap_or("closed") {
        "closed" => closed::run(given, client),
        "open" => open::run(given, client),
        "send" => bulk::run(given, client, bulk::Direction::Send),
        "receive" => bulk::run(given, client, bulk::Direction::Receive),
        "idle" => idle::run(given, client),
        other => Err(format!("--mode {other}: closed, open, send, receive or idle")),
    }
}
