#!/usr/bin/env python3
"""Writes murmur3.json and placement.json beside this file from the Python driver's own token and replica code.

Needs: pip install cassandra-driver (made with 3.30.1). Run it again only to widen the cases; the output is committed.
"""
import json
import os
import random

from cassandra.metadata import (
    Murmur3Token,
    NetworkTopologyStrategy,
    SimpleStrategy,
    TokenMap,
)

HERE = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(20240229)


class Host:
    def __init__(self, number, dc, rack):
        self.number, self.datacenter, self.rack = number, dc, rack
        self.tokens = []


class Metadata:
    """What TokenMap asks of cluster metadata."""

    def __init__(self):
        self.keyspaces = {}


class Keyspace:
    def __init__(self, strategy):
        self.replication_strategy = strategy


def murmur():
    keys = []
    for length in range(0, 67):
        keys.append(bytes([0xFF] * length))
        keys.append(bytes([0x80] * length))
        keys.append(bytes((0x7F + 37 * i) & 0xFF for i in range(length)))
        keys.append(bytes(rng.randrange(256) for _ in range(length)))
    keys += [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300))) for _ in range(200)]
    keys += [("k%d" % i).encode() for i in range(20)]
    seen, out = set(), []
    for key in keys:
        if key and key not in seen:  # no driver hashes the empty key
            seen.add(key)
            out.append([key.hex(), str(Murmur3Token.hash_fn(key))])
    return out


def random_hosts():
    hosts, used = [], set()
    dcs = ["dc%d" % i for i in range(rng.randint(1, 3))]
    vnodes = rng.choice([1, 1, 2, 4, 8])
    for dc in dcs:
        racks = rng.randint(1, 5)
        for _ in range(rng.randint(1, 7)):
            host = Host(len(hosts), dc, "r%d" % rng.randrange(racks))
            for _ in range(rng.randint(1, vnodes)):
                token = rng.randrange(-(2**63) + 1, 2**63)
                if token not in used:
                    used.add(token)
                    host.tokens.append(token)
            hosts.append(host)
    return dcs, hosts


def random_strategies(dcs, hosts):
    yield {"class": "SimpleStrategy", "replication_factor": str(rng.randint(1, 5))}
    for _ in range(3):
        options = {"class": "NetworkTopologyStrategy"}
        for dc in dcs:
            rf = rng.choice([0, 1, 2, 3, 3, 3, 4, 5])
            if rf:
                options[dc] = str(rf)
        if len(options) > 1:
            yield options


def build(options):
    rest = {k: v for k, v in options.items() if k != "class"}
    if options["class"] == "SimpleStrategy":
        return SimpleStrategy(rest)
    return NetworkTopologyStrategy(rest)


def placement_case():
    dcs, hosts = random_hosts()
    owner = {Murmur3Token(t): h for h in hosts for t in h.tokens}
    ring = sorted(owner)
    case = {
        "nodes": [{"dc": h.datacenter, "rack": h.rack, "tokens": [str(t) for t in h.tokens]} for h in hosts],
        "strategies": [],
    }
    probes = [rng.randrange(-(2**63) + 1, 2**63) for _ in range(4)]
    for token in rng.sample(ring, min(3, len(ring))):
        probes += [token.value, token.value - 1, token.value + 1]
    probes = [p for p in probes if -(2**63) < p < 2**63]
    for options in random_strategies(dcs, hosts):
        strategy = build(options)
        replicas = strategy.make_token_replica_map(owner, ring)
        metadata = Metadata()
        metadata.keyspaces["ks"] = Keyspace(strategy)
        token_map = TokenMap(Murmur3Token, owner, ring, metadata)
        case["strategies"].append({
            "options": options,
            "replicas": [[h.number for h in replicas[t]] for t in ring],
            "probes": [[str(p), [h.number for h in token_map.get_replicas("ks", Murmur3Token(p))]] for p in probes],
        })
    return case


def write(name, values):
    with open(os.path.join(HERE, name), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in values) + "\n]\n")


write("murmur3.json", murmur())
write("placement.json", [placement_case() for _ in range(70)])
