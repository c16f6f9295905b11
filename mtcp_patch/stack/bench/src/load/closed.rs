//! Closed loop: each connection sends a request, waits for the whole reply, and sends the next. With
//! `--messages N` it ends after N and another one begins.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Client;
use crate::arguments::Arguments;
use crate::exchange::Exchange;
use crate::net::{Id, Net, Ready};
use crate::report::{Figures, Measured};
use crate::PATIENCE;

/// One connection's part of the loop.
#[derive(Clone, Copy)]
struct Session {
    made: bool,
    /// Bytes of the request under way that have left.
    sent: usize,
    /// Bytes of its reply that came.
    received: usize,
    /// Replies on this connection.
    replies: u32,
    /// When the request began; of the first of several on a connection, when the connection did.
    begun: Instant,
}

struct Closed<'n, N> {
    client: Client<'n, N>,
    exchange: Exchange,
    /// By the id of the connection.
    sessions: Vec<Option<Session>>,
    /// Messages a connection; 0: no end.
    messages: u32,
    figures: Figures,
}

impl<N: Net> Closed<'_, N> {
    fn begin(&mut self, id: Id, made: bool) {
        if self.sessions.len() <= id {
            self.sessions.resize(id + 1, None);
        }
        let begun = Instant::now();
        self.sessions[id] = Some(Session { made, sent: 0, received: 0, replies: 0, begun });
    }

    fn session(&mut self, id: Id) -> Option<&mut Session> {
        self.sessions.get_mut(id)?.as_mut()
    }

    /// Sends what is left of the request.
    fn send(&mut self, id: Id) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(id).and_then(Option::as_mut) else {
            return Ok(());
        };
        let rest = self.exchange.request.get(session.sent..).unwrap_or_default();
        let before = rest.len();
        let sent = self.client.send(id, rest)?;
        session.sent += sent;
        // Small requests fit as a rule; readiness for writing is asked for only when one does not.
        if sent < before || (sent != 0 && session.sent != sent) {
            let more = sent < before;
            self.client.net.want_room(id, more).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn handle(&mut self, ready: Ready) -> Result<(), String> {
        let Some(session) = self.session(ready.id) else { return Ok(()) };
        let (made, whole) = (session.made, session.sent == self.exchange.request.len());
        if !made {
            if !ready.writable {
                return Ok(());
            }
            self.client.connected(ready.id)?;
            if let Some(session) = self.session(ready.id) {
                session.made = true;
            }
            return self.send(ready.id);
        }
        if ready.writable && !whole {
            self.send(ready.id)?;
        }
        if ready.readable {
            self.receive(ready.id)
        } else {
            Ok(())
        }
    }

    fn receive(&mut self, id: Id) -> Result<(), String> {
        let Some(n) = self.client.recv(id)? else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(id).and_then(Option::as_mut) else {
            return Ok(());
        };
        let part = self.client.buffer.get(..n).unwrap_or_default();
        if !self.exchange.is_complete(session.received, part)? {
            session.received += n;
            return Ok(());
        }
        let now = Instant::now();
        self.figures.reply(now.duration_since(session.begun));
        self.figures.bytes += self.exchange.request.len() as u64;
        session.replies += 1;
        if session.replies == self.messages {
            return self.again(id);
        }
        (session.sent, session.received, session.begun) = (0, 0, now);
        self.send(id)
    }

    /// The connection has had its messages: the client closes first, and opens another one.
    fn again(&mut self, id: Id) -> Result<(), String> {
        self.client.net.close(id);
        self.sessions[id] = None;
        let id = self.client.connect()?;
        self.figures.connections += 1;
        self.begin(id, false);
        Ok(())
    }

    fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while self.client.wait_until(end)? {
            let mut news = std::mem::take(&mut self.client.news);
            for ready in news.drain(..) {
                self.handle(ready)?;
            }
            self.client.news = news;
        }
        Ok(())
    }
}

/// `--connections` (64), `--messages` (0), `--warmup` and `--measure` in milliseconds.
pub fn run<N: Net>(given: &Arguments, mut client: Client<'_, N>) -> Result<(), String> {
    let mut exchange = Exchange::of(given)?;
    client.warm_up(&mut exchange)?;
    let messages = given.number("messages", 0)?;
    let mut all =
        Closed { client, exchange, sessions: Vec::new(), messages, figures: Figures::new()? };
    for id in all.client.connect_all(given.number("connections", 64)?)? {
        all.begin(id, true);
        all.send(id)?;
    }
    all.run_for(given.millis("warmup", 300)?)?;
    let measured = Measured::begin()?;
    all.figures.reset();
    let time = given.millis("measure", 1000)?;
    all.run_for(time)?;
    if all.figures.requests == 0 {
        // Nothing at all within the time: it may come late, but a server that is silent is an error.
        all.run_for(PATIENCE)?;
        if all.figures.requests == 0 {
            return Err("not one request was answered".to_owned());
        }
    }
    let carrier = all.client.net.carrier();
    measured.end(&all.figures, &carrier, Value::Null)
}
