//! As many bytes as go, in one direction, over `--connections` (1).

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Client, READ_BYTES};
use crate::arguments::Arguments;
use crate::net::{Id, Net};
use crate::report::{Figures, Measured};

/// Which way the bytes go, seen from here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server, which reads them.
    Send,
    /// From the server, which sends without end.
    Receive,
}

fn run_for<N: Net>(
    client: &mut Client<'_, N>,
    ids: &[Id],
    direction: Direction,
    time: Duration,
) -> Result<u64, String> {
    let end = Instant::now() + time;
    let chunk = vec![b'x'; READ_BYTES];
    let mut bytes = 0;
    if direction == Direction::Send {
        for &id in ids {
            bytes += client.send(id, &chunk)? as u64;
        }
    }
    while client.wait_until(end)? {
        let mut news = std::mem::take(&mut client.news);
        for ready in news.drain(..) {
            bytes += match direction {
                Direction::Send if ready.writable => client.send(ready.id, &chunk)? as u64,
                Direction::Receive if ready.readable => client.recv(ready.id)?.unwrap_or(0) as u64,
                _ => 0,
            };
        }
        client.news = news;
    }
    Ok(bytes)
}

/// `--warmup` and `--measure` in milliseconds.
pub fn run<N: Net>(
    given: &Arguments,
    mut client: Client<'_, N>,
    direction: Direction,
) -> Result<(), String> {
    let mut figures = Figures::new()?;
    let ids = client.connect_all(given.number("connections", 1)?)?;
    if direction == Direction::Send {
        for &id in &ids {
            client.net.want_room(id, true).map_err(|e| e.to_string())?;
        }
    }
    // The windows open during the warm-up.
    run_for(&mut client, &ids, direction, given.millis("warmup", 500)?)?;
    let measured = Measured::begin()?;
    figures.bytes = run_for(&mut client, &ids, direction, given.millis("measure", 1000)?)?;
    if figures.bytes == 0 {
        return Err("not one byte moved".to_owned());
    }
    let carrier = client.net.carrier();
    measured.end(&figures, &carrier, Value::Null)
}
