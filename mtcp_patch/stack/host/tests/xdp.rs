//! `XdpDevice` against the kernel's own TCP and UDP, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic)] // that is how a test fails

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::*;
use mtcp_engine::device::Device;
use mtcp_host::route;
use mtcp_host::xdp::{OpenError, XdpDevice, XdpOptions};

#[test]
fn a_steered_connection_is_ours_and_others_are_the_kernels() {
    if !privileged("a_steered_connection_is_ours_and_others_are_the_kernels") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        for local in ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080"].map(address) {
            device.steer(local, true).unwrap();
            let client = connecting(local);
            answer_syn(&mut device, local);
            client.join().unwrap().unwrap();
            expect(&mut device, |t| t.flags == ACK && t.ack == 1001);
            device.steer(local, false).unwrap();
            // The port is the kernel's again: nobody listens.
            let refused = TcpStream::connect_timeout(&local, WAIT).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(device.counters().bad_descriptors, 0);
    });
}

#[test]
fn a_port_is_looked_at_while_one_of_its_addresses_is_ours() {
    if !privileged("a_port_is_looked_at_while_one_of_its_addresses_is_ours") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let (one, other) = (address("127.0.0.1:8080"), address("127.9.9.9:8080"));
        // In one word of the ports' map with 8080: their bytes in network order differ in six bits at most.
        let neighbour = address("127.0.0.1:8336");
        for local in [one, other, neighbour] {
            device.steer(local, true).unwrap();
        }
        device.steer(one, false).unwrap();
        device.steer(neighbour, false).unwrap();
        let client = connecting(other);
        answer_syn(&mut device, other);
        client.join().unwrap().unwrap();
        for local in [one, neighbour] {
            let refused = TcpStream::connect_timeout(&local, WAIT).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn wildcards_catch_every_address_of_their_family_only() {
    if !privileged("wildcards_catch_every_address_of_their_family_only") {
        return;
    }
    in_namespace(|| {
        ip("addr add 10.5.5.5/32 dev lo");
        let mut device = open("lo");
        let wildcard = address("0.0.0.0:8080");
        device.steer(wildcard, true).unwrap();
        device.steer(wildcard, true).unwrap();
        device.steer(wildcard, false).unwrap(); // counted: still on
        for local in ["127.0.0.1:8080", "10.5.5.5:8080"].map(address) {
            let client = connecting(local);
            answer_syn(&mut device, local);
            client.join().unwrap().unwrap();
        }
        let v6 = TcpStream::connect_timeout(&address("[::1]:8080"), WAIT).unwrap_err();
        assert_eq!(v6.kind(), std::io::ErrorKind::ConnectionRefused);
        device.steer(wildcard, false).unwrap();
        assert_eq!(device.steer(wildcard, false).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        device.steer(address("[::]:8080"), true).unwrap();
        let client = connecting(address("[::1]:8080"));
        answer_syn(&mut device, address("[::1]:8080"));
        client.join().unwrap().unwrap();
    });
}

#[test]
fn unowned_ports_pass_untouched() {
    if !privileged("unowned_ports_pass_untouched") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        device.steer(address("0.0.0.0:8080"), true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut data = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut data).unwrap();
            data
        });
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        TcpStream::connect(to).unwrap().write_all(&sent).unwrap();
        assert!(server.join().unwrap() == sent);
        assert_eq!(device.receive(64, &mut |_| panic!("not ours")), 0);
    });
}

#[test]
fn ip_options_and_extension_headers_are_stepped_over() {
    if !privileged("ip_options_and_extension_headers_are_stepped_over") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let syn = |src: &str, dst: &str| Tcp {
            src: address(src),
            dst: address(dst),
            seq: 1,
            ack: 0,
            flags: SYN,
            window: 1000,
            options: Vec::new(),
            payload: Vec::new(),
        };
        device.steer(address("127.0.0.1:81"), true).unwrap();
        device.steer(address("[::1]:81"), true).unwrap();
        // What we transmit on lo comes back by its receive path, and so to the program.
        let v4 = syn("127.0.0.1:5", "127.0.0.1:81").to_frame_with((0, &[1; 40]));
        let v6 = syn("[::1]:5", "[::1]:81");
        let pad = |next: u8, units: usize| {
            let mut header = vec![next, units as u8, 1, (units * 8 + 4) as u8];
            header.resize(8 + units * 8, 0);
            header
        };
        let four = [pad(43, 0), pad(60, 1), pad(60, 2), pad(6, 0)].concat();
        let five = [pad(43, 0), pad(60, 1), pad(60, 2), pad(60, 0), pad(6, 0)].concat();
        for (frame, ours) in [
            (v4, true),
            (v6.to_frame(), true),
            (v6.to_frame_with((0, &pad(6, 3))), true),
            (v6.to_frame_with((0, &four)), true),
            (v6.to_frame_with((0, &five)), false),
            (v6.to_frame_with((44, &[6, 0, 0, 1, 0, 0, 0, 9])), false), // a fragment
            (v6.to_frame_with((60, &[6, 255, 0, 0, 0, 0, 0, 0])), false), // past the end
        ] {
            send(&mut device, &frame);
            let mut got = Vec::new();
            device.receive(8, &mut |f| got.push(f.to_vec()));
            assert_eq!(got, if ours { vec![frame] } else { vec![] });
        }
    });
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    if !privileged("a_second_opener_is_told_who_has_it") {
        return;
    }
    in_namespace(|| {
        let first = open("lo");
        let refused = XdpDevice::open("lo", &XdpOptions::default()).err().unwrap();
        assert!(matches!(refused, OpenError::Busy { .. }), "{refused}");
        drop(first);
        open("lo");
    });
}

#[test]
fn an_absent_interface_is_said_so() {
    let refused = XdpDevice::open("no-such-if0", &XdpOptions::default()).err().unwrap();
    assert!(matches!(refused, OpenError::NoInterface { .. }), "{refused}");
}

#[test]
fn super_packets_arrive_whole() {
    if !privileged("super_packets_arrive_whole") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let local = address("127.0.0.1:8080");
        device.steer(local, true).unwrap();
        let client = connecting(local);
        let syn = answer_syn(&mut device, local);
        let mut client = client.join().unwrap().unwrap();
        let sent: Vec<u8> = (0..400_000u32).map(|i| ((i * 11) >> 4) as u8).collect();
        let data = sent.clone();
        let writer = std::thread::spawn(move || client.write_all(&data).map(|()| client));
        let first = syn.seq.wrapping_add(1);
        let mut got = Vec::new();
        let mut largest = 0;
        while got.len() < sent.len() {
            let next = first.wrapping_add(got.len() as u32);
            let (segment, _) = expect(&mut device, |t| t.seq == next && !t.payload.is_empty());
            largest = largest.max(segment.payload.len());
            got.extend(segment.payload);
            let ack = Tcp {
                src: local,
                dst: syn.src,
                seq: 1001,
                ack: first.wrapping_add(got.len() as u32),
                flags: ACK,
                window: 65_535,
                options: Vec::new(),
                payload: Vec::new(),
            };
            send(&mut device, &ack.to_frame());
        }
        assert!(got == sent);
        assert!(largest > 60_000, "{largest}: no super-packet was seen");
        assert!(device.counters().multi_buffer > 0);
        assert_eq!(device.kernel_drops().map(|(_, n)| n), [0; 3]);
        writer.join().unwrap().unwrap();
    });
}

#[test]
fn frames_of_every_size_leave_whole() {
    if !privileged("frames_of_every_size_leave_whole") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        for host in ["127.0.0.1", "[::1]"] {
            let socket = UdpSocket::bind(format!("{host}:0")).unwrap();
            socket.set_read_timeout(Some(WAIT)).unwrap();
            let to = socket.local_addr().unwrap();
            let from = address(&format!("{host}:7"));
            for len in [0, 1, 1472, 4054, 4055, 8150, 32_000, 61_000, 65_487, 65_507] {
                let payload: Vec<u8> = (0..len as u32).map(|i| ((i * 13) >> 5) as u8).collect();
                let frame = udp_frame(from, to, &payload);
                if frame.len() > device.caps().mtu + 14 {
                    assert!(!device.transmit(frame.len(), &mut |_| panic!("too long")));
                    continue;
                }
                send(&mut device, &frame);
                let mut got = vec![0; 70_000];
                let (n, _) = socket.recv_from(&mut got).unwrap_or_else(|e| panic!("{len}: {e}"));
                assert!(got[..n] == payload, "{len} bytes by {host}");
            }
        }
        assert_eq!(device.caps().mtu, 65_535);
    });
}

#[test]
fn a_large_download_of_65_483_byte_segments_does_not_stall() {
    if !privileged("a_large_download_of_65_483_byte_segments_does_not_stall") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        let local = address("127.0.0.1:8080");
        device.steer(local, true).unwrap();
        let client = connecting(local);
        let syn = answer_syn(&mut device, local);
        let mut client = client.join().unwrap().unwrap();
        let scale = syn.options.windows(3).find(|o| o[..2] == [3, 3]).map_or(0, |o| o[2]);
        const TOTAL: usize = 20_000_000;
        let data: Vec<u8> = (0..TOTAL as u32).map(|i| ((i * 7) >> 6) as u8).collect();
        let expected = data.clone();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; TOTAL];
            client.read_exact(&mut got).unwrap();
            assert!(got == expected);
        });
        let (mut sent, mut acked, mut window) = (0usize, 0usize, usize::from(syn.window));
        let end = Instant::now() + Duration::from_secs(20);
        while acked < TOTAL {
            assert!(
                Instant::now() < end,
                "stalled: {acked} of {sent} acknowledged, window {window}"
            );
            while sent < TOTAL && sent - acked < window {
                let n = 65_483.min(TOTAL - sent).min(window - (sent - acked));
                let segment = Tcp {
                    src: local,
                    dst: syn.src,
                    seq: 1001 + sent as u32,
                    ack: syn.seq.wrapping_add(1),
                    flags: ACK | PSH,
                    window: 65_535,
                    options: Vec::new(),
                    payload: data[sent..sent + n].to_vec(),
                };
                let frame = segment.to_frame();
                if !device.transmit(frame.len(), &mut |out| out.copy_from_slice(&frame)) {
                    break;
                }
                sent += n;
            }
            device.flush();
            device.receive(64, &mut |frame| {
                if let Some(t) = Tcp::parse(frame).filter(|t| t.flags & ACK != 0 && t.ack > 1000) {
                    acked = acked.max((t.ack - 1001) as usize);
                    window = usize::from(t.window) << scale;
                }
            });
        }
        reader.join().unwrap();
        assert_eq!(device.counters().tx_lost, 0);
    });
}

#[test]
fn veth_is_native_and_serves_all_queues() {
    if !privileged("veth_is_native_and_serves_all_queues") {
        return;
    }
    in_namespace(|| {
        let (go, opened) = std::sync::mpsc::channel::<()>();
        let clients = with_veth_peer("numrxqueues 2 numtxqueues 2", move || {
            opened.recv().unwrap();
            // Several, so that both queues see one.
            for _ in 0..16 {
                for to in ["10.10.0.1:8080", "[fd00::1]:8080"].map(address) {
                    TcpStream::connect_timeout(&to, WAIT).unwrap();
                }
            }
        });
        let mut device = open("va");
        assert_eq!((device.mode(), device.queues()), ("native", 2));
        assert_eq!(device.caps().mtu, 1500);
        assert_ne!(device.caps().hw_addr, [0; 6]);
        device.steer(address("0.0.0.0:8080"), true).unwrap();
        device.steer(address("[::]:8080"), true).unwrap();
        go.send(()).unwrap();
        for _ in 0..32 {
            let (syn, frame) = expect(&mut device, |t| t.flags == SYN);
            let answer = Tcp {
                src: syn.dst,
                dst: syn.src,
                seq: 1000,
                ack: syn.seq.wrapping_add(1),
                flags: SYN | ACK,
                window: 65_535,
                options: Vec::new(),
                payload: Vec::new(),
            };
            let mut out = answer.to_frame();
            out[..6].copy_from_slice(&frame[6..12]);
            out[6..12].copy_from_slice(&frame[..6]);
            send(&mut device, &out);
        }
        clients.join().unwrap();
        // What merely passes through is not ours, whatever the wildcard says.
        assert_eq!(
            device.steer(address("10.99.0.1:8080"), false).unwrap_err().raw_os_error(),
            Some(libc::ENOENT)
        );
        device.steer(address("0.0.0.0:8080"), false).unwrap();
        device.steer(address("[::]:8080"), false).unwrap();
    });
}

#[test]
fn neighbours_are_resolved_by_the_kernel() {
    if !privileged("neighbours_are_resolved_by_the_kernel") {
        return;
    }
    in_namespace(|| {
        let (done, finished) = std::sync::mpsc::channel::<()>();
        let peer = with_veth_peer("", move || {
            let address =
                std::process::Command::new("ip").args(["-br", "link", "show", "vb"]).output();
            finished.recv().unwrap();
            String::from_utf8(address.unwrap().stdout).unwrap()
        });
        let mut found = Vec::new();
        for host in ["10.10.0.2", "fd00::2"] {
            let to = host.parse().unwrap();
            let route = route::lookup(to, None).unwrap();
            assert_eq!((route.local, route.gateway), (false, None));
            let end = Instant::now() + WAIT;
            let address = loop {
                assert!(Instant::now() < end, "{host} was not resolved");
                // A failed attempt of before the peer was up is started again.
                if let Ok(Some(address)) = route::neighbour(route.ifindex, to) {
                    break address;
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            found.push(address.map(|b| format!("{b:02x}")).join(":"));
        }
        done.send(()).unwrap();
        let shown = peer.join().unwrap();
        assert!(found.iter().all(|a| shown.contains(a)), "{found:?} in {shown}");
        let nowhere = route::lookup("203.0.113.1".parse().unwrap(), None).unwrap_err();
        assert_eq!(nowhere.raw_os_error(), Some(libc::ENETUNREACH));
    });
}

/// A segment to ourselves: what leaves on `lo` comes back by the steering program.
fn to_ourselves(port: u16) -> Vec<u8> {
    let segment = Tcp {
        src: address("127.0.0.1:5"),
        dst: SocketAddr::new("127.0.0.1".parse().unwrap(), port),
        seq: 1,
        ack: 0,
        flags: ACK,
        window: 1000,
        options: Vec::new(),
        payload: Vec::new(),
    };
    segment.to_frame()
}

#[test]
fn a_batch_larger_than_the_pool_leaves_in_parts() {
    if !privileged("a_batch_larger_than_the_pool_leaves_in_parts") {
        return;
    }
    in_namespace(|| {
        let options = XdpOptions { tx_chunks: 64, ..XdpOptions::default() };
        let mut device = XdpDevice::open("lo", &options).unwrap();
        device.steer(address("127.0.0.1:8080"), true).unwrap();
        let frame = to_ourselves(8080);
        for _ in 0..1000 {
            assert!(device.transmit(frame.len(), &mut |out| out.copy_from_slice(&frame)));
        }
        device.flush();
        let mut received = 0;
        while device.receive(100, &mut |f| received += usize::from(f == frame)) != 0 {}
        assert_eq!(received, 1000);
        assert!(device.syscalls() < 100, "{} system calls", device.syscalls());
    });
}

#[test]
fn what_an_interface_that_is_down_does_not_take_leaves_when_it_is_up() {
    if !privileged("what_an_interface_that_is_down_does_not_take_leaves_when_it_is_up") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        device.steer(address("127.0.0.1:8080"), true).unwrap();
        let frame = to_ourselves(8080);
        ip("link set lo down");
        let mut accepted = 0;
        while device.transmit(frame.len(), &mut |out| out.copy_from_slice(&frame)) {
            accepted += 1;
            device.flush();
        }
        assert!(accepted > 0 && device.counters().tx_errors > 0);
        ip("link set lo up");
        let mut received = 0;
        while device.receive(100, &mut |_| received += 1) != 0 {}
        assert_eq!(received, accepted);
        send(&mut device, &frame);
        assert_eq!(device.receive(100, &mut |_| ()), 1);
        assert_eq!(device.counters().tx_lost, 0);
    });
}

/// An ICMP error from `from` to the source of `segment`, quoting its beginning.
fn icmp_error(kind: u8, from: &str, segment: &Tcp, quoted: usize) -> Vec<u8> {
    let frame = segment.to_frame();
    let mut message = vec![kind, 4, 0, 0, 0, 0, 3, 232];
    message.extend(&frame[14..frame.len().min(14 + quoted)]);
    common::icmp_frame(from.parse().unwrap(), segment.src.ip(), message)
}

#[test]
fn icmp_errors_come_to_whoever_sent_the_segment() {
    if !privileged("icmp_errors_come_to_whoever_sent_the_segment") {
        return;
    }
    in_namespace(|| {
        let mut device = open("lo");
        device.steer(address("127.0.0.1:8080"), true).unwrap();
        device.steer(address("[::]:8080"), true).unwrap();
        let segment = |src: &str, dst: &str| Tcp {
            src: address(src),
            dst: address(dst),
            seq: 77,
            ack: 0,
            flags: ACK,
            window: 1000,
            options: Vec::new(),
            payload: vec![1; 1000],
        };
        let v4 = segment("127.0.0.1:8080", "127.0.0.1:5");
        let v6 = segment("[::1]:8080", "[::1]:5");
        let theirs4 = segment("127.0.0.1:8081", "127.0.0.1:8080");
        let theirs6 = segment("[::1]:8081", "[::1]:8080");
        for (frame, ours) in [
            (icmp_error(3, "127.0.0.1", &v4, 28), true),
            (icmp_error(11, "127.0.0.1", &v4, 500), true),
            (icmp_error(12, "127.0.0.1", &v4, 28), true),
            (icmp_error(8, "127.0.0.1", &v4, 28), false), // an echo request
            (icmp_error(3, "127.0.0.1", &theirs4, 28), false),
            (icmp_error(3, "127.0.0.1", &v4, 20), false), // quotes too little
            (icmp_error(2, "::1", &v6, 48), true),
            (icmp_error(1, "::1", &v6, 1000), true),
            (icmp_error(128, "::1", &v6, 48), false), // an echo request
            (icmp_error(2, "::1", &theirs6, 48), false),
            (icmp_error(2, "::1", &v6, 40), false),
        ] {
            send(&mut device, &frame);
            let mut got = Vec::new();
            device.receive(8, &mut |f| got.push(f.to_vec()));
            // What the kernel answers to an echo request does not come to us either.
            assert_eq!(got, if ours { vec![frame] } else { vec![] });
        }
    });
}
