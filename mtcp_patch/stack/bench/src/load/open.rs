//! Open loop: requests begin at times that do not depend on the replies (a Poisson process of `--rate`
//! a second), so that a server that stalls meets the requests that real clients would have sent
//! meanwhile. Latency counts from the time at which a request was due.
//!
//! The generator never sleeps: its core is its own, and a timer would be later than what is measured.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Client;
use crate::arguments::Arguments;
use crate::exchange::Exchange;
use crate::net::{Id, Net};
use crate::report::{Figures, Measured};

/// Requests under way beyond which the server is taken to be overloaded and the run is given up.
const MOST_UNDER_WAY: usize = 100_000;

#[derive(Default)]
struct Session {
    /// When each request under way was due, oldest first.
    due: VecDeque<Instant>,
    /// Bytes that wait for room.
    unsent: usize,
    /// Bytes of the oldest reply that came.
    received: usize,
}

struct Open<'n, N> {
    client: Client<'n, N>,
    exchange: Exchange,
    ids: Vec<Id>,
    sessions: Vec<Session>,
    next: usize,
    under_way: usize,
    mean_ns: f64,
    random: u64,
    figures: Figures,
}

impl<N: Net> Open<'_, N> {
    /// The time to the next request: exponentially distributed.
    fn gap(&mut self) -> Duration {
        // xorshift64: arrivals want no more of it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let uniform = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_nanos((-(1.0 - uniform).ln() * self.mean_ns) as u64)
    }

    fn begin(&mut self, due: Instant) -> Result<(), String> {
        let Some(&id) = self.ids.get(self.next) else { return Ok(()) };
        self.next = (self.next + 1) % self.ids.len();
        self.under_way += 1;
        if self.under_way > MOST_UNDER_WAY {
            return Err("the server cannot keep up with this rate".to_owned());
        }
        let session = &mut self.sessions[id];
        session.due.push_back(due);
        session.unsent += self.exchange.request.len();
        self.send(id)
    }

    fn send(&mut self, id: Id) -> Result<(), String> {
        let length = self.exchange.request.len();
        while self.sessions[id].unsent > 0 {
            let unsent = self.sessions[id].unsent;
            let from = (length - unsent % length) % length;
            let sent =
                self.client.send(id, self.exchange.request.get(from..).unwrap_or_default())?;
            if sent == 0 {
                break;
            }
            self.sessions[id].unsent = unsent.saturating_sub(sent);
        }
        Ok(())
    }

    fn receive(&mut self, id: Id) -> Result<(), String> {
        let Some(n) = self.client.recv(id)? else { return Ok(()) };
        let length = self.exchange.request.len();
        let now = Instant::now();
        let mut from = 0;
        while from < n {
            let session = &mut self.sessions[id];
            let part = self.client.buffer.get(from..n.min(from + length - session.received));
            let part = part.unwrap_or_default();
            from += part.len();
            if !self.exchange.is_complete(session.received, part)? {
                session.received += part.len();
                continue;
            }
            session.received = 0;
            let due = session.due.pop_front().ok_or("more came than was asked for")?;
            self.under_way -= 1;
            self.figures.reply(now.duration_since(due));
        }
        Ok(())
    }

    fn run_for(&mut self, time: Duration) -> Result<u64, String> {
        let mut due = Instant::now();
        let end = due + time;
        let mut begun = 0;
        due += self.gap();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(begun);
            }
            while due <= now {
                self.begin(due)?;
                begun += 1;
                due += self.gap();
            }
            let mut news = std::mem::take(&mut self.client.news);
            self.client.net.wait(None, &mut news).map_err(|e| format!("wait: {e}"))?;
            for ready in news.drain(..) {
                if self.sessions[ready.id].unsent > 0 {
                    self.send(ready.id)?;
                }
                if ready.readable {
                    self.receive(ready.id)?;
                }
            }
            self.client.news = news;
        }
    }
}

/// `--connections` (64), `--rate` requests a second, `--warmup` and `--measure` in milliseconds.
pub fn run<N: Net>(given: &Arguments, mut client: Client<'_, N>) -> Result<(), String> {
    let mut exchange = Exchange::of(given)?;
    let rate: f64 = given.number("rate", 1000.0)?;
    if !rate.is_finite() || rate <= 0.0 {
        return Err(format!("--rate {rate}: above 0"));
    }
    client.warm_up(&mut exchange)?;
    let ids = client.connect_all(given.number("connections", 64)?)?;
    let places = ids.iter().max().map_or(0, |most| most + 1);
    let sessions = std::iter::repeat_with(Session::default).take(places).collect();
    let random = given.number("seed", 0x9E37_79B9_7F4A_7C15u64)?.max(1);
    let figures = Figures::new()?;
    let mean_ns = 1e9 / rate;
    let (next, under_way) = (0, 0);
    let mut all =
        Open { client, exchange, ids, sessions, next, under_way, mean_ns, random, figures };
    all.run_for(given.millis("warmup", 300)?)?;
    let measured = Measured::begin()?;
    all.figures.reset();
    let begun = all.run_for(given.millis("measure", 1000)?)?;
    let carrier = all.client.net.carrier();
    let more = json!({"offered": rate, "begun": begun, "unanswered": all.under_way});
    measured.end(&all.figures, &carrier, more)
}
