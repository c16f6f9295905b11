"""packetdrill's runner: our scripts pass, wrong ones fail, and what is not understood is never passed.

Each run is a process of its own, since the stack of a process that runs tests in real time cannot become virtual.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("lark")

from packetdrill import syntax
from packetdrill.constants import Names, constant_names
from packetdrill.files import Files
from packetdrill.kernel_setup import KernelSetup, are_neighbours_freebsd, is_freebsd
from packetdrill.presume import presume
from packetdrill.wire import Unsupported

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted((ROOT / "tests/packets").glob("*.pkt"))
WRONG = sorted((ROOT / "tests/packetdrill/failing").glob("*.pkt"))

LISTEN = """0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
"""


@cache
def run(*names: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and result and detail by file."""
    command = [sys.executable, "-m", "tests.packetdrill", "--json", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    assert all(line.keys() == {"file", "result", "detail"} for line in lines)
    return done.returncode, {Path(line["file"]).name: (line["result"], line["detail"]) for line in lines}


def one(tmp_path: Path, text: str, name: str = "script.pkt") -> tuple[str, str]:
    path = tmp_path / name
    path.write_text(text)
    return run(str(path))[1][name]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_our_scripts_pass(path: Path) -> None:
    result, detail = run("tests/packets")[1][path.name]
    assert result == "pass", detail


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_scripts_fail(path: Path) -> None:
    assert path.read_text().startswith("// Must fail")
    status, results = run("tests/packetdrill/failing")
    result, detail = results[path.name]
    assert status == 1
    assert result == "fail", detail
    assert "actual" in detail or "returned" in detail or "tcpi_" in detail


def test_a_green_run_says_so_by_its_status() -> None:
    assert run("tests/packets/rfc9293_closed_port.pkt")[0] == 0


@pytest.mark.parametrize("version", ["ipv6", "ipv4-mapped-ipv6"])
def test_a_script_runs_over_other_families(tmp_path: Path, version: str) -> None:
    mss = 1440 if version == "ipv6" else 1460
    text = f"--ip_version={version}\n{LISTEN}+0 < S 0:0(0) win 1000 <mss 900>\n+0 > S. 0:0(0) ack 1 <mss {mss}>\n"
    assert one(tmp_path, text) == ("pass", "tolerance 4000 us")


@pytest.mark.parametrize(
    "text",
    [
        "`iptables -A INPUT -j DROP`\n" + LISTEN,
        "`sysctl -q net.ipv4.tcp_never_heard_of=1`\n" + LISTEN,
        "`sysctl -w net.inet.tcp.blackhole=2`\n" + LISTEN,
        LISTEN + "+0 < S 0:0(0) win 1000 <mss 900,FO 1234>\n",
        LISTEN + "+0 < udp (100)\n",
        LISTEN + "+0 splice(3, [0], 4, [0], 100, 0) = 100\n",
        LISTEN + "+0 setsockopt(3, SOL_TCP, TCP_FASTOPEN, [1], 4) = 0\n",
        LISTEN + "+0 what is this\n",
        "--udp_encapsulation=tcp\n" + LISTEN,
    ],
)
def test_what_is_not_understood_is_unsupported(tmp_path: Path, text: str) -> None:
    result, detail = one(tmp_path, text)
    assert (result, bool(detail)) == ("unsupported", True)


def test_a_relaxation_is_printed(tmp_path: Path) -> None:
    text = LISTEN + (
        "+0 < S 0:0(0) win 65535 <mss 1000>\n+0 > S. 0:0(0) ack 1 <mss 1460>\n+0 < . 1:1(0) ack 1 win 65535\n"
        "+0 accept(3, ..., ...) = 4\n+0 write(4, ..., 3000) = 3000\n+0 > P. 1:3001(3000) ack 1\n"
    )
    assert "compared as one" in one(tmp_path, text)[1]
    assert one(tmp_path, "--strict_segments\n" + text, "strict.pkt")[0] == "fail"


def test_only_one_branch_of_ifdef_need_pass_and_it_is_named(tmp_path: Path) -> None:
    text = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
    wrong, right = "+0 close(9) = 0\n", "+0 close(3) = 0\n"
    both = text + f"#ifdef STANDARD\n{wrong}#endif\n#ifdef FreeBSD\n{right}#endif\n"
    result, detail = one(tmp_path, both)
    assert (result, "FreeBSD" in detail) == ("pass", True)


# --- reading ---------------------------------------------------------------------------------------------------------


def actions(text: str) -> list[object]:
    return [event.action for event in syntax.parse(text).events]


def test_packets_are_read_in_both_dialects() -> None:
    first, second, third, fourth = actions(
        "+0 < SEW 0:0(0) win 5 <mss 10,nop,sack 1:2 3:4,TS val 1 ecr 2>\n"
        "1.5 > [ect0] FP. 1:11(10) ack 7 win 6 urg 3 <...>\n"
        "+0~+.2 > S. ...(0) ack 1 win 65535\n"
        "* < icmp unreachable frag_needed mtu 1400 [1:11(10)] // said\n"
    )
    assert isinstance(first, syntax.Packet) and isinstance(first.body, syntax.Tcp)
    assert (first.inbound, first.body.flags, first.body.window) == (True, "SEW", 5)
    assert first.body.options == (
        ("mss", "10"),
        ("nop",),
        ("sack", (1, 2), (3, 4)),
        ("TS", "val", "1", "ecr", "2"),
    )
    assert isinstance(second, syntax.Packet) and isinstance(second.body, syntax.Tcp)
    assert (second.ip, second.body.flags, second.body.ack, second.body.urgent) == (("ect0",), "FP.", 7, 3)
    assert second.body.options is None
    assert isinstance(third, syntax.Packet) and isinstance(third.body, syntax.Tcp)
    assert third.body.seq is None
    assert isinstance(fourth, syntax.Packet) and isinstance(fourth.body, syntax.Icmp)
    assert fourth.body == syntax.Icmp("unreachable", ("frag_needed", "mtu", "1400"), 1, 10)


def test_calls_are_read() -> None:
    text = "+.1...0.3 poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLIN}], 1, -1) = -1 EINTR (Interrupted call)\n"
    event = syntax.parse(text).events[0]
    call = event.action
    assert isinstance(call, syntax.Call)
    assert (event.time, call.end_us, call.result, call.errno) == (
        syntax.Time("relative", 100_000, 100_000),
        300_000,
        -1,
        "EINTR",
    )
    [entry] = call.arguments[0]
    assert entry.fields["events"] == syntax.Flags("|", (syntax.Word("POLLIN"), syntax.Word("POLLOUT")))


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(syntax.SyntaxFault, match="line 2"):
        syntax.parse("+0 close(3) = 0\n+0 close(3 = 0\n")
    with pytest.raises(syntax.SyntaxFault, match="disagree"):
        syntax.parse("+0 > . 1:3(1) ack 1\n")


ESTABLISHED = (
    LISTEN
    + """+0 < S 0:0(0) win 32792 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
+.01 < . 1:1(0) ack 1 win 32792
+0 accept(3, ..., ...) = 4
"""
)


def test_a_packet_larger_than_mss_arrives_as_the_segments_that_it_was(tmp_path: Path) -> None:
    script = ESTABLISHED + "+0 < P. 1:5001(5000) ack 1 win 32792\n+0 > . 1:1(0) ack 5001\n"
    checked = script + "+0 %{ assert tcpi_rcv_mss == 1000, tcpi_rcv_mss }%\n+0 read(4, ..., 9000) = 5000\n"
    assert one(tmp_path, "--mss=1000\n" + checked)[0] == "pass"
    assert "tcpi_rcv_mss" in one(tmp_path, checked, "whole.pkt")[1]


def test_a_queue_without_room_keeps_packets_until_it_has_some(tmp_path: Path) -> None:
    full = "+0 `tc qdisc replace dev tun0 root pfifo limit 0`\n+0 write(4, ..., 10) = 10\n"
    sent = "+0 > P. 1:11(10) ack 1\n"
    assert "actual no packet" in one(tmp_path, ESTABLISHED + full + sent)[1]
    assert one(tmp_path, ESTABLISHED + full + "+1 `tc qdisc del dev tun0 root`\n" + sent, "later.pkt")[0] == "pass"


def test_files_of_zeros_are_made_without_a_shell(tmp_path: Path) -> None:
    files = Files()
    assert files.take(["/bin/dd", "bs=2", "count=5", "if=/dev/zero", "of=/tmp/made", "status=none"])
    made = files.find("/tmp/made")
    assert made is not None
    assert made.read_bytes() == bytes(10)
    assert files.take(["rm", "-f", "/tmp/made"])
    assert files.find("/tmp/made") is None
    assert not files.take(["rm", "-rf", "/tmp/made"])
    assert not files.take(["rm", "-f", "/etc/passwd"])
    with pytest.raises(Unsupported):
        files.take(["dd", "if=/etc/passwd", "of=/tmp/made"])
    files.close()
    assert not made.parent.exists()


# --- set-up ----------------------------------------------------------------------------------------------------------

KNOWN = {"timestamps": True, "sack": True, "recv_buffer_initial_bytes": 1, "recv_buffer_bytes": 2, "rto_min_us": 3}


def test_sysctls_become_settings(tmp_path: Path) -> None:
    (tmp_path / "defaults.sh").write_text('# for all\nsysctl -q net.ipv4.tcp_rmem="4096 540000 $((15*1024*1024))"\n')
    setup = KernelSetup(tmp_path, False, KNOWN)
    assert setup.apply("./defaults.sh\nsysctl -q net.ipv4.tcp_timestamps=0 && true") == []
    assert setup.settings["timestamps"] is False
    assert setup.settings["recv_buffer_bytes"] == 15 << 20
    assert setup.apply("sockstat -4 | grep -c CLOSED | grep 1") != []
    with pytest.raises(Unsupported, match="no setting"):
        setup.sysctl("net.ipv4.tcp_max_syn_backlog", "5")


@pytest.mark.parametrize(
    ("sysctl", "value", "settings"),
    [
        ("net.ipv4.tcp_dsack", "0", {"dsack": False}),
        ("net.ipv4.tcp_recovery", "0", {"rack": False}),
        ("net.ipv4.tcp_frto", "0", {"frto": False}),
        ("net.ipv4.tcp_invalid_ratelimit", "0", {"stray_ack_interval_us": 0}),
        ("net.ipv4.tcp_keepalive_time", "5", {"keepalive_idle_us": 5_000_000}),
        ("net.inet.tcp.rexmit_min", "70", {"rto_min_us": 70_000}),
        ("net.inet.tcp.rexmit_slop", "50", {"rto_slop_us": 50_000}),
    ],
)
def test_a_sysctl_with_a_meaning_is_a_setting(tmp_path: Path, sysctl: str, value: str, settings: object) -> None:
    setup = KernelSetup(tmp_path, False, dict.fromkeys(ALL_SETTINGS))
    setup.sysctl(sysctl, value)
    assert setup.settings == settings


ALL_SETTINGS = ["dsack", "rack", "frto", "stray_ack_interval_us", "keepalive_idle_us", "rto_min_us", "rto_slop_us"]


def test_rack_with_another_window_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="reordering window"):
        KernelSetup(tmp_path, False, dict.fromkeys(ALL_SETTINGS)).sysctl("net.ipv4.tcp_recovery", "2")


def test_metrics_of_the_route_become_settings(tmp_path: Path) -> None:
    setup = KernelSetup(tmp_path, False, KNOWN)
    assert setup.apply("ip -6 route change fd::3 via fd::2 dev tun0 advmss 1000 mtu lock 1460 initcwnd 16") == []
    assert (setup.settings, setup.mtu) == ({"adv_mss": 1000, "initial_cwnd": 16}, 1460)
    assert setup.apply("ip link set dev tun0 mtu 9000") == []
    assert setup.mtu == 9000
    unknown = "ip route change 192.0.2.1 via 192.168.0.1 dev tun0 cwnd lock 6"
    assert setup.apply(unknown) == [unknown]


def test_a_route_decides_mss_and_first_window(tmp_path: Path) -> None:
    text = "`ip route change 192.0.2.1 via 192.168.0.2 dev tun0 advmss 1200 mtu lock 1240 initcwnd 3`\n" + ESTABLISHED
    text = text.replace("<mss 1460>", "<mss 1200>") + (
        "+0 write(4, ..., 9000) = 9000\n+0 > . 1:3001(3000) ack 1\n+.01 < . 1:1(0) ack 3001 win 32792\n"
    )
    assert one(tmp_path, text)[0] == "pass"


def test_freebsd_is_known_by_its_spelling() -> None:
    assert is_freebsd("`sysctl -w net.inet.tcp.rfc1323=1`")
    assert is_freebsd("+0 > S 0:0(0) win 65535 <mss 1460,nop,wscale 6,nop,nop,TS val 100 ecr 0>")
    assert not is_freebsd("`sysctl -q net.ipv4.tcp_sack=1`")
    assert not is_freebsd("+0 < S. 0:0(0) ack 1 win 5792 <mss 1460,nop,wscale 2,nop,nop,sackOK>")


def test_a_script_that_shows_no_system_is_for_that_of_those_around_it(tmp_path: Path) -> None:
    plain, freebsd = tmp_path / "close", tmp_path / "reset"
    plain.mkdir()
    freebsd.mkdir()
    (plain / "plain.pkt").write_text(LISTEN)
    (freebsd / "marked.pkt").write_text("`sysctl -w net.inet.tcp.rfc1323=1`\n" + LISTEN)
    assert are_neighbours_freebsd(plain / "plain.pkt", tmp_path)
    assert not are_neighbours_freebsd(plain / "plain.pkt", plain), "not beyond the corpus"


def test_the_slop_of_freebsd_is_added_and_its_first_versions_wait_longer(tmp_path: Path) -> None:
    later = "`sysctl -w net.inet.tcp.rexmit_initial=1000`\n"
    connect = "+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n"
    connect += (
        "+0 connect(3, ..., ...) = -1 EINPROGRESS (now)\n+0 > S 0:0(0) <mss 1460,nop,wscale 6,sackOK,TS val 1 ecr 0>\n"
    )
    again = "> S 0:0(0) <mss 1460,nop,wscale 6,sackOK,TS val 2 ecr 0>\n"
    assert one(tmp_path, f"{later}{connect}+1 {again}+2.2 {again}")[0] == "pass"
    result, detail = one(tmp_path, f"{connect}+3 {again}", "early.pkt")
    assert result == "pass"
    assert "FreeBSD until 11" in detail


def test_freebsd_counts_states_and_windows_its_own_way() -> None:
    linux = {"tcpi_state": 1, "tcpi_snd_cwnd": 10, "tcpi_snd_ssthresh": 5, "tcpi_snd_mss": 1000}
    shown = Names(True).info(linux | constant_names())
    assert (shown["tcpi_state"], shown["TCPI_ESTABLISHED"], shown["tcpi_snd_cwnd"]) == (4, 4, 10_000)
    assert Names(False).info(linux) == linux
    assert (Names(True).shown_mss(1088, True), Names(False).shown_mss(1088, True)) == (1100, 1088)


# --- what is presumed ------------------------------------------------------------------------------------------------


def presumed(text: str, freebsd: bool = True, **settings: object) -> tuple[dict[str, object], list[str]]:
    notes = list(presume(settings, syntax.parse(text), freebsd))
    return settings, notes


def test_what_the_first_syn_shows_and_nothing_sets_is_presumed_and_said() -> None:
    syn = "+0 > S 0:0(0) <mss 1460,nop,wscale 6,nop,nop,TS val 1 ecr 0>\n"
    settings, notes = presumed(syn)
    assert settings == {"sack": False, "recv_buffer_bytes": 65_535 << 6}
    assert len(notes) == 2
    assert presumed(syn, sack=True, recv_buffer_bytes=5) == ({"sack": True, "recv_buffer_bytes": 5}, [])
    assert presumed("+0 > S 0:0(0) <...>\n") == ({}, [])
    assert presumed(syn, freebsd=False, recv_buffer_bytes=5) == ({"recv_buffer_bytes": 5}, []), "Linux has them on"


def test_a_syn_ack_shows_no_more_than_it_was_asked_for() -> None:
    asked = "+0 < S 0:0(0) win 1 <mss 1460,sackOK>\n"
    assert presumed(asked + "+0 > S. 0:0(0) ack 1 <mss 1460,sackOK>\n")[0] == {}
    assert presumed(asked + "+0 > S. 0:0(0) ack 1 <mss 1460>\n")[0] == {"sack": False}


@pytest.mark.parametrize(("window", "setting"), [(29_200, "initial_rwnd"), (64_240, "recv_buffer_initial_bytes")])
def test_the_first_window_tells_which_linux(window: int, setting: str) -> None:
    text = f"+0 > S 0:0(0) win {window} <mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7>\n"
    settings, notes = presumed(text, freebsd=False, recv_buffer_bytes=1)
    assert setting in settings
    assert len(notes) == 1
    assert setting not in presumed(text.replace(str(window), "65535"), freebsd=False)[0]


def test_the_list_of_connections_is_looked_at(tmp_path: Path) -> None:
    for state, result in (("ESTAB", "pass"), ("SYN-RECV", "fail")):
        text = ESTABLISHED + f"+0 `ss -4 -n state {state} | grep 192.168.0.1:8080 > /dev/null`\n"
        assert one(tmp_path, text, f"{state}.pkt")[0] == result


def test_a_connection_after_a_reset_has_numbers_of_its_own(tmp_path: Path) -> None:
    syn = "+.1 < S 0:0(0) win 1000 <mss 1000>\n+0 > S. 0:0(0) ack 1 <...>\n"
    assert one(tmp_path, LISTEN + syn + "+0 < R 1:1(0) win 0\n" + syn)[0] == "pass"


def test_printing_as_python_2_does_is_left_out(tmp_path: Path) -> None:
    assert one(tmp_path, ESTABLISHED + '+0 %{ print "state", tcpi_state }%\n')[0] == "pass"
    assert one(tmp_path, ESTABLISHED + "+0 %{ assert assert }%\n", "bad.pkt")[0] == "unsupported"
