package cqlident

import "strings"

// QuoteIdent returns name as it has to be written in CQL: unchanged when it is a lower-case identifier that is not
// reserved, otherwise in double quotes with inner quotes doubled. This is Cassandra's ColumnIdentifier.maybeQuote.
func QuoteIdent(name string) string {
	if Plain(name) && !IsReserved(name) {
		return name
	}
	return Quote(name)
}

// Quote returns name in double quotes, inner quotes doubled, whatever it is.
func Quote(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Plain reports whether name matches [a-z][a-z0-9_]*: it survives the case folding of unquoted identifiers.
func Plain(name string) bool {
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := 1; i < len(name); i++ {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// reservedLenMax is the length of the longest reserved word ("columnfamily", "materialized").
const reservedLenMax = 12

// IsReserved reports whether word, in any case, is a reserved word of Cassandra 5.0: it cannot be an identifier
// unless quoted. Source: the reserved keyword list of the CQL reference (appendix A).
func IsReserved(word string) bool {
	if len(word) > reservedLenMax {
		return false
	}
	switch strings.ToLower(word) {
	case "add", "allow", "alter", "and", "apply", "asc", "authorize",
		"batch", "begin", "by",
		"columnfamily", "create",
		"delete", "desc", "describe", "drop",
		"entries", "execute",
		"from", "full",
		"grant",
		"if", "in", "index", "infinity", "insert", "into", "is",
		"keyspace",
		"limit",
		"materialized", "modify",
		"nan", "norecursive", "not", "null",
		"of", "on", "or", "order",
		"primary",
		"rename", "revoke",
		"schema", "select", "set",
		"table", "to", "token", "truncate",
		"unlogged", "update", "use", "using",
		"view",
		"where", "with":
		return true
	}
	return false
}
