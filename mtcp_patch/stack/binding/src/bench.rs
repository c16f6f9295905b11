//! The way into the bench's native ends (`mtcp_patch.bench`), which are part of this module so that a
//! wheel holds them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Runs one end until it is done, without the GIL. For a child process that does nothing else.
#[pyfunction]
pub fn bench_end(py: Python<'_>, arguments: Vec<String>) -> PyResult<()> {
    py.detach(|| mtcp_bench::run(&arguments)).map_err(PyRuntimeError::new_err)
}
