"""Open loop: latency at 10 to 80 % of the rate that the kernel's server reaches, the same rates for both stacks."""

from __future__ import annotations

from ..children import BenchError
from ..figures import KERNEL, spread
from ..plan import Plan, Results
from ..run import Case, Load, Server, in_pairs, measure

SHARES = (10, 20, 40, 60, 80)
QUICK_SHARES = (10, 80)
CONNECTIONS = 64
# The whole curve for the first; of the others only its end, where goals are.
SERVERS = (("selectors", Server("selectors_echo")), ("native", Server("native")))
FULL_RUNS = 3


def ping_pong(plan: Plan, letter: str, name: str, server: Server) -> Case:
    """One connection, one message at a time."""
    load = plan.timed(Load(connections=1))
    title = f"{name} echo, one connection, ping-pong"
    case_id = f"{name}-ping-pong"
    return Case(case_id, title, letter, server, load, plan.pairs, saturates=False, distribution=True)


def at_share(plan: Plan, letter: str, name: str, server: Server, percent: int, full: float) -> Case:
    """One point of the curve."""
    load = plan.timed(Load(mode="open", connections=CONNECTIONS, rate=round(full * percent / 100)))
    title = f"{name} echo at {percent} % of {full:,.0f} requests a second"
    case_id = f"{name}-{percent}"
    return Case(case_id, title, letter, server, load, plan.pairs, saturates=False, distribution=True)


def full_rate(plan: Plan, letter: str, name: str, server: Server) -> float:
    """What the kernel's server reaches in a closed loop: the 100 % of both stacks."""
    closed = Case(name, name, letter, server, plan.timed(Load(connections=CONNECTIONS)), plan.pairs)
    found = spread([{KERNEL: measure(closed, KERNEL)} for _ in range(FULL_RUNS)], KERNEL, "rate")
    if found is None:
        raise BenchError("no rate")
    return found.median


def run(plan: Plan) -> Results:
    """In K and M."""
    results: Results = []
    for letter in (letter for letter in plan.settings if letter != "X"):
        for number, (name, server) in enumerate(SERVERS):
            if not plan.wants(name):
                continue
            results.append(in_pairs(ping_pong(plan, letter, name, server), say=plan.say))
            if "not_measured" in results[-1]:
                continue  # nor will the rest be
            shares = QUICK_SHARES if plan.quick else SHARES
            full = full_rate(plan, letter, name, server)
            for percent in shares if number == 0 else shares[-1:]:
                results.append(in_pairs(at_share(plan, letter, name, server, percent, full), say=plan.say))
    return results
