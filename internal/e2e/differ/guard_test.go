package differ

import "testing"

// TestNothingOfOthersIsTouched: what is not about the tool's own keyspaces never reaches a shared server.
func TestNothingOfOthersIsTouched(t *testing.T) {
	for statement, want := range map[string]bool{
		"SELECT * FROM system.local": true, "USE system": true, "DESCRIBE KEYSPACE system": true, "INSERT INTO t (k) VALUES (1)": true,
		"CREATE KEYSPACE diff_x WITH replication = {}": true, "DROP KEYSPACE IF EXISTS diff_x": true, "DROP KEYSPACE nosuch": true,
		"INSERT INTO t (k, v) VALUES (1, 'system.local')": true, "CREATE TABLE IF NOT EXISTS t (k int PRIMARY KEY)": true,
		"TRUNCATE system.local": false, "truncate  SYSTEM_SCHEMA.tables": false, `INSERT INTO "system".local (key) VALUES ('a')`: false,
		"UPDATE system.local SET rack = 'x' WHERE key = 'local'": false, "DELETE FROM system_schema.keyspaces WHERE keyspace_name = 'a'": false,
		"CREATE KEYSPACE system_x WITH replication = {}": false, "DROP KEYSPACE bench": false, "ALTER KEYSPACE IF EXISTS other WITH durable_writes = true": false,
		"CREATE ROLE r": false, "GRANT SELECT ON t TO x": false, "LIST ROLES": false, "DROP USER u": false,
		"BEGIN BATCH INSERT INTO system.local (key) VALUES ('a') APPLY BATCH": false, " -- x\nTRUNCATE system.peers": false,
	} {
		if got := Harmless(statement); got != want {
			t.Errorf("%s: %t", statement, got)
		}
	}
}
