//! Many simulated runs: `cargo run --release -p mtcp-engine --example sims -- --first N --count N
//! [--threads N]`. Stops at the first failure and says how to repeat it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use mtcp_engine::sim::{run, Report, Scenario};

struct Arguments {
    first: u64,
    count: u64,
    threads: usize,
}

fn arguments() -> Option<Arguments> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments { first: 0, count: 1000, threads };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next()?;
        match name.as_str() {
            "--first" => parsed.first = value.parse().ok()?,
            "--count" => parsed.count = value.parse().ok()?,
            "--threads" => parsed.threads = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(parsed)
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    total: Mutex<Report>,
    failure: Mutex<Option<(u64, String)>>,
}

fn work(shared: &Shared) {
    let mut total = Report::default();
    while !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end {
            break;
        }
        match run(&Scenario::from_seed(seed), None) {
            Ok(report) => total.add(&report),
            Err(error) => {
                shared.stop.store(true, Ordering::Relaxed);
                if let Ok(mut failure) = shared.failure.lock() {
                    failure.get_or_insert((seed, error));
                }
            }
        }
    }
    if let Ok(mut all) = shared.total.lock() {
        all.add(&total);
    }
}

fn main() -> ExitCode {
    let Some(Arguments { first, count, threads }) = arguments() else {
        eprintln!("usage: sims [--first SEED] [--count N] [--threads N]");
        return ExitCode::from(2);
    };
    let begin = Instant::now();
    let shared = Shared {
        next: AtomicU64::new(first),
        end: first.saturating_add(count),
        stop: AtomicBool::new(false),
        total: Mutex::new(Report::default()),
        failure: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| work(&shared));
        }
    });
    let total = shared.total.into_inner().unwrap_or_default();
    println!("{total:#?}");
    if let Ok(Some((seed, error))) = shared.failure.into_inner() {
        eprintln!("{error}");
        println!("seed {seed} failed after {:.1} s", begin.elapsed().as_secs_f64());
        return ExitCode::FAILURE;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{count} seeds from {first}: no invariant violated, {seconds:.1} s on {threads} threads"
    );
    ExitCode::SUCCESS
}
