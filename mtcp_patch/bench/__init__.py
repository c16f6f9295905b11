"""The bench: every figure that this project publishes is measured here, and by nothing else.

    python -m mtcp_patch.bench                  # everything: half an hour
    python -m mtcp_patch.bench --quick          # fewer points, shorter: five minutes, not for publishing
    python -m mtcp_patch.bench servers --setting K --row selectors

Runs come in pairs, ours and the kernel's, the order changing from pair to pair, so that a drift of the machine meets
both alike. Each run has fresh processes in a fresh network namespace: the server pinned to one core, the load to
another. `run.py` measures one, `cases/` says what is measured, `checks.py` what makes a figure void, `page.py` writes
the page from the JSON.

Nothing here passes or fails by a time. What never happens here: a figure without both ends' CPU, of a debug build, or
of a run in which anything failed.
"""
