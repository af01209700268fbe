"""Prints what the driver's export_as_string makes of a table: export.py HOST KEYSPACE TABLE [register]

With register the table option tombstone_gc, which the driver does not know, is exported too (docs/OPERATIONS.md, "Tombstones").
"""
import sys

from cassandra.cluster import Cluster
from cassandra.metadata import RegisteredTableExtension

if "register" in sys.argv:
    class TombstoneGC(RegisteredTableExtension):
        name = "tombstone_gc"

        @classmethod
        def after_table_cql(cls, table, key, blob):
            mode, _, delay = bytes(blob).decode().partition(":")
            options = {"mode": mode, **({"propagation_delay_in_seconds": delay} if delay else {})}
            return "ALTER TABLE %s.%s WITH tombstone_gc = %s;" % (table.keyspace_name, table.name, options)

host, keyspace, table = sys.argv[1:4]
cluster = Cluster([host])
cluster.connect()
print(cluster.metadata.keyspaces[keyspace].tables[table].export_as_string())
cluster.shutdown()
