//! The applications of the simulation: edge-triggered, impatient, and suspicious of every byte.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Random, Scenario, DEVICE, SERVER};
use crate::device::Caps;
use crate::event::{ready, ConnId, Error, Event, ListenerId};
use crate::listen::ListenOptions;
use crate::shard::{ConnectOptions, Path, Shard};
use crate::tcp::congestion::CongestionControl;
use crate::tcp::conn_options::{ConnOptions, Keepalive};
use crate::time::Instant;
use crate::wire::Link;

/// What one end of a connection means to do.
#[derive(Clone, Copy, Debug)]
struct Intent {
    /// Bytes to send.
    bytes: u64,
    /// Reset the connection after so many bytes were sent, instead of closing it.
    abort_after: Option<u64>,
    /// Half-close as soon as everything is sent; otherwise only after the peer's end of stream.
    close_first: bool,
    /// Pause between reads, in microseconds; 0: reads all there is.
    read_pause_us: u64,
    nodelay: bool,
    cork: bool,
    congestion: CongestionControl,
}

/// What both applications of a connection mean to do, by client port.
pub(super) struct Plan {
    ends: Vec<[Intent; 2]>,
    clients: usize,
    v6: bool,
    link_dies: bool,
}

/// A host's letter, by its address.
pub(super) fn name(address: IpAddr) -> char {
    let last = match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    char::from(b'@'.saturating_add(last))
}

/// The address of a host: the first client's ends in 1, the server's in 2.
pub(super) fn address(host: usize, v6: bool) -> IpAddr {
    let last = host as u8 + 1;
    if v6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)).into()
    } else {
        Ipv4Addr::new(10, 0, 0, last).into()
    }
}

impl Plan {
    pub(super) fn new(scenario: &Scenario, random: &mut Random) -> Self {
        let ends = (0..scenario.connections).map(|_| {
            let abort = random.one_in(8);
            let a = Intent::new(scenario, random, true, abort);
            let close_first = random.one_in(3);
            [a, Intent::new(scenario, random, close_first, false)]
        });
        let mut ends: Vec<[Intent; 2]> = ends.collect();
        if scenario.various {
            let mut random = Random::new(scenario.seed ^ 0x7a21_0e15);
            ends.iter_mut().flatten().for_each(|intent| intent.vary(&mut random));
        }
        let (clients, v6) = (scenario.clients.max(1), scenario.v6);
        Self { ends, clients, v6, link_dies: scenario.dies() }
    }
}

impl Intent {
    fn new(scenario: &Scenario, random: &mut Random, close_first: bool, abort: bool) -> Self {
        let bytes = random.below(scenario.max_bytes + 1);
        let abort_after = abort.then(|| random.below(bytes + 1));
        let read_pause_us = if random.one_in(3) { 1 + random.below(100_000) } else { 0 };
        Self {
            bytes,
            abort_after,
            close_first,
            read_pause_us,
            nodelay: random.one_in(2),
            cork: false,
            congestion: CongestionControl::default(),
        }
    }

    fn vary(&mut self, random: &mut Random) {
        self.cork = random.one_in(3);
        if random.one_in(2) {
            self.congestion = CongestionControl::Reno;
        }
    }
}

impl Intent {
    /// With keepalive: a lost reset would leave the other end waiting for ever. Many probes, because
    /// in a bad time that only frames end (see [`super::Weather`]) most of them are lost.
    fn options(&self) -> ConnOptions {
        let keepalive =
            Keepalive { on: true, idle_us: 30_000_000, interval_us: 5_000_000, count: 100 };
        let &Self { nodelay, cork, congestion, .. } = self;
        ConnOptions { nodelay, cork, congestion, keepalive, ..ConnOptions::default() }
    }
}

/// Byte `at` of what `end` of the connection with client port `port` sends.
fn pattern(port: u16, end: usize, at: u64) -> u8 {
    let x = at.wrapping_mul(0x9e37_79b9).wrapping_add(u64::from(port) << 3 | end as u64);
    (x ^ (x >> 13)) as u8
}

#[derive(Debug)]
struct Endpoint {
    intent: Intent,
    peer: Intent,
    port: u16,
    end: usize,
    sent: u64,
    received: u64,
    end_of_stream: bool,
    write_closed: bool,
    /// Ended by a reset, ours or the peer's: what arrived is a prefix.
    broken: bool,
    /// The link goes down for good some time.
    link_dies: bool,
    wake_at: Option<Instant>,
}

/// One host's application.
pub(super) struct Application {
    /// Which of the clients it is; `None`: the server.
    client: Option<usize>,
    clients: usize,
    plan_ends: Vec<[Intent; 2]>,
    address: IpAddr,
    server: SocketAddr,
    listener: Option<ListenerId>,
    open: BTreeMap<ConnId, Endpoint>,
    closed: Vec<Endpoint>,
    freed: usize,
    link_dies: bool,
    random: Random,
}

impl Application {
    /// The application of host number `host`, which is the server when it is 1.
    pub(super) fn new(plan: &Plan, host: usize, random: Random) -> Self {
        Self {
            client: (host != SERVER).then(|| host - usize::from(host > SERVER)),
            clients: plan.clients,
            plan_ends: plan.ends.clone(),
            address: address(host, plan.v6),
            server: SocketAddr::new(address(SERVER, plan.v6), 80),
            listener: None,
            open: BTreeMap::new(),
            closed: Vec::new(),
            freed: 0,
            link_dies: plan.link_dies,
            random,
        }
    }

    fn endpoint(&self, number: usize, end: usize) -> Option<Endpoint> {
        let ends = self.plan_ends.get(number)?;
        Some(Endpoint {
            intent: *ends.get(end)?,
            peer: *ends.get(1 - end)?,
            port: 40_000 + number as u16,
            end,
            sent: 0,
            received: 0,
            end_of_stream: false,
            write_closed: false,
            broken: false,
            link_dies: self.link_dies,
            wake_at: None,
        })
    }

    pub(super) fn start(
        &mut self,
        shard: &mut Shard,
        now: Instant,
        caps: Caps,
    ) -> Result<(), String> {
        let Some(client) = self.client else {
            let options = ListenOptions {
                local: self.server,
                v6only: false,
                backlog: 16,
                inherit: ConnOptions::default(),
            };
            self.listener = Some(shard.listen(options).map_err(|e| format!("listen: {e}"))?);
            return Ok(());
        };
        let server = self.server;
        // The connections are dealt out to the clients in turn.
        for number in (client..self.plan_ends.len()).step_by(self.clients) {
            let Some(endpoint) = self.endpoint(number, 0) else { continue };
            let local = SocketAddr::new(self.address, endpoint.port);
            let options = endpoint.intent.options();
            let path = Path { device: DEVICE, caps, link: Link::default() };
            let id = shard
                .connect(now, ConnectOptions { local, remote: server, path, options })
                .map_err(|e| format!("connect: {e}"))?;
            self.open.insert(id, endpoint);
        }
        Ok(())
    }

    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        self.open.values().filter_map(|e| e.wake_at).min()
    }

    /// Handles all events and wake-ups. True: there were some.
    pub(super) fn work(&mut self, shard: &mut Shard, now: Instant) -> Result<bool, String> {
        let mut moved = false;
        while let Some(event) = shard.poll_event() {
            moved = true;
            match event {
                Event::Listener(id) => self.accept(shard, now, id)?,
                Event::Conn(id) => self.touch(shard, now, id)?,
                Event::Freed(id) => {
                    if self.open.contains_key(&id) {
                        return Err(format!("freed while open: {id:?}"));
                    }
                    self.freed += 1;
                }
            }
        }
        let due: Vec<ConnId> = self
            .open
            .iter()
            .filter(|(_, e)| e.wake_at.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            moved = true;
            if let Some(endpoint) = self.open.get_mut(&id) {
                endpoint.wake_at = None;
            }
            self.touch(shard, now, id)?;
        }
        Ok(moved)
    }

    fn accept(&mut self, shard: &mut Shard, now: Instant, id: ListenerId) -> Result<(), String> {
        while let Ok(conn) = shard.accept(id) {
            let info = shard.info(conn).map_err(|e| format!("info: {e}"))?;
            let number = info.remote.port().wrapping_sub(40_000);
            let Some(endpoint) = self.endpoint(usize::from(number), 1) else {
                return Err(format!("accepted a stranger: {}", info.remote));
            };
            shard.set_options(now, conn, endpoint.intent.options());
            self.open.insert(conn, endpoint);
            self.touch(shard, now, conn)?;
        }
        if self.closed.len() + self.open.len() == self.plan_ends.len() && self.random.one_in(2) {
            if let Some(listener) = self.listener.take() {
                shard.close_listener(now, listener);
            }
        }
        Ok(())
    }

    fn touch(&mut self, shard: &mut Shard, now: Instant, id: ConnId) -> Result<(), String> {
        let Some(endpoint) = self.open.get_mut(&id) else { return Ok(()) };
        let over = endpoint.work(shard, now, id, &mut self.random)?;
        if over {
            if let Some(endpoint) = self.open.remove(&id) {
                self.closed.push(endpoint);
            }
        }
        Ok(())
    }

    /// Everything must be over. Returns the number of bytes compared.
    pub(super) fn finish(&mut self) -> Result<u64, String> {
        if !self.open.is_empty() {
            return Err(format!("never ended: {:?}", self.open));
        }
        if self.freed != self.closed.len() {
            return Err(format!("{} closed, {} freed", self.closed.len(), self.freed));
        }
        let mut bytes = 0;
        for endpoint in &self.closed {
            bytes += endpoint.received;
            let whole = endpoint.received == endpoint.peer.bytes && endpoint.end_of_stream;
            if !whole && !endpoint.broken {
                return Err(format!(
                    "port {}: {} of {} bytes, end of stream: {}",
                    endpoint.port, endpoint.received, endpoint.peer.bytes, endpoint.end_of_stream
                ));
            }
        }
        Ok(bytes)
    }
}

impl Endpoint {
    /// Does what can be done. True: closed.
    fn work(
        &mut self,
        shard: &mut Shard,
        now: Instant,
        id: ConnId,
        random: &mut Random,
    ) -> Result<bool, String> {
        if shard.readiness(id) & (ready::IN | ready::OUT) == 0 {
            return Ok(false);
        }
        self.read(shard, now, id, random)?;
        self.write(shard, now, id, random)?;
        if self.broken {
            self.expect_reason()?;
            shard.close(now, id);
            return Ok(true);
        }
        if self.intent.abort_after.is_some_and(|n| self.sent >= n) {
            self.broken = true;
            shard.abort(now, id);
            return Ok(true);
        }
        let all_sent = self.sent == self.intent.bytes;
        if all_sent && !self.write_closed && (self.intent.close_first || self.end_of_stream) {
            shard.shutdown(now, id, false, true).map_err(|e| format!("shutdown: {e}"))?;
            self.write_closed = true;
        }
        let over = self.write_closed && self.end_of_stream;
        if over {
            shard.close(now, id);
        }
        Ok(over)
    }

    /// Connections break only when one end aborts.
    fn expect_reason(&self) -> Result<(), String> {
        let aborts = self.intent.abort_after.is_some() || self.peer.abort_after.is_some();
        if aborts || self.link_dies {
            return Ok(());
        }
        Err(format!("port {}: broken without reason", self.port))
    }

    fn fails(&mut self, error: Error) -> Result<(), String> {
        match error {
            Error::ConnectionReset | Error::BrokenPipe | Error::ConnectionRefused => {
                self.broken = true;
                Ok(())
            }
            // The link is dead, and this is what it must end with.
            Error::TimedOut if self.link_dies => {
                self.broken = true;
                Ok(())
            }
            other => Err(format!("port {}: {other}", self.port)),
        }
    }

    fn read(
        &mut self,
        shard: &mut Shard,
        now: Instant,
        id: ConnId,
        random: &mut Random,
    ) -> Result<(), String> {
        if self.wake_at.is_some() {
            return Ok(());
        }
        while !self.end_of_stream && !self.broken {
            let (first, second) = match shard.recv_slices(id) {
                Ok(slices) => slices,
                Err(Error::WouldBlock) => return Ok(()),
                Err(error) => return self.fails(error),
            };
            let available = first.len() + second.len();
            if available == 0 {
                self.end_of_stream = true;
                return Ok(());
            }
            let some = 1 + random.below(available as u64) as usize;
            let take = if random.one_in(2) { available } else { some };
            for (at, byte) in first.iter().chain(second).take(take).enumerate() {
                let position = self.received + at as u64;
                if *byte != pattern(self.port, 1 - self.end, position) {
                    return Err(format!("port {}: wrong byte at {position}", self.port));
                }
            }
            shard.recv_consume(now, id, take).map_err(|e| format!("consume: {e}"))?;
            self.received += take as u64;
            if self.intent.read_pause_us > 0 && random.one_in(4) {
                self.wake_at = Some(now + random.below(self.intent.read_pause_us));
                return Ok(());
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        shard: &mut Shard,
        now: Instant,
        id: ConnId,
        random: &mut Random,
    ) -> Result<(), String> {
        let until = self.intent.abort_after.unwrap_or(self.intent.bytes);
        while self.sent < until && !self.broken {
            let most = [100, 3_000, 100_000];
            let most = most.get(random.below(3) as usize).copied().unwrap_or(1);
            let len = (1 + random.below(most)).min(until - self.sent);
            let data: Vec<u8> =
                (self.sent..self.sent + len).map(|at| pattern(self.port, self.end, at)).collect();
            match shard.send(now, id, &data) {
                Ok(taken) => self.sent += taken as u64,
                Err(Error::WouldBlock) => return Ok(()),
                Err(error) => return self.fails(error),
            }
        }
        Ok(())
    }
}
