//! `--connections` that are made and then do nothing: for the memory that they cost the server.

use serde_json::Value;

use super::Client;
use crate::arguments::Arguments;
use crate::net::Net;
use crate::report::{Figures, Measured};

/// Between the two lines there are the connections; before the first there is none.
pub fn run<N: Net>(given: &Arguments, mut client: Client<'_, N>) -> Result<(), String> {
    let mut figures = Figures::new()?;
    let count: usize = given.number("connections", 1000)?;
    let measured = Measured::begin()?;
    figures.connections = client.connect_all(count)?.len() as u64;
    let carrier = client.net.carrier();
    measured.end(&figures, &carrier, Value::Null)
}
