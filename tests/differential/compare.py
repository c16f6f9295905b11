"""Where the accounts of two stacks differ, but for what docs/differences.md explains.

What is not compared, because it is a matter of time and not of the protocol: repetitions of data, SYN or FIN, probes,
PSH, and how often the same acknowledgment was given within a step. EXPLAINED names what is passed over for a reason; a
difference after which the two connections are no longer in the same state ends the comparison of that script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .rig import Account, Reply
from .stimuli import ACK, FIN, PSH, RST, SYN, Call, Script, Segment

SACK, TIMESTAMPS = 5, 8

# Each has its paragraph, with the reason, in docs/differences.md; tests/differential/test_differential.py sees to it.
EXPLAINED = ("fin-in-sack", "sack-after-fin", "time-of-an-old-ack", "strays-in-syn-received", "strays-in-time-wait")


@dataclass(frozen=True)
class Difference:
    """What the kernel and ours did in one step."""

    step: int
    action: Segment | Call
    kernel: Any
    ours: Any

    def __str__(self) -> str:
        def shown(what: Any) -> str:
            return " ".join(map(str, what)) if what else "nothing"

        return f"step {self.step}: {self.action}\n    kernel: {shown(self.kernel)}\n    ours:   {shown(self.ours)}"


def normal(account: Account) -> list[list[Reply]]:
    """The replies without repetitions and probes."""
    highest = 0
    syn: list[Reply] = []
    steps: list[list[Reply]] = []
    for replies in account.replies:
        kept: list[Reply] = []
        for reply in replies:
            length = len(reply.payload) + bool(reply.flags & SYN) + bool(reply.flags & FIN)
            if reply.flags & SYN:
                if highest == 1 and reply in syn:
                    continue
                syn, highest = [reply], 1  # another incarnation begins
            elif length and not reply.flags & RST:
                if reply.seq < highest:
                    continue  # a repetition, however it was cut
                highest = reply.seq + length
            elif not reply.flags & RST and reply.seq + 1 == highest:
                continue  # a probe: one number before what is next
            plain = replace(reply, flags=reply.flags & ~PSH)
            if reply.flags & RST:  # its window and what it selectively acknowledges mean nothing
                plain = replace(plain, closed=False, options=tuple(o for o in reply.options if o[0] != SACK))
            if not kept or kept[-1] != plain:
                kept.append(plain)
        steps.append(kept)
    return steps


class Comparison:
    """Of one script."""

    def __init__(self, script: Script, kernel: Account, ours: Account) -> None:
        self.script = script
        self.kernel, self.ours = normal(kernel), normal(ours)
        self._raw = kernel.replies
        self.results = list(zip(kernel.results, ours.results, strict=True))
        self.used: set[str] = set()
        self._old_times: set[int] = set()
        self._syn_received = False
        self._our_fin = False
        self._closed = False
        self._time_wait = False

    def run(self) -> list[Difference]:
        """The differences, up to the first after which the connections are not in the same state."""
        found = []
        for step, action in enumerate(self.script.steps):
            self._follow(action)
            theirs, mine = ([self._plain(r) for r in replies[step]] for replies in (self.kernel, self.ours))
            mine = self._same_times(theirs, mine)
            if theirs != mine:
                if self._syn_received and isinstance(action, Segment):
                    self.used.add("strays-in-syn-received")
                    return found
                if self._time_wait and isinstance(action, Segment):
                    self.used.add("strays-in-time-wait")
                    return found
                found.append(Difference(step, action, self.kernel[step], self.ours[step]))
            if self.results[step][0] != self.results[step][1]:
                found.append(Difference(step, action, *self.results[step]))
            self._state_after(action, self._raw[step])
        return found

    def _follow(self, action: Segment | Call) -> None:
        """Notes what explains later replies."""
        if isinstance(action, Segment) and action.ack < 0 and action.tsval is not None:
            self._old_times.add(action.tsval)

    def _state_after(self, action: Segment | Call, replies: list[Reply]) -> None:
        if any(reply.flags & (SYN | ACK) == SYN | ACK for reply in replies):
            self._syn_received = True
        elif isinstance(action, Segment) and (
            action.flags & RST or (action.flags, action.seq, action.ack) == (ACK, 1, 1)
        ):
            self._syn_received = False
        fin = self.script.fin
        self._our_fin |= any(reply.flags & FIN for reply in replies)
        self._closed |= isinstance(action, Call) and action.name == "close"
        peer_done = fin is not None and any(reply.ack == fin + 1 for reply in replies)
        self._time_wait |= self._our_fin and (peer_done or self._closed)

    def _plain(self, reply: Reply) -> Reply:
        """Without what the kernel's blocks say about a FIN."""
        fin = self.script.fin
        blocks = next((option[1] for option in reply.options if option[0] == SACK), None)
        if fin is None or blocks is None:
            return reply
        others = tuple(option for option in reply.options if option[0] != SACK)
        if reply.ack == fin + 1:
            self.used.add("sack-after-fin")
            return replace(reply, options=others)
        kept = []
        for left, right in zip(blocks[::2], blocks[1::2], strict=True):
            end = fin if right == fin + 1 else right
            if end != right:
                self.used.add("fin-in-sack")
            if left != end:
                kept.append((left, end))
        # the FIN's block comes first with the kernel
        options = tuple(sorted((*others, (SACK, tuple(sorted(kept)))))) if kept else others
        return replace(reply, options=options)

    def _same_times(self, kernel: list[Reply], ours: list[Reply]) -> list[Reply]:
        """Ours, with the echo of the kernel where that comes from a segment that acknowledged what is long past."""
        same = []
        for mine, theirs in zip(ours, [*kernel, *ours[len(kernel) :]], strict=False):
            echo = next((option for option in theirs.options if option[0] == TIMESTAMPS), None)
            if echo is not None and echo[1] in self._old_times and echo not in mine.options:
                self.used.add("time-of-an-old-ack")
                options = [echo if option[0] == TIMESTAMPS else option for option in mine.options]
                mine = replace(mine, options=tuple(options))
            same.append(mine)
        return same


def compare(script: Script, kernel: Account, ours: Account) -> tuple[list[Difference], set[str]]:
    """The differences that nothing explains, and the explanations that were needed."""
    comparison = Comparison(script, kernel, ours)
    return comparison.run(), comparison.used
