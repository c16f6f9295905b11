"""One connection, as many bytes as go, each way, under the kernel's default congestion control and under reno."""

from __future__ import annotations

from ..plan import Plan, Results, in_settings
from ..run import Case, Load, Server, in_pairs

CONGESTION = "net.ipv4.tcp_congestion_control"
# Seen from the load: what its server does.
WAYS = {"send": "sink", "receive": "source"}


def cases(plan: Plan, letter: str) -> list[Case]:
    """Both ways, by Python and native."""
    found = []
    for congestion in (None, "reno"):
        if plan.quick and congestion:
            continue
        sysctls = {CONGESTION: congestion} if congestion else {}
        # The kernel's default here may be BBR, which paces: reno as well, so that this is not what is compared.
        under = f"the kernel under {congestion or 'its default'}"
        for mode, kind in WAYS.items():
            for program in ("bulk", "native"):
                words = ("--kind", kind) if program == "bulk" else (kind,)
                title = f"{'to' if mode == 'send' else 'from'} a {'Python' if program == 'bulk' else 'native'} server"
                load = plan.timed(Load(mode=mode, connections=1))
                name = f"{program}-{mode}-{congestion or 'default'}"
                found.append(
                    Case(name, f"{title}, {under}", letter, Server(program, words), load, plan.pairs,
                         sysctls, saturates=False)
                )  # fmt: skip
    return found


def run(plan: Plan) -> Results:
    """In K and M, where the goals are."""
    found = in_settings(plan, lambda letter: cases(plan, letter) if letter != "X" else [])
    return [in_pairs(case, say=plan.say) for case in found]
