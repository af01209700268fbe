package shell

import (
	"slices"
	"strings"
)

// statementWords are the words that statements and commands begin with.
var statementWords = []string{"ALTER", "BEGIN", "CAPTURE", "CLEAR", "CONSISTENCY", "CREATE", "DELETE", "DESCRIBE", "DROP", "EXIT", "EXPAND", "GRANT", "HELP",
	"INSERT", "LIST", "LOGIN", "OUTPUT", "PAGING", "QUIT", "REVOKE", "SELECT", "SERIAL", "SHOW", "SOURCE", "TRACING", "TRUNCATE", "UPDATE", "USE"}

// shellWords returns what may follow in a command of the shell, nil elsewhere.
func shellWords(list []token) []string {
	n := len(list)
	switch strings.ToUpper(list[0].text) {
	case "CONSISTENCY":
		if n == 1 {
			return []string{"ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "SERIAL", "LOCAL_SERIAL", "LOCAL_ONE"}
		}
	case "SERIAL":
		if n == 1 {
			return []string{"CONSISTENCY"}
		}
		return []string{"SERIAL", "LOCAL_SERIAL"}
	case "TRACING", "EXPAND", "PAGING":
		return []string{"ON", "OFF"}
	case "OUTPUT":
		return []string{"TABLE", "CSV", "JSON"}
	case "SHOW":
		return []string{"VERSION", "HOST", "SESSION"}
	case "CAPTURE":
		return []string{"OFF"}
	case "HELP":
		var names []string
		for _, c := range commands() {
			names = append(names, c.names[0])
		}
		return names
	}
	return nil
}

// optionWords returns the keywords that may stand in the place of a name.
func optionWords(list []token) []string {
	switch last := list[len(list)-1]; {
	case last.is("DESCRIBE") || last.is("DESC"):
		return []string{"AGGREGATE", "AGGREGATES", "CLUSTER", "FULL", "FUNCTION", "FUNCTIONS", "INDEX", "KEYSPACE", "KEYSPACES", "MATERIALIZED",
			"SCHEMA", "TABLE", "TABLES", "TYPE", "TYPES"}
	case list[0].is("DROP"):
		return []string{"IF"}
	case last.is("TRUNCATE"):
		return []string{"TABLE"}
	case last.is("ON") && !list[0].is("CREATE"):
		return []string{"ALL", "KEYSPACE", "TABLE", "ROLE"}
	}
	return nil
}

// followers returns the keywords that follow the last one where only few can, nil elsewhere.
func followers(list []token) []string {
	first, last := strings.ToUpper(list[0].text), strings.ToUpper(list[len(list)-1].text)
	switch last {
	case "CREATE":
		return []string{"AGGREGATE", "CUSTOM", "FUNCTION", "INDEX", "KEYSPACE", "MATERIALIZED", "OR", "ROLE", "TABLE", "TRIGGER", "TYPE", "USER"}
	case "ALTER", "DROP":
		if len(list) > 1 {
			return nil // ALTER TABLE ... DROP column
		}
		return []string{"AGGREGATE", "FUNCTION", "INDEX", "KEYSPACE", "MATERIALIZED", "ROLE", "TABLE", "TRIGGER", "TYPE", "USER"}
	case "MATERIALIZED":
		return []string{"VIEW"}
	case "CUSTOM":
		return []string{"INDEX"}
	case "KEYSPACE", "TABLE", "INDEX", "TYPE", "VIEW", "ROLE", "FUNCTION", "AGGREGATE":
		if first == "CREATE" || first == "DROP" {
			return []string{"IF"}
		}
	case "IF":
		switch first {
		case "CREATE", "INSERT":
			return []string{"NOT"}
		case "DROP":
			return []string{"EXISTS"}
		}
	case "NOT":
		return []string{"EXISTS"}
	case "INSERT":
		return []string{"INTO"}
	case "BEGIN":
		return []string{"BATCH", "COUNTER", "UNLOGGED"}
	case "UNLOGGED", "COUNTER", "APPLY":
		if first == "BEGIN" {
			return []string{"BATCH"}
		}
	case "ORDER", "GROUP":
		return []string{"BY"}
	case "ALLOW":
		return []string{"FILTERING"}
	case "PRIMARY":
		return []string{"KEY"}
	case "PARTITION":
		return []string{"LIMIT"}
	case "PER":
		return []string{"PARTITION"}
	case "LIST":
		return []string{"ALL", "ROLES", "SUPERUSERS", "USERS"}
	}
	return nil
}

// clauseWords returns the keywords that may come somewhere in a statement of this kind and are not there yet.
func clauseWords(list []token) []string {
	var words []string
	switch strings.ToUpper(list[0].text) {
	case "SELECT":
		words = []string{"FROM", "DISTINCT", "JSON", "WHERE", "AND", "IN", "CONTAINS", "ORDER", "GROUP", "LIMIT", "PER", "ALLOW", "TOKEN", "TTL", "WRITETIME", "AS", "COUNT", "ASC", "DESC"}
		if !slices.ContainsFunc(list, func(t token) bool { return t.is("FROM") }) {
			words = []string{"FROM", "DISTINCT", "JSON", "TOKEN", "TTL", "WRITETIME", "COUNT", "CAST", "AS"}
		}
	case "INSERT":
		words = []string{"VALUES", "JSON", "IF", "USING", "TTL", "TIMESTAMP", "AND", "DEFAULT", "UNSET", "NULL"}
	case "UPDATE":
		words = []string{"SET", "WHERE", "AND", "IN", "IF", "USING", "TTL", "TIMESTAMP", "EXISTS"}
	case "DELETE":
		words = []string{"FROM", "WHERE", "AND", "IN", "IF", "USING", "TIMESTAMP", "EXISTS"}
	case "BEGIN":
		words = []string{"INSERT", "UPDATE", "DELETE", "APPLY", "INTO", "VALUES", "SET", "WHERE", "AND", "FROM", "USING", "TIMESTAMP", "TTL", "IF"}
		return words
	case "CREATE":
		words = []string{"WITH", "AND", "PRIMARY", "CLUSTERING", "ORDER", "REPLICATION", "USING", "OPTIONS", "STATIC", "FROZEN", "AS", "SELECT", "FROM", "WHERE", "IS",
			"ASCII", "BIGINT", "BLOB", "BOOLEAN", "COUNTER", "DATE", "DECIMAL", "DOUBLE", "DURATION", "FLOAT", "INET", "INT", "LIST", "MAP", "SET", "SMALLINT", "TEXT",
			"TIME", "TIMESTAMP", "TIMEUUID", "TINYINT", "TUPLE", "UUID", "VARINT", "VECTOR", "ON"}
		return words
	case "ALTER":
		words = []string{"ADD", "DROP", "RENAME", "TO", "WITH", "AND", "REPLICATION", "COMPACTION", "COMPRESSION", "COMMENT"}
	case "GRANT", "REVOKE":
		words = []string{"ALL", "ALTER", "AUTHORIZE", "CREATE", "DESCRIBE", "DROP", "EXECUTE", "MODIFY", "SELECT", "ON", "TO", "FROM", "PERMISSIONS"}
	case "DESCRIBE", "DESC":
		words = []string{"SCHEMA", "VIEW"}
	case "LIST":
		words = []string{"PERMISSIONS", "OF", "ON", "NORECURSIVE"}
	}
	return slices.DeleteFunc(words, func(w string) bool {
		return w != "AND" && slices.ContainsFunc(list[1:], func(t token) bool { return t.is(w) })
	})
}
