//! What a load generator tells the harness, and when.
//!
//! Two lines of JSON on stdout: `{"measuring":true}` when the warm-up is over, then the figures. After
//! each it waits for a byte on stdin: in between, and only then, the harness reads the server's CPU time.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{clock_gettime, ClockId};
use serde_json::{json, Value};

/// The longest latency that is told apart from longer ones, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// The shares of requests whose latency is in the report, for a plot; the ends stand beside them.
const SHARES: [f64; 21] = [
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99,
    0.995, 0.998, 0.999, 0.9999,
];

/// Counts and latencies of the measured time.
pub struct Figures {
    /// Replies that were complete.
    pub requests: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Payload of one direction.
    pub bytes: u64,
    latencies: Histogram<u64>,
}

impl Figures {
    /// Nothing yet.
    ///
    /// # Errors
    /// None that can happen: the bounds are constants.
    pub fn new() -> Result<Self, String> {
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|e| e.to_string())?;
        Ok(Self { requests: 0, connections: 0, bytes: 0, latencies })
    }

    /// Forgets the warm-up.
    pub fn reset(&mut self) {
        self.requests = 0;
        self.connections = 0;
        self.bytes = 0;
        self.latencies.reset();
    }

    /// One reply, and how long it took.
    #[inline]
    pub fn reply(&mut self, took: Duration) {
        self.requests += 1;
        self.latencies.saturating_record(took.as_nanos() as u64);
    }

    fn latency_us(&self) -> Value {
        if self.latencies.is_empty() {
            return Value::Null;
        }
        let at = |share: f64| self.latencies.value_at_quantile(share) as f64 / 1000.0;
        let shares: Vec<_> = SHARES.iter().map(|&share| json!([share, at(share)])).collect();
        json!({
            "min": self.latencies.min() as f64 / 1000.0,
            "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999),
            "max": self.latencies.max() as f64 / 1000.0,
            "shares": shares,
        })
    }
}

/// CPU time of this process, all threads, in seconds.
pub fn cpu_seconds() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Prints one line and waits until the harness has read what it wants to.
fn say_and_wait(line: &Value) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    let mut byte = [0];
    match std::io::stdin().read(&mut byte) {
        Ok(1) => Ok(()),
        Ok(_) => Err("the harness has gone".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The measured time: from the harness's word until [`Measured::end`].
pub struct Measured {
    begun: Instant,
    cpu: f64,
}

impl Measured {
    /// The warm-up is over.
    ///
    /// # Errors
    /// The harness has gone.
    pub fn begin() -> Result<Self, String> {
        say_and_wait(&json!({"measuring": true}))?;
        Ok(Self { begun: Instant::now(), cpu: cpu_seconds() })
    }

    /// Tells the figures, `more` among them.
    ///
    /// # Errors
    /// The harness has gone.
    pub fn end(self, figures: &Figures, carrier: &str, more: Value) -> Result<(), String> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let cpu = cpu_seconds() - self.cpu;
        let mut line = json!({
            "requests": figures.requests,
            "connections": figures.connections,
            "bytes": figures.bytes,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "latency_us": figures.latency_us(),
            "carrier": carrier,
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        say_and_wait(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_in_microseconds_and_the_warm_up_is_forgotten() {
        let mut figures = Figures::new().unwrap();
        assert_eq!(figures.latency_us(), Value::Null);
        figures.reply(Duration::from_secs(1));
        figures.reset();
        for us in 1..=1000 {
            figures.reply(Duration::from_micros(us));
        }
        let told = figures.latency_us();
        let near = |name: &str, us: f64| {
            let value = told[name].as_f64().unwrap();
            assert!((value / us - 1.0).abs() < 0.002, "{name}: {value}");
        };
        assert_eq!(figures.requests, 1000);
        near("p50", 500.0);
        near("p99", 990.0);
        near("p99.9", 999.0);
        near("max", 1000.0);
        near("min", 1.0);
    }
}
