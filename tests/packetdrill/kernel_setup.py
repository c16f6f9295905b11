"""What a script does to its kernel before the test, as settings of the engine.

Every sysctl and command has one of three meanings: a setting of the engine (`FIELDS`), something that is so here
in any case or touches nothing that a script can see (`AGREED`), or none: then the script is unsupported, never passed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .wire import Unsupported

Converted = dict[str, Any]


def _three(text: str) -> tuple[int, int, int]:
    least, first, most = (int(part) for part in text.split())
    return least, first, most


def _rmem(text: str) -> Converted:
    _, first, most = _three(text)
    # Linux gives half of the buffer to its own bookkeeping and opens with at most 64 KiB.
    half = first // 2
    return {"recv_buffer_initial_bytes": half if half <= 65_536 else 65_535, "recv_buffer_bytes": most}


def _wmem(text: str) -> Converted:
    _, first, most = _three(text)
    return {"send_buffer_initial_bytes": first, "send_buffer_bytes": most}


def _flag(name: str) -> Callable[[str], Converted]:
    return lambda text: {name: int(text, 0) != 0}


def _number(name: str, factor: int = 1) -> Callable[[str], Converted]:
    return lambda text: {name: int(text, 0) * factor}


def _mtu_probing(text: str) -> Converted:
    # 2, probing from the start, is not ours.
    return {"mtu_probing": int(text) == 1} if int(text) < 2 else {"mtu_probing_from_the_start": True}


def _rfc1323(text: str) -> Converted:
    # 1: both; 2: window scale alone; 3: timestamps alone.
    return {"window_scaling": int(text) in (1, 2), "timestamps": int(text) in (1, 3)}


def _recovery(text: str) -> Converted:
    # 2 and 4 change RACK's window, which is adaptive here and begins at a quarter round trip.
    if text not in ("0", "1"):
        raise ValueError("RACK with another reordering window")
    return {"rack": text == "1"}


def _early_retrans(text: str) -> Converted:
    # 1 and 2 were another scheme, which Linux no longer has; what it does with them is 0.
    return {"tail_loss_probe": int(text) in (3, 4)}


def _notsent_lowat(text: str) -> Converted:
    bytes_ = int(text) & 0xFFFFFFFF
    return {"notsent_lowat": None if bytes_ == 0xFFFFFFFF else bytes_}


def _freebsd_cookies_only(text: str) -> Converted:
    return {"syn_queue": 0} if int(text) else {}


FIELDS: dict[str, Callable[[str], Converted]] = {
    "net.ipv4.tcp_rmem": _rmem,
    "net.ipv4.tcp_wmem": _wmem,
    "net.ipv4.tcp_timestamps": _flag("timestamps"),
    "net.ipv4.tcp_sack": _flag("sack"),
    "net.ipv4.tcp_dsack": _flag("dsack"),
    "net.ipv4.tcp_recovery": _recovery,
    "net.ipv4.tcp_frto": _flag("frto"),
    "net.ipv4.tcp_invalid_ratelimit": _number("stray_ack_interval_us", 1000),
    "net.ipv4.tcp_keepalive_time": _number("keepalive_idle_us", 1_000_000),
    "net.ipv4.tcp_keepalive_intvl": _number("keepalive_interval_us", 1_000_000),
    "net.ipv4.tcp_keepalive_probes": _number("keepalive_count"),
    "net.ipv4.tcp_window_scaling": _flag("window_scaling"),
    "net.ipv4.tcp_syn_retries": _number("syn_retries"),
    "net.ipv4.tcp_synack_retries": _number("syn_ack_retries"),
    "net.ipv4.tcp_retries2": _number("data_retries"),
    "net.ipv4.tcp_orphan_retries": _number("orphan_retries"),
    "net.ipv4.tcp_fin_timeout": _number("fin_wait_2_us", 1_000_000),
    "net.ipv4.tcp_syncookies": _flag("syn_cookies"),
    "net.ipv4.tcp_max_syn_backlog": _number("syn_queue"),
    "net.ipv4.tcp_ecn": lambda text: {"ecn": int(text)} if int(text) <= 2 else {"accecn": int(text)},
    "net.ipv4.tcp_slow_start_after_idle": _flag("slow_start_after_idle"),
    "net.ipv4.tcp_mtu_probing": _mtu_probing,
    "net.ipv4.tcp_early_retrans": _early_retrans,
    "net.ipv4.tcp_notsent_lowat": _notsent_lowat,
    "net.ipv4.tcp_rto_min_us": _number("rto_min_us"),
    "net.ipv4.tcp_rto_max_ms": _number("rto_max_us", 1000),
    "net.inet.tcp.rfc1323": _rfc1323,
    "net.inet.tcp.sack.enable": _flag("sack"),
    "net.inet.tcp.recvspace": _number("recv_buffer_initial_bytes"),
    "net.inet.tcp.sendspace": lambda text: {"send_buffer_initial_bytes": int(text), "send_buffer_bytes": int(text)},
    "kern.ipc.maxsockbuf": _number("recv_buffer_bytes"),
    "net.inet.tcp.rexmit_initial": _number("rto_initial_us", 1000),
    "net.inet.tcp.rexmit_min": _number("rto_min_us", 1000),
    "net.inet.tcp.rexmit_slop": _number("rto_slop_us", 1000),
    "net.inet.tcp.msl": _number("msl_us", 1000),
    "net.inet.tcp.delacktime": _number("delayed_ack_us", 1000),
    "net.inet.tcp.finwait2_timeout": _number("fin_wait_2_us", 1000),
    "net.inet.tcp.syncookies": _flag("syn_cookies"),
    "net.inet.tcp.syncookies_only": _freebsd_cookies_only,
    "net.inet.tcp.ecn.enable": _number("ecn"),
    "net.inet.tcp.insecure_rst": lambda text: {"exact_reset": int(text) == 0},
    "net.inet.tcp.insecure_syn": lambda text: {"challenge_syn": int(text) == 0},
    "net.inet.tcp.drop_synfin": lambda text: {"drop_syn_fin": text != "0", "listen_takes_syn_fin": text == "0"},
    "net.inet.tcp.icmp_may_rst": _flag("icmp_may_reset"),
    # FreeBSD drops them from the third repetition on.
    "net.inet.tcp.rexmit_drop_options": lambda text: {"syn_option_retries": 255 if text == "0" else 2},
    "net.inet.tcp.ecn.maxretries": _number("ecn_syn_retries"),
    "net.inet.tcp.keepidle": _number("keepalive_idle_us", 1000),
    "net.inet.tcp.keepintvl": _number("keepalive_interval_us", 1000),
    "net.inet.tcp.keepcnt": _number("keepalive_count"),
    "net.inet.tcp.keepinit": _number("connect_timeout_us", 1000),
    "net.inet.tcp.mssdflt": _number("default_mss"),
    "net.inet.tcp.recvbuf_max": _number("recv_buffer_bytes"),
    "net.inet.tcp.initcwnd_segments": _number("initial_cwnd"),
}

# Values of settings that the engine does not have, which say what it does anyway; None: any value (nothing to see).
AGREED: dict[str, set[str] | None] = {
    "net.ipv4.tcp_fack": {"0"},  # gone from Linux too
    "net.ipv4.tcp_reordering": {"3"},
    "net.ipv4.tcp_retries1": {"3"},
    "net.ipv4.tcp_base_mss": {"1024"},
    "net.ipv4.tcp_min_snd_mss": {"48"},
    "net.ipv4.tcp_app_win": {"31"},
    "net.ipv4.tcp_comp_sack_nr": {"0"},  # every segment out of order is answered here
    "net.ipv4.ip_default_ttl": {"64"},
    "net.ipv4.ip_no_pmtu_disc": {"0"},
    "net.core.default_qdisc": {"pfifo", "pfifo_fast", "noqueue", "fq_codel"},
    "net.ipv4.tcp_ecn_option": None,  # of AccECN
    "net.ipv4.tcp_ecn_option_beacon": None,
    "net.ipv4.tcp_tso_win_divisor": None,  # segments are compared joined
    "net.ipv4.tcp_min_tso_segs": None,
    "net.ipv4.tcp_pacing_ss_ratio": None,  # of pacing, which is off without fq
    "net.ipv4.tcp_pacing_ca_ratio": None,
    "net.ipv4.tcp_no_metrics_save": None,  # nothing is saved here
    "net.ipv4.tcp_fastopen": None,  # a script that opens fast fails at its option
    "net.ipv4.tcp_fastopen_key": None,
    "net.ipv4.tcp_moderate_rcvbuf": {"1"},
    "net.ipv4.tcp_adv_win_scale": {"1"},  # half of a buffer is window
    "net.ipv4.tcp_abort_on_overflow": {"0"},
    "net.ipv4.tcp_rfc1337": {"1"},  # no reset ends TIME-WAIT
    "net.ipv4.tcp_limit_output_bytes": None,  # of queues below TCP, of which there is none
    "net.ipv4.tcp_autocorking": {"0"},
    "net.inet.tcp.hostcache.purgenow": None,
    "net.inet.tcp.hostcache.purge": None,
    "net.inet.tcp.blackhole": {"0"},
    "net.inet.tcp.tolerate_missing_ts": {"1"},
    "net.inet.tcp.path_mtu_discovery": {"1"},
    "net.inet.tcp.delayed_ack": {"1"},
    "net.inet.tcp.fastopen.client_enable": None,  # a script that opens fast fails at its option
    "net.inet.tcp.fastopen.server_enable": None,
    "net.inet.tcp.functions_default": {"freebsd"},
    "net.inet.tcp.do_tcpdrain": None,  # of a host without memory
    "net.inet.tcp.tso": None,  # segments are compared joined
    "net.inet.tcp.udp_tunneling_port": {"0"},
    "net.inet.tcp.recvbuf_auto": {"1"},
    "net.inet.tcp.recvbuf_inc": None,  # the steps by which it grows
    "net.inet.tcp.sendbuf_auto": {"1"},
    "net.inet.icmp.icmplim": {"0"},
    "kern.eventtimer.periodic": None,
}

# What decides congestion control, by its names for those that the engine has.
_CONGESTION = {"net.ipv4.tcp_congestion_control", "net.inet.tcp.cc.algorithm"}
_ALGORITHMS = {"cubic": "cubic", "reno": "reno", "newreno": "reno"}

# How a Linux host differs from the RFCs before any sysctl.
LINUX_DEFAULTS: Converted = {"send_buffer_by_packets": True, "challenge_unsent_ack": False}
# The kernel's own scripts, whose set-up lies beside them, are for the kernel that they come with: the newest one
# challenges an acknowledgment of what was never sent.
_KERNEL_TREE = re.compile(r"`\s*\./defaults\.sh")

# How a FreeBSD host differs before any sysctl: no quick acknowledgments, buffers of whole segments, its default sizes.
FREEBSD_DEFAULTS: Converted = {
    "quick_acks": 0,
    "tail_loss_probe": False,
    "delayed_fin_ack": False,
    "delayed_ack_segments": 2,
    "recv_buffer_whole_segments": True,
    "window_steps": False,
    "time_wait_answers_all": True,
    "acks_repeat_fin": True,
    "linux_errors": False,
    "listen_takes_syn_fin": True,
    "ecn_syn_retries": 1,
    "connect_timeout_us": 75_000_000,
    "syn_retries": 12,
    "keepalive_count": 8,
    "recv_buffer_initial_bytes": 65_536,
    "recv_buffer_bytes": 2_097_152,
    "send_buffer_initial_bytes": 32_768,
    "rto_initial_us": 1_000_000,
    "rto_min_us": 30_000,
    "rto_slop_us": 200_000,
    "rto_max_us": 64_000_000,
}

# What was otherwise until FreeBSD 11. Scripts for later ones begin by setting the buffers and timers that this one
# takes for granted.
FREEBSD_11: Converted = {
    "rto_initial_us": 3_000_000,
    "delayed_ack_us": 100_000,
    "window_rounds_up": False,
    "time_wait_keeps_window": True,
}
_LATER_FREEBSD = re.compile(r"net\.inet\.tcp\.(recvspace|rexmit_)|kern\.ipc\.maxsockbuf|#ifdef")

LINUX_MARKS = ("net.ipv4.", "net/ipv4/", "defaults.sh", "set_sysctls", "tcp_metrics", "SOL_TCP")
# What only FreeBSD's packetdrill has: its sysctls and tools, its names of states, its default buffer, and its order
# of options: the window scale before what else a SYN of its own has, and EOL after SACK permitted.
_FREEBSD_MARKS = re.compile(
    r"net\.inet\.|kern\.ipc\.|sockstat|tcpdrop|kldload|hostcache|sackOK\s*,\s*eol"
    r"|\bTCPI_(ESTABLISHED|SYN_SENT|SYN_RECEIVED|FIN_WAIT_[12]|TIME_WAIT|CLOSED|CLOSE_WAIT|LAST_ACK|CLOSING|LISTEN)\b"
    r"|>\s*S[^\n<]*<[^\n]*wscale\s+\d+\s*,\s*(nop\s*,\s*)*(sackOK|TS )"
    r"|SO_RCVBUF,\s*\[65536\]"
)

# Commands on what does not exist here, or that change nothing which a packet shows.
_NOTHING_HERE = (
    r"ip tcp_metrics (flush|del)\b",
    r"tc qdisc (add|replace) dev \S+ root (handle \S+ )?(pfifo|pfifo_fast|noqueue)$",
    r"ethtool -K \S+( (gso|tso|gro|tx|rx|sg|lro) (on|off))+$",
    r"setkey -F$",
    r"(/tmp/sysctl_restore_\S+|rm -f /tmp/sysctl_restore_\S+)$",
    r"(true|:|echo\b.*|sync)$",
    r"kldload -n tcp_(rack|bbr)$",
    r"nstat\b[^|]*$",  # a check of counters has a pipe
)


@dataclass
class KernelSetup:
    """The settings that commands before the first socket ask for, and what was left out of them."""

    directory: Path
    freebsd: bool
    known: dict[str, Any]
    linux: bool = False
    #: The defaults are those of FreeBSD until 11.
    early_freebsd: bool = False
    #: Of the kernel's selftests.
    kernel_tree: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    relaxed: list[str] = field(default_factory=list)
    #: The MTU of the device or of the route, where a command sets it, in bytes.
    mtu: int | None = None
    #: What TCP_CONGESTION of each socket begins with; None: the engine's own.
    congestion: str | None = None

    def __post_init__(self) -> None:
        if self.freebsd:
            self.settings.update(FREEBSD_DEFAULTS)
            if self.early_freebsd:
                self.settings.update(FREEBSD_11)
                self.relaxed.append("the defaults of FreeBSD until 11, as the script sets none of the later ones'")
        elif self.linux:
            self.settings.update(LINUX_DEFAULTS)
            if self.kernel_tree:
                self.settings["challenge_unsent_ack"] = True

    def apply(self, command: str) -> list[str]:
        """Take what is set-up from a command; the parts that are not are returned, to be run as checks."""
        rest = []
        for part in _parts(_computed(command)):
            if not self._take(part):
                rest.append(part)
        return rest

    def _take(self, part: str) -> bool:
        words = shlex.split(part, comments=True)
        if not words or any(re.match(pattern, " ".join(words)) for pattern in _NOTHING_HERE):
            return True
        if re.match(r"tc qdisc (add|replace) dev \S+ root fq$", " ".join(words)):
            # What fq changes is when packets leave; a script that looks at that fails at it.
            self.relaxed.append("no pacing: there is no fq here")
            return True
        name = Path(words[0]).name
        if name in ("ip", "ifconfig"):
            return self._network(words)
        if name.endswith(".sh"):
            self._script_file(words[0])
        elif name == "set_sysctls.py":
            for setting in words[1:]:
                path, _, value = setting.partition("=")
                self.sysctl(path.removeprefix("/proc/sys/").replace("/", "."), value)
        elif name == "sysctl":
            for setting in (word for word in words[1:] if not word.startswith("-") and "=" in word):
                self.sysctl(*setting.split("=", 1))
        else:
            return False
        return True

    def _network(self, words: list[str]) -> bool:
        """What `ip route`, `ip link` and `ifconfig` say of the way to the peer. False: nothing that is known here."""
        line = " ".join(words)
        device = re.fullmatch(r"(?:ip link set (?:dev )?|ifconfig )\S+ mtu (\d+)", line)
        if device:
            self.mtu = int(device[1])
            return True
        route = re.fullmatch(
            r"ip (?:-[46] )?route (?:change|replace|add|append) \S+((?: (?:via|dev|src) \S+)*)(.*)", line
        )
        if route is None:
            return re.fullmatch(r"ip (-[46] )?route (flush|show)\b.*", line) is not None
        metrics = re.findall(r" (\w+(?: lock)?) (\S+)", route[2])
        if "".join(f" {name} {value}" for name, value in metrics) != route[2]:
            return False
        return all(self._metric(name.removesuffix(" lock"), value) for name, value in metrics)

    def _metric(self, name: str, value: str) -> bool:
        """One metric of the route to the peer, which is the only one."""
        match name:
            case "mtu":
                self.mtu = int(value)
            case "advmss":
                self.settings["adv_mss"] = int(value)
            case "initrwnd":
                self.settings["initial_rwnd"] = int(value)
            case "initcwnd":
                self.settings["initial_cwnd"] = int(value)
            case "congctl" if value in _ALGORITHMS:
                self.congestion = _ALGORITHMS[value]
            case "rto_min" if time := re.fullmatch(r"(\d+)(s|ms|us|)", value):
                self.settings["rto_min_us"] = int(time[1]) * {"s": 1_000_000, "us": 1}.get(time[2], 1000)
            case _:
                return False
        return True

    def _script_file(self, name: str) -> None:
        path = self.directory / name
        if not path.is_file():
            if Path(name).name != "defaults.sh":
                raise Unsupported(f"the set-up {name}, which is not there")
            self.relaxed.append("defaults.sh is not there: the engine's own defaults")
            return
        for part in _parts(_computed(path.read_text())):
            if not self._take(part):
                raise Unsupported(f"{Path(name).name}: {part}")

    def sysctl(self, name: str, value: str) -> None:
        """One setting. Raises Unsupported when it means nothing here."""
        name = name.replace("/", ".")
        value = " ".join(value.strip().strip('"').split())
        if name in _CONGESTION and value in _ALGORITHMS:
            self.congestion = _ALGORITHMS[value]
            return
        convert = FIELDS.get(name)
        try:
            converted = convert(value) if convert else {}
        except ValueError as error:
            raise Unsupported(f"sysctl {name}={value}: {error}") from error
        if convert and converted.keys() <= self.known.keys():
            self.settings.update(converted)
            return
        agreed = AGREED.get(name, set())
        if agreed is None or value in agreed:
            return
        present = {key: item for key, item in converted.items() if key in self.known}
        missing = converted.keys() - self.known.keys()
        if name == "net.inet.tcp.rfc1323" and value == "1":  # both, and the engine always scales
            self.settings.update(present)
            return
        reason = f" (no setting {', '.join(sorted(missing))})" if missing else ""
        raise Unsupported(f"sysctl {name}={value}{reason}")


def _parts(text: str) -> list[str]:
    """The simple commands of shell text."""
    joined = re.sub(r"\\\n", " ", text)
    parts = []
    for line in joined.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        for part in re.split(r";|&&", line):
            part = re.sub(r"\s*(\d?>>?\s*/dev/null|2>&1)", "", part).strip()
            if part:
                parts.append(part)
    return parts


def _computed(text: str) -> str:
    """Shell text with its arithmetic done."""
    return re.sub(r"\$\(\((.*?)\)\)", lambda match: str(_product(match[1])), text)


def _product(text: str) -> int:
    """The value of shell arithmetic that only multiplies, such as 15*1024*1024."""
    result = 1
    for factor in text.split("*"):
        if not factor.strip().isdecimal():
            raise Unsupported(f"shell arithmetic: {text}")
        result *= int(factor)
    return result


def is_linux(text: str) -> bool:
    """The same for Linux. A script may show neither."""
    return any(mark in text for mark in LINUX_MARKS)


def is_early_freebsd(text: str) -> bool:
    """Whether a script for FreeBSD leaves to defaults what those for 12 and later set."""
    return _LATER_FREEBSD.search(text) is None


def is_kernel_tree(text: str) -> bool:
    """Whether a script is one of the Linux kernel's selftests."""
    return _KERNEL_TREE.search(text) is not None


def is_freebsd(text: str) -> bool:
    """Whether a script was written for FreeBSD, by what it does to its kernel, or by its spelling."""
    return _FREEBSD_MARKS.search(text) is not None


def are_neighbours_freebsd(path: Path, corpus: Path) -> bool:
    """Whether a script that shows nothing is in a folder for FreeBSD: by the name, or by what most scripts around it
    show, the nearest folder first, up to the corpus."""
    if not {"bsd", "freebsd"}.isdisjoint(path.parent.parts):
        return True
    for folder in path.parents:
        freebsd, linux = _shown(folder)
        if freebsd or linux or folder == corpus or corpus not in folder.parents:
            return freebsd > linux
    return False


@cache
def _shown(folder: Path) -> tuple[int, int]:
    """How many scripts in and below a folder show FreeBSD, and how many Linux."""
    texts = [path.read_text(errors="replace") for path in folder.rglob("*.pkt")]
    freebsd = sum(map(is_freebsd, texts))
    return freebsd, sum(is_linux(text) and not is_freebsd(text) for text in texts)
