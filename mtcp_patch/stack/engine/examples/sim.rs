//! One simulated run: `cargo run -p mtcp-engine --example sim -- --seed N [--quiet]`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut seed = 0;
    let mut quiet = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => match arguments.next().and_then(|text| text.parse().ok()) {
                Some(number) => seed = number,
                None => return usage(),
            },
            "--quiet" => quiet = true,
            _ => return usage(),
        }
    }
    let scenario = mtcp_engine::sim::Scenario::from_seed(seed);
    println!("{scenario:#?}");
    let mut print = |line| println!("{line}");
    let outcome = if quiet {
        mtcp_engine::sim::run(&scenario, None)
    } else {
        mtcp_engine::sim::run(&scenario, Some(&mut print))
    };
    match outcome {
        Ok(report) => {
            println!("{report:#?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: sim --seed NUMBER [--quiet]");
    ExitCode::from(2)
}
