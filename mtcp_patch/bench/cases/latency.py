"""Open loop: latency at 10 to 80 % of the rate that the kernel's server reaches, the same rates for both stacks."""

from __future__ import annotations

from ..figures import KERNEL, spread
from ..plan import Plan, Results
from ..run import Case, Load, Server, in_pairs, measure

SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)
QUICK_SHARES = (0.1, 0.8)
CONNECTIONS = 64
SERVERS = (("selectors", Server("selectors_echo")), ("native", Server("native")))


def ping_pong(plan: Plan, letter: str, name: str, server: Server) -> Case:
    """One connection, one message at a time."""
    title = f"{name} echo, one connection, ping-pong"
    return Case(
        f"{name}-ping-pong",
        title,
        letter,
        server,
        plan.timed(Load(connections=1)),
        plan.pairs,
        saturates=False,
        distribution=True,
    )


def at_share(plan: Plan, letter: str, name: str, server: Server, share: float, full: float) -> Case:
    """One point of the curve."""
    load = plan.timed(Load(mode="open", connections=CONNECTIONS, rate=round(share * full)))
    title = f"{name} echo at {share:.0%} of {full:,.0f} requests a second"
    return Case(
        f"{name}-{share:.0%}".rstrip("%"), title, letter, server, load, plan.pairs, saturates=False, distribution=True
    )


def full_rate(plan: Plan, letter: str, name: str, server: Server) -> float:
    """What the kernel's server reaches in a closed loop: the 100 % of both stacks."""
    closed = Case(name, name, letter, server, plan.timed(Load(connections=CONNECTIONS)), plan.pairs)
    found = spread([{KERNEL: measure(closed, KERNEL)} for _ in range(3)], KERNEL, "rate")
    assert found is not None
    return found.median


def run(plan: Plan) -> Results:
    """In K and M."""
    results: Results = []
    for letter in plan.settings:
        if letter == "X":
            continue
        for name, server in SERVERS:
            if not plan.wants(name):
                continue
            results.append(in_pairs(ping_pong(plan, letter, name, server), say=plan.say))
            full = full_rate(plan, letter, name, server)
            for share in QUICK_SHARES if plan.quick else SHARES:
                results.append(in_pairs(at_share(plan, letter, name, server, share, full), say=plan.say))
    return results
