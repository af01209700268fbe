package differ

import (
	"regexp"
	"strings"
)

// notAsked is the answer of a server that a statement was kept from.
const notAsked = "not asked: it is not about keyspaces of this tool\n"

var (
	quotedText    = regexp.MustCompile(`'(?:[^']|'')*'|\$\$.*?\$\$`)
	readingWord   = regexp.MustCompile(`(?i)^\s*(select|use|describe|desc)\b`)
	forbiddenWord = regexp.MustCompile(`(?i)\b(system\w*|role|roles|user|users|grant|revoke|identity|permission|permissions)\b`)
	keyspaceName  = regexp.MustCompile(`(?i)\bkeyspace\s+(?:if\s+(?:not\s+)?exists\s+)?("?)(\w*)`)
)

// Harmless reports whether a statement may be sent to a server that others use too: it reads, or it changes keyspaces of
// this tool only. A server without authentication lets anybody truncate its system tables, so nothing that looks like a
// change of them, of roles, or of a keyspace with another name is ever sent. Names of keyspaces in front of tables are
// bounded by what the corpus holds: they are diff_..., or do not exist.
func Harmless(statement string) bool {
	text := quotedText.ReplaceAllString(statement, "''")
	if readingWord.MatchString(text) {
		return true
	}
	if forbiddenWord.MatchString(text) {
		return false
	}
	if m := keyspaceName.FindStringSubmatch(text); m != nil {
		name := strings.ToLower(m[2])
		return name == "" || name == "nosuch" || strings.HasPrefix(name, "diff")
	}
	return true
}
