//! Real values to start from, one list for each target. They are what `tests/fuzz/corpus` holds.

use bulkhead_acl::{PortSet, Selector, Service, SignedBundle, Subject};
use bulkhead_identity::{
    Chain, ChallengeKey, Epoch, Generation, LabelKey, Labels, NodeName, Seal, Signed, TrustDocument,
};
use bulkhead_protocol::PROTOCOL_VERSION;
use bulkhead_protocol::control::{Endpoint, FlowReport, ToCoordinator, ToNode};
use bulkhead_protocol::frame;
use bulkhead_protocol::map::{MapPeer, MapSequence, MapUpdate, PeerMap};
use bulkhead_protocol::offload::{Offload, Offloads};
use bulkhead_protocol::token::{Token, TokenKind};
use data_encoding::BASE64URL_NOPAD;
use minicbor::Encode;
use zeroize::Zeroizing;

use super::bundle::unsigned;
use super::deployment::{
    ACME, DB, POLICY, WALL, WEB, certificate_request, challenge, db_tunnel, receipt, tunnel_key, web_tunnel,
};
use super::ip;
use super::packets::{Attacker, addresses_of};
use super::signed::{enveloped, honest_statement};

/// A file of a corpus: its name and bytes.
pub type Seed = (&'static str, Vec<u8>);

/// Where `target` begins.
#[must_use]
pub fn seeds(target: &str) -> Vec<Seed> {
    match target {
        "api_body" => api_bodies(),
        "bundle" => bundles(),
        "certificate" => leaves(),
        "chain" => chains(),
        "claims" => claims(),
        "conversation" => conversations(),
        "datagram" => datagrams(),
        "frame" => vec![
            ("to_node", to_node().iter().flat_map(|(_, message)| framed(message)).collect()),
            ("to_coordinator", to_coordinator().iter().flat_map(|(_, message)| framed(message)).collect()),
        ],
        "host_packet" => host_packets(),
        "hours" => texts(&[
            ("working_days", "Mon-Fri 06:00-22:00 Europe/Berlin"),
            ("nights", "Fri-Sun,Wed 22:30-05:00 America/New_York"),
            ("always", "Mon-Sun 00:00-24:00 UTC"),
            ("lord_howe", "Sun 01:30-02:30 Australia/Lord_Howe"),
        ]),
        "map" => vec![("snapshot_and_deltas", map_updates().iter().flat_map(framed).collect())],
        "merge" => trains(),
        "name" => texts(&[
            ("trust_domain", "acme.example"),
            ("labels", "env=prod,idp.group=sre,role=web"),
            ("spiffe_id", "spiffe://acme.example/node/web-1"),
        ]),
        "packet" => peer_packets(),
        "policy_text" => policy_texts(),
        "ports" => ports(),
        "receipt" => vec![("signed", body(&receipt()))],
        "request" => vec![("signed", body(&certificate_request()))],
        "revocations" => lists(),
        "seal" => seals(),
        "selector" => selectors(),
        "slice" => slices(),
        "split" => superpackets(),
        "to_coordinator" => bodies(&to_coordinator()),
        "to_node" => bodies(&to_node()),
        "token" => tokens(),
        "trust" => trust_documents(),
        _ => Vec::new(),
    }
}

fn body<T: Encode<()>>(message: &T) -> Vec<u8> {
    minicbor::to_vec(message).unwrap()
}

fn framed<T: Encode<()>>(message: &T) -> Vec<u8> {
    frame::encode(message).unwrap()
}

fn bodies<T: Encode<()>>(messages: &[(&'static str, T)]) -> Vec<Seed> {
    messages.iter().map(|(name, message)| (*name, body(message))).collect()
}

fn texts(texts: &[(&'static str, &str)]) -> Vec<Seed> {
    texts.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
}

fn payload(signed: &[u8]) -> Vec<u8> {
    Signed::decode(signed).unwrap().payload
}

fn bundles() -> Vec<Seed> {
    // Of one generation there is one signed content: what is to be signed again comes without.
    let at = |text, generation| unsigned(&ACME.bundle_of(text, generation));
    vec![
        ("signed", ACME.bundle.clone()),
        ("older", at(POLICY, 3)),
        ("newer", at(POLICY, 5)),
        ("nobody", at("version = 1", 5)),
    ]
}

fn slices() -> Vec<Seed> {
    let bundle = |bytes: &[u8]| SignedBundle::verify(bytes, &ACME.trust, Generation(0), WALL).unwrap();
    let held = bundle(&ACME.bundle);
    let stranger = Subject { name: NodeName::parse("stranger").unwrap(), labels: Labels::default() };
    vec![
        ("of_web", held.slice(&Subject::from(&ACME.web))),
        ("of_db", held.slice(&Subject::from(&ACME.db))),
        ("of_a_stranger", held.slice(&stranger)),
        ("whole", ACME.policy.bytes().to_vec()),
        ("newer", unsigned(&bundle(&ACME.bundle_of(POLICY, 5)).slice(&Subject::from(&ACME.db)))),
    ]
}

fn seals() -> Vec<Seed> {
    let [one, other] = &ACME.operators;
    let honest = Seal::sign(&honest_statement(), &[one, other]).unwrap();
    let half = Seal::sign(&honest_statement(), &[one]).unwrap();
    vec![("signed", honest.encode()), ("by_one", half.encode())]
}

fn trust_documents() -> Vec<Seed> {
    let [one, other] = &ACME.operators;
    let at = |version| {
        let document = TrustDocument { version: Epoch(version), ..ACME.trust.document().clone() };
        payload(&document.sign(&[one, other]))
    };
    let sealed = ["env", "idp.group"].map(|key| LabelKey::parse(key).unwrap());
    let sealed = TrustDocument { version: Epoch(3), sealed: sealed.into(), ..ACME.trust.document().clone() };
    vec![
        ("signed", ACME.trust.bytes().to_vec()),
        ("payload", payload(ACME.trust.bytes())),
        ("payload_older", at(1)),
        ("payload_newer", at(3)),
        ("payload_sealed", payload(&sealed.sign(&[one, other]))),
    ]
}

fn lists() -> Vec<Seed> {
    vec![
        ("by_issuer", ACME.revocations.bytes().to_vec()),
        ("by_operator", ACME.operator_revocations.clone()),
        ("payload", enveloped(ACME.revocations.bytes())),
        ("payload_newer", enveloped(ACME.revocations_of_web().bytes())),
    ]
}

fn to_node() -> Vec<(&'static str, ToNode)> {
    let (challenge, key) = challenge();
    let refused = ToNode::Refused { what: "renew".to_owned(), why: "the node was removed".to_owned() };
    let (protocol, observed, off) = (PROTOCOL_VERSION, Endpoint(WEB), Offloads::NONE.with(Offload::UdpGso));
    let mut messages = vec![
        (
            "welcome",
            ToNode::Welcome { protocol, wall: WALL, observed, offloads_off: off, session_until: Some(WALL) },
        ),
        ("offloads", ToNode::Offloads { off }),
        ("trust", ToNode::Trust { document: vec![1; 40] }),
        ("policy", ToNode::Policy { slice: vec![2; 40] }),
        ("revocations", ToNode::Revocations { list: vec![3; 40] }),
        ("challenge", ToNode::RenewChallenge { challenge, key: ChallengeKey(*key.public().as_bytes()) }),
        ("certificate", ToNode::Certificate { chain: ACME.web.chain().clone(), session_until: Some(WALL) }),
        ("refused", refused),
        ("want_flows", ToNode::WantFlows { ask: 7 }),
    ];
    let [snapshot, delta, _] = map_updates();
    messages.extend([("snapshot", ToNode::Map(snapshot)), ("delta", ToNode::Map(delta))]);
    messages
}

fn to_coordinator() -> Vec<(&'static str, ToCoordinator)> {
    let endpoints = vec![Endpoint(WEB), Endpoint("[2001:db8::1]:51820".parse().unwrap())];
    let hello = ToCoordinator::Hello {
        protocol: PROTOCOL_VERSION,
        trust_version: Epoch(2),
        generation: Generation(4),
        epoch: Epoch(7),
        wireguard_port: 51820,
        endpoints: endpoints.clone(),
        software: "bulkhead 0.1.0".to_owned(),
    };
    let acknowledge = ToCoordinator::Acknowledge {
        trust_version: Epoch(2),
        generation: Generation(4),
        epoch: Epoch(7),
        map: MapSequence(9),
        receipt: receipt(),
    };
    let flow = |outbound, service: &str| FlowReport {
        peer: NodeName::parse("web").unwrap(),
        outbound,
        service: Service::parse(service).unwrap(),
    };
    let flows = vec![flow(false, "tcp/5432"), flow(true, "icmp")];
    vec![
        ("hello", hello),
        ("endpoints", ToCoordinator::Endpoints { wireguard_port: 51820, endpoints }),
        ("acknowledge", acknowledge),
        ("want_snapshot", ToCoordinator::WantSnapshot),
        ("renew", ToCoordinator::RenewFinish { request: certificate_request() }),
        ("refused", ToCoordinator::Refused { what: "policy".to_owned(), why: "it expired".to_owned() }),
        ("leave", ToCoordinator::Leave),
        ("flows", ToCoordinator::Flows { ask: 7, flows, truncated: false }),
    ]
}

/// Two peers; one of them moved; the other gone.
fn map_updates() -> [MapUpdate; 3] {
    let peer = |name: &str, chain: &Chain, endpoint| MapPeer {
        name: NodeName::parse(name).unwrap(),
        chain: chain.clone(),
        endpoints: vec![Endpoint(endpoint)],
    };
    // Certificates of a few bytes: what is in them is another target's business.
    let chain = Chain::new(vec![vec![0x30, 1], vec![0x30, 2]]).unwrap();
    let peers = vec![peer("web", &chain, WEB), peer("db", &chain, DB)];
    let first = PeerMap::default().apply(MapUpdate::Snapshot { sequence: MapSequence(1), peers }).unwrap();
    let mut second = first.clone();
    second.sequence = MapSequence(2);
    second.peers.insert(NodeName::parse("web").unwrap(), peer("web", &chain, DB).into());
    let mut third = second.clone();
    third.sequence = MapSequence(3);
    third.peers.remove("db");
    [first.snapshot(), first.diff(&second), second.diff(&third)]
}

fn tokens() -> Vec<Seed> {
    let token = |kind, coordinators: &[&str]| {
        let coordinators = coordinators.iter().map(|address| (*address).to_owned()).collect();
        let token = Token { kind, trust: ACME.trust.hash(), coordinators, secret: Zeroizing::new([9; 32]) };
        token.encode().as_bytes().to_vec()
    };
    let join = token(TokenKind::Join, &["bulkhead.acme.example:8443", "192.0.2.1:8443"]);
    let inside = BASE64URL_NOPAD.decode(join.strip_prefix(b"bulkhead1.").unwrap()).unwrap();
    vec![("join", join), ("admin", token(TokenKind::Admin, &["[2001:db8::1]:8443"])), ("inside", inside)]
}

fn claims() -> Vec<Seed> {
    texts(&[
        (
            "person",
            r#"{"iss":"https://idp.example","sub":"u-123","aud":"bulkhead","exp":2,"iat":1,"nonce":"n","name":"Ada","groups":["engineering","netops"],"amr":["pwd","mfa"]}"#,
        ),
        (
            "kubernetes",
            r#"{"iss":"https://idp.example","sub":"system:serviceaccount:shop:web","aud":["bulkhead"],"kubernetes.io":{"namespace":"shop","serviceaccount":{"name":"web","uid":"1-2"}},"nbf":1}"#,
        ),
        (
            "github",
            r#"{"iss":"https://idp.example","sub":"repo:acme/app:ref:refs/heads/main","repository":"acme/app","ref_protected":"true","run_attempt":3}"#,
        ),
        (
            "overage",
            r#"{"iss":"https://idp.example","sub":"u","_claim_names":{"groups":"src1"},"hasgroups":true}"#,
        ),
        (
            "one_group",
            r#"{"iss":"https://idp.example","sub":"u","groups":"all","preferred_username":"ada","email":"ada@acme.example"}"#,
        ),
    ])
}

fn api_bodies() -> Vec<Seed> {
    texts(&[
        ("begin", r#"{"protocol":1}"#),
        ("challenge", r#"{"enrolment":"e1","challenge":"AQID","challenge_key":"BAUG"}"#),
        ("finish", r#"{"enrolment":"e1","request":"AQID","secret":"CQkJ","name":"web"}"#),
        ("finished", r#"{"name":"web","chain":"AQID","control":["bulkhead.acme.example:8443"]}"#),
        ("error", r#"{"code":"bad_token","message":"no such token","help":"make another one"}"#),
        ("create_token", r#"{"labels":{"env":"prod"},"uses":2,"ttl_secs":3600,"name":null}"#),
        ("policy_text", r#"{"sources":{"a.toml":"version = 1\n"},"base":4,"message":"first"}"#),
        ("can", r#"{"from":"web","to":"db","service":"tcp/5432"}"#),
        ("rollback", r#"{"generation":3}"#),
        (
            "signed_policy",
            r#"{"schema":"bulkhead.signed-policy/1","sources":{"a.toml":"version = 1\n"},"bundle":"AQID","fallback":"BAUG"}"#,
        ),
        ("staged", r#"{"sources":{},"confirm_within":300,"overrides":{"failing_tests":true}}"#),
        ("trust_apply", r#"{"document":"AQID","overrides":{"policy":true}}"#),
        ("set_seal", r#"{"seal":"AQID"}"#),
        ("switch_offloads", r#"{"off":["udp-gso","tun-gro"],"on":["udp-gro"]}"#),
        ("offloads_off", r#"{"configured":[],"everywhere":["tun-tso"],"nodes":{"web":["udp-gso"]}}"#),
        ("confirm", r#"{"generation":4,"without":["web"]}"#),
        (
            "flows",
            r#"{"flows":[{"from":"web","to":"db","service":"tcp/5432"}],"silent":["plc"],"truncated":false}"#,
        ),
    ])
}

fn selectors() -> Vec<Seed> {
    let mut seeds = texts(&[
        ("everyone", "*"),
        ("labels", "env=prod, role in (web, db), tier notin (x, y), !site, owner"),
        ("node", "node:web"),
        ("user", "user:https://idp.acme.example#00u1abcd"),
    ]);
    seeds.push(("sent", body(&Selector::parse("env!=prod, role in (web, db), !site").unwrap())));
    seeds
}

fn ports() -> Vec<Seed> {
    let mut seeds = texts(&[
        ("two", "tcp/443, udp/5000-5100, icmp|tcp/1-1024, ip/47"),
        ("any", "any|tcp/*, sctp/7"),
        ("one", "tcp/5432"),
    ]);
    seeds.push(("sent", body(&PortSet::parse("tcp/1-9, tcp/443, udp/53, ip/47, icmp").unwrap())));
    seeds
}

fn policy_texts() -> Vec<Seed> {
    // As a directory of two files, and with a mistake on every line.
    let (names, rules) = POLICY.split_once("[[allow]]").unwrap();
    let two = format!("{names}\n---\nversion = 1\n[[allow]]{rules}");
    let wrong = concat!(
        "version = 1\n[labels.env]\nvalues = [\"Prod\", \"a\", \"a\"]\n",
        "[groups]\na = \"@b\"\nb = \"@a\"\n",
        "[[allow]]\nid = \"r\"\nfrom = \"env=prdo, @c\"\nto = \"*\"\nports = [\"tcp/70000\", \"ssh\"]\n",
        "until = 2026-01-01T00:00:00Z\nnot_before = 2027-01-01T00:00:00Z\nbogus = 1\n",
    );
    texts(&[("one_file", POLICY), ("two_files", &two), ("nobody", "version = 1\n"), ("mistakes", wrong)])
}

fn leaves() -> Vec<Seed> {
    let names = ["web", "db", "coordinator"];
    names.into_iter().zip(ACME.chains()).map(|(name, chain)| (name, chain.leaf().to_vec())).collect()
}

fn chains() -> Vec<Seed> {
    let names = ["web", "db", "coordinator"];
    names.into_iter().zip(ACME.chains()).map(|(name, chain)| (name, chain.encode())).collect()
}

/// What strangers and the peer's own key send first, and messages for a session that there is not.
fn datagrams() -> Vec<Seed> {
    let initiation = Attacker::new(web_tunnel(), &db_tunnel()).initiation();
    let stranger = Attacker::new(tunnel_key(99), &db_tunnel()).initiation();
    let mut response = initiation[..92].to_vec();
    response[0] = 2;
    let mut cookie = initiation[..64].to_vec();
    cookie[0] = 3;
    let mut data = initiation[..64].to_vec();
    data[0] = 4;
    vec![
        ("initiation", initiation),
        ("stranger", stranger),
        ("response", response),
        ("cookie", cookie),
        ("data", data),
    ]
}

/// Payloads that a peer may send us: by protocol, and each with what is permitted in it.
fn payloads(port: u16) -> Vec<(&'static str, u8, Vec<u8>)> {
    vec![
        ("tcp", ip::TCP, ip::tcp(40_000, port, ip::SYN)),
        ("udp", ip::UDP, ip::udp(40_000, 5050, b"ask")),
        ("sctp", 132, vec![0x9c, 0x40, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("gre", 47, vec![0; 8]),
    ]
}

fn host_packets() -> Vec<Seed> {
    let (me, peer) = (addresses_of(&ACME.db), addresses_of(&ACME.web));
    let mut seeds = Vec::new();
    for (name, protocol, payload) in payloads(443) {
        seeds.push((name, ip::packet(me[0], peer[0], protocol, &payload)));
    }
    let v6 = |protocol, payload: &[u8]| ip::packet(me[1], peer[1], protocol, payload);
    seeds.push(("tcp_v6", v6(ip::TCP, &ip::tcp(40_000, 443, ip::SYN))));
    // Destination options, then TCP; and a first fragment of it.
    let options = [&[ip::TCP, 0, 1, 4, 0, 0, 0, 0][..], &ip::tcp(40_000, 443, ip::SYN)].concat();
    seeds.push(("options_v6", v6(60, &options)));
    let first = [&[47, 0, 0, 1, 0, 0, 0, 9][..], &[0; 16]].concat();
    seeds.push(("fragment_v6", v6(ip::FRAGMENT, &first)));
    seeds
}

/// A vnet header (flags, kind, length of headers, size, start and offset of the checksum), an MTU and a packet.
fn superpackets() -> Vec<Seed> {
    let (me, peer) = (addresses_of(&ACME.db), addresses_of(&ACME.web));
    let payload: Vec<u8> = (0..300u16).map(|i| (i % 251) as u8).collect();
    let tcp = [ip::tcp(40_000, 443, ip::ACK | 8), payload.clone()].concat();
    let udp = ip::udp(40_000, 5050, &payload);
    let asks = |flags, kind, numbers: [u16; 4], mtu: u16, packet: &[u8]| {
        let numbers = numbers.map(u16::to_ne_bytes).concat();
        [&[flags, kind][..], &numbers, &mtu.to_be_bytes(), packet].concat()
    };
    let packet = |v: usize, protocol, payload: &[u8]| ip::packet(me[v], peer[v], protocol, payload);
    let options = [&[ip::TCP, 0, 1, 4, 0, 0, 0, 0][..], &tcp].concat();
    let mut long = packet(0, ip::TCP, &tcp);
    ip::mend(&mut long);
    vec![
        ("tcp", asks(1, 1, [40, 100, 20, 16], 1420, &packet(0, ip::TCP, &tcp))),
        ("tcp_v6", asks(1, 4, [60, 100, 40, 16], 1420, &packet(1, ip::TCP, &tcp))),
        ("tcp_ecn_shorter_path", asks(1, 0x84, [60, 200, 40, 16], 150, &packet(1, ip::TCP, &tcp))),
        ("tcp_behind_options", asks(1, 4, [68, 100, 48, 16], 1420, &packet(1, 60, &options))),
        ("udp", asks(1, 5, [28, 100, 20, 6], 1420, &packet(0, ip::UDP, &udp))),
        ("udp_v6", asks(1, 5, [48, 100, 40, 6], 1420, &packet(1, ip::UDP, &udp))),
        ("checksum", asks(1, 0, [0, 0, 20, 6], 1420, &packet(0, ip::UDP, &udp))),
        ("whole", asks(0, 0, [0; 4], 1420, &long)),
        ("too_long", asks(0, 0, [0; 4], 150, &long)),
    ]
}

/// Records of `merge`: packets of one flow, given right checksums, and one that does not belong.
fn trains() -> Vec<Seed> {
    let (me, peer) = (addresses_of(&ACME.db), addresses_of(&ACME.web));
    let payload = [0x5a; 40];
    let record = |packet: &[u8]| [&(packet.len() as u16 | 0x8000).to_be_bytes(), packet].concat();
    let train = |v: usize, protocol: u8| -> Vec<u8> {
        let segment = |i: u8| {
            let mut message = if protocol == ip::TCP {
                [&ip::tcp(443, 40_000, ip::ACK)[..], &payload].concat()
            } else {
                ip::udp(443, 40_000, &payload)
            };
            if protocol == ip::TCP {
                message[7] += i * payload.len() as u8;
            }
            let mut packet = ip::packet(peer[v], me[v], protocol, &message);
            if v == 0 {
                packet[5] += i;
            }
            record(&packet)
        };
        let stranger = record(&ip::packet(peer[v], me[v], ip::TCP, &ip::tcp(443, 40_001, ip::ACK)));
        [segment(0), segment(1), segment(2), stranger, segment(3), segment(4)].concat()
    };
    vec![
        ("tcp", train(0, ip::TCP)),
        ("tcp_v6", train(1, ip::TCP)),
        ("udp", train(0, ip::UDP)),
        ("udp_v6", train(1, ip::UDP)),
    ]
}

/// Records of `packet`: a peer's opening packets, a reply to our host, an error about it, and fragments.
fn peer_packets() -> Vec<Seed> {
    let (me, peer) = (addresses_of(&ACME.db), addresses_of(&ACME.web));
    let record = |ours: bool, packet: &[u8]| {
        let length = packet.len() as u16 | if ours { 0x8000 } else { 0 };
        [&length.to_be_bytes(), packet].concat()
    };
    let from_peer =
        |v, protocol, payload: &[u8]| record(false, &ip::packet(peer[v], me[v], protocol, payload));
    let mut opening = Vec::new();
    for (_, protocol, payload) in payloads(5432) {
        opening.extend(from_peer(0, protocol, &payload));
        opening.extend(from_peer(1, protocol, &payload));
    }
    opening.extend(from_peer(0, 1, &[8, 0, 0, 0, 0, 9, 0, 1]));
    opening.extend(from_peer(1, 58, &[128, 0, 0, 0, 0, 9, 0, 1]));

    let mut replies = Vec::new();
    for v in [0, 1] {
        let ours = ip::packet(me[v], peer[v], ip::TCP, &ip::tcp(40_000, 443, ip::SYN));
        replies.extend(record(true, &ours));
        replies.extend(from_peer(v, ip::TCP, &ip::tcp(443, 40_000, ip::SYN | ip::ACK)));
        let (protocol, error) =
            if v == 0 { (1, [3, 1, 0, 0, 0, 0, 0, 0]) } else { (58, [1, 1, 0, 0, 0, 0, 0, 0]) };
        replies.extend(from_peer(v, protocol, &[&error[..], &ours].concat()));
    }

    let mut fragments = Vec::new();
    let ([std::net::IpAddr::V4(from), _], [std::net::IpAddr::V4(to), _]) = (peer, me) else {
        panic!("the first address of a node is its IPv4 address");
    };
    for (flags, payload) in [(0x2000, ip::udp(40_000, 5050, &[0; 8])), (0x2002, vec![1; 8]), (3, vec![2; 5])]
    {
        fragments.extend(record(false, &ip::v4(from, to, ip::UDP, flags, &payload)));
    }
    let mut overlap = Vec::new();
    for (flags, payload) in
        [(0x2000, ip::udp(40_000, 5050, &[0; 16])), (0x2002, vec![1; 8]), (0x2003, vec![2; 8])]
    {
        overlap.extend(record(false, &ip::v4(from, to, ip::UDP, flags, &payload)));
    }
    for (position, payload) in [(1_u8, ip::udp(40_000, 5050, &[0; 8])), (16, vec![3; 8])] {
        let header = [ip::UDP, 0, 0, position, 0, 0, 0, 9];
        fragments.extend(from_peer(1, ip::FRAGMENT, &[&header[..], &payload].concat()));
    }
    vec![("opening", opening), ("replies", replies), ("fragments", fragments), ("overlap", overlap)]
}

/// Steps of `conversation`: a handshake and a flow; the same with losses and repeats; and changes of policy.
fn conversations() -> Vec<Seed> {
    let send = |from: u8, kind: u8| [0, kind << 2 | from];
    let arrive = |to: u8| [2, to];
    let handshake = [send(0, 0), arrive(1), arrive(0), arrive(1), arrive(1), arrive(1)];
    let answer =
        [send(1, 1), arrive(0), send(0, 2), arrive(1), send(0, 7), arrive(1), send(0, 10), arrive(1)];
    let trouble = [send(0, 7), [5, 1], arrive(1), [6, 0b10011], arrive(1), send(0, 7), [4, 1], [7, 0b0100]];
    let change =
        [[7, 0b0000_0111], send(0, 0), arrive(1), send(0, 10), arrive(1), [7, 0b0010_0011], send(1, 5)];
    let script = |parts: &[&[[u8; 2]]]| parts.concat().concat();
    vec![
        ("flow", script(&[&handshake, &answer])),
        ("trouble", script(&[&handshake, &trouble, &answer])),
        ("change", script(&[&handshake, &answer, &change, &answer])),
    ]
}
