//! The Python module `mtcp_patch.stack._native`: every export in one place.

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _native(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
