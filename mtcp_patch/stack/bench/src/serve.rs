//! The native servers: `echo`, `sink` (reads all) and `source` (sends without end). One thread, until
//! it is ended by a signal.

use std::io::Write;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::net::{is_later, Id, Net, Ready};

/// The largest read, and what a source gives to one send. Bytes.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Echo,
    Sink,
    Source,
}

struct Server<'n, N> {
    net: &'n mut N,
    listener: Id,
    kind: Kind,
    buffer: Vec<u8>,
    /// By connection: what its peer does not take yet.
    pending: Vec<Vec<u8>>,
}

impl<N: Net> Server<'_, N> {
    /// A connection that fails is over, and the others go on; a stack that fails is not.
    fn handle(&mut self, ready: Ready) -> Result<(), String> {
        if ready.id == self.listener {
            return self.accept();
        }
        let over = self.serve(ready).unwrap_or(true);
        if over {
            self.net.close(ready.id);
            if let Some(pending) = self.pending.get_mut(ready.id) {
                pending.clear();
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), String> {
        loop {
            match self.net.accept(self.listener) {
                Ok(id) => {
                    if self.pending.len() <= id {
                        self.pending.resize(id + 1, Vec::new());
                    }
                    if self.kind == Kind::Source {
                        self.net.want_room(id, true).map_err(|e| e.to_string())?;
                    }
                }
                Err(e) if is_later(&e) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::ECONNABORTED) => {}
                Err(e) => return Err(format!("accept: {e}")),
            }
        }
    }

    /// Whether the connection is over.
    fn serve(&mut self, ready: Ready) -> std::io::Result<bool> {
        let id = ready.id;
        match self.kind {
            Kind::Echo if ready.writable && !self.pending[id].is_empty() => {
                let waiting = std::mem::take(&mut self.pending[id]);
                self.reply(id, &waiting, true)?;
                Ok(false)
            }
            // The peer reads first what it has asked for.
            Kind::Echo if !self.pending[id].is_empty() => Ok(false),
            Kind::Source => {
                if ready.writable {
                    later(self.net.send(id, &self.buffer))?;
                }
                Ok(false)
            }
            _ if !ready.readable => Ok(false),
            kind => {
                let Some(n) = later(self.net.recv(id, &mut self.buffer))? else { return Ok(false) };
                if kind == Kind::Echo && n > 0 {
                    let buffer = std::mem::take(&mut self.buffer);
                    let result = self.reply(id, &buffer[..n], false);
                    self.buffer = buffer;
                    result?;
                }
                Ok(n == 0)
            }
        }
    }

    /// Sends what the peer takes and keeps the rest; `waiting`: readiness for writing is being told.
    fn reply(&mut self, id: Id, data: &[u8], waiting: bool) -> std::io::Result<()> {
        let sent = later(self.net.send(id, data))?.unwrap_or(0);
        let rest = data.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.pending[id] = rest.to_vec();
        }
        if waiting == rest.is_empty() {
            self.net.want_room(id, !waiting)?;
        }
        Ok(())
    }
}

/// `None` for what is to be tried later.
fn later(result: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if is_later(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `--kind`, `--address`. Says `listening` when it does.
///
/// # Errors
/// Those of listening and of the stack.
pub fn run<N: Net>(given: &Arguments, net: &mut N) -> Result<(), String> {
    let kind = match given.text("kind").unwrap_or("echo") {
        "echo" => Kind::Echo,
        "sink" => Kind::Sink,
        "source" => Kind::Source,
        other => return Err(format!("--kind {other}: echo, sink or source")),
    };
    let listener = net.listen(given.address()?, 4096).map_err(|e| format!("listen: {e}"))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    drop(out);
    let buffer = vec![b'x'; CHUNK_BYTES];
    let mut server = Server { net, listener, kind, buffer, pending: Vec::new() };
    let mut news = Vec::new();
    loop {
        server
            .net
            .wait(Some(Duration::from_secs(1)), &mut news)
            .map_err(|e| format!("wait: {e}"))?;
        for ready in news.drain(..) {
            server.handle(ready)?;
        }
    }
}
