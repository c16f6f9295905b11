//! The native ends of `python -m mtcp_patch.bench`: load generators, servers, and the engine by itself.
//!
//! Each is a function that one child process runs from its start to its end, without Python's lock.
//! What they do is written once, against [`net::Net`], and runs on our stack ([`net::ours`]) or on
//! the kernel's ([`net::kernel`]): whatever differs between two figures is the stack.
//!
//! What never happens here: a figure of a run in which something failed. Every error ends the
//! process with a message.
#![forbid(unsafe_code)]

mod arguments;
mod exchange;
mod load;
mod net;
mod report;
mod scale;
mod serve;

use std::time::Duration;

use arguments::Arguments;
use mtcp_host::layout::Layout;
use mtcp_host::runtime::Settings;
use net::kernel::Kernel;
use net::ours::Ours;

/// How long anything may take that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

const USAGE: &str = "one of: load, serve, scale; see mtcp_patch/stack/bench/src";

/// Runs one end until it is done. `arguments` are the words after the program's name.
///
/// # Errors
/// Why there is no figure.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let (role, rest) = arguments.split_first().ok_or(USAGE)?;
    let given = Arguments::parse(rest)?;
    match role.as_str() {
        "load" => on_a_stack(&given, load::run::<Kernel>, load::run::<Ours>),
        "serve" => on_a_stack(&given, serve::run::<Kernel>, serve::run::<Ours>),
        "scale" => scale::run(&given),
        _ => Err(USAGE.to_owned()),
    }
}

/// `--device` (any number; besides `memory`), `--layout`, `--msl` in milliseconds.
fn settings(given: &Arguments) -> Result<Settings, String> {
    let devices = given.all("device").map(str::to_owned).collect();
    let mut settings = Settings { devices, ..Settings::default() };
    if let Some(name) = given.text("layout") {
        settings.layout =
            Layout::from_name(name).ok_or(format!("--layout {name}: there is none"))?;
    }
    let msl_ms: u64 = given.number("msl", 0)?;
    if msl_ms > 0 {
        settings.engine.msl_us = msl_ms.saturating_mul(1000);
    }
    Ok(settings)
}

/// Calls one of the two with the stack that `--stack` names.
fn on_a_stack(
    given: &Arguments,
    kernel: impl FnOnce(&Arguments, &mut Kernel) -> Result<(), String>,
    ours: impl FnOnce(&Arguments, &mut Ours) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |e: std::io::Error| e.to_string();
    match given.text("stack").unwrap_or("kernel") {
        "kernel" => kernel(given, &mut Kernel::new().map_err(failed)?),
        "ours" => {
            let mut stack = Ours::new(settings(given)?)?;
            let result = ours(given, &mut stack);
            stack.end();
            result
        }
        other => Err(format!("--stack {other}: kernel or ours")),
    }
}
