"""One connection, as many bytes as go, each way, under the kernel's default congestion control and under reno."""

from __future__ import annotations

from ..plan import Plan, Results, in_settings
from ..run import Case, Load, Server, in_pairs

CONGESTION = "net.ipv4.tcp_congestion_control"
# The load's part, the server's, and how it is called. Seen from the server.
WAYS = (("send", "sink", "receives"), ("receive", "source", "sends"))
# The kernel's default may be BBR, which paces: reno as well, so that this is not what is compared.
POINTS = (("python", None), ("python", "reno"), ("native", None))


def cases(plan: Plan, letter: str) -> list[Case]:
    """Both ways, by a Python server and a native one."""
    found = []
    for kind_of_server, congestion in POINTS[:1] if plan.quick else POINTS:
        for mode, kind, does in WAYS:
            server = Server("bulk", ("--kind", kind)) if kind_of_server == "python" else Server("native", (kind,))
            title = f"a {kind_of_server} server {does}, the kernel under {congestion or 'its default'}"
            name = f"{kind_of_server}-{kind}-{congestion or 'default'}"
            load = plan.timed(Load(mode=mode, connections=1))
            sysctls = {CONGESTION: congestion} if congestion else {}
            found.append(Case(name, title, letter, server, load, plan.pairs, sysctls, saturates=False))
    return found


def run(plan: Plan) -> Results:
    """In K and M, where the goals are."""
    found = in_settings(plan, lambda letter: cases(plan, letter) if letter != "X" else [])
    return [in_pairs(case, say=plan.say) for case in found]
