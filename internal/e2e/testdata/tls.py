"""Connects with the stock driver over TLS with a client certificate: tls.py HOSTS CA CERT KEY"""
import ssl
import sys

from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster

hosts, ca, cert, key = sys.argv[1:5]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(ca)
context.load_cert_chain(cert, key)
context.check_hostname = False
cluster = Cluster(hosts.split(","), ssl_context=context, protocol_version=5)
session = cluster.connect()
session.default_consistency_level = ConsistencyLevel.ALL
session.execute("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
session.execute("CREATE TABLE k.t (a int PRIMARY KEY, b text)")
insert = session.prepare("INSERT INTO k.t (a, b) VALUES (?, ?)")
for i in range(100):
    session.execute(insert, (i, "x" * i))
assert sorted(r.a for r in session.execute("SELECT a FROM k.t")) == list(range(100))
assert len(cluster.metadata.all_hosts()) == 3
cluster.shutdown()
print("tls ok", flush=True)
