package plan

import (
	"fmt"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Error is a statement that is refused: the protocol code and Cassandra's text.
type Error struct {
	Code protocol.ErrorCode
	Msg  string
	// Function and ArgTypes name the function that failed, with CodeFunctionFailure.
	Function string
	ArgTypes []string
}

// Error returns the text for the client.
func (e *Error) Error() string { return e.Msg }

func invalid(format string, args ...any) *Error {
	return &Error{Code: protocol.CodeInvalid, Msg: fmt.Sprintf(format, args...)}
}

// Env is what a statement is compiled against. It is not kept.
type Env struct {
	Catalog  *schema.Catalog
	Keyspace string // of USE; "" when there is none
	// Partitioner computes tokens. Default: ring.Murmur3.
	Partitioner ring.Partitioner
}

// Kind says what a statement does, and which field of Statement holds it.
type Kind uint8

// The kinds of statements.
const (
	KindSelect   Kind = iota // Select
	KindModify               // Modify: INSERT, UPDATE, DELETE
	KindBatch                // Batch
	KindUse                  // Use
	KindTruncate             // Table
	KindDescribe             // AST
	KindDDL                  // AST
	KindAuth                 // AST: roles, permissions, identities
)

// Bind describes one bind variable: its name ("k", "in(k)", "[limit]", ...) and type, as PREPARE tells them.
type Bind = protocol.Column

// Statement is a compiled statement. It is immutable and safe for concurrent use.
type Statement struct {
	Kind     Kind
	Keyspace string        // of the table; "" for statements about none
	Table    *schema.Table // nil for statements about none
	AST      cql.Statement

	Binds []Bind // one per slot
	// PartitionKeyBinds are the slots that hold the partition key, one per component in their order, for drivers that
	// route by token; nil when not every component is one bind variable.
	PartitionKeyBinds []uint16
	Result            []protocol.Column // nil: the statement returns no rows
	Conditional       bool              // it has conditions (IF): run by a CAS, and the result's columns depend on the outcome
	Warnings          []string          // for the client, with each answer

	Select *Select
	Modify *Modify
	Batch  *Batch
	Use    string
}

// Args are the inputs of one execution. Its slices must not change while what was made from them is in use.
type Args struct {
	Values    []protocol.Value // one per slot, by position
	Now       int64            // seconds since the epoch: decides TTL, one per request
	Millis    int64            // ms since the epoch: current_timestamp() and its kin
	Timestamp int64            // µs since the epoch: of writes without USING TIMESTAMP
	// NewTimeUUID returns version 1 UUIDs, each later than the one before: now() and the keys of list elements.
	NewTimeUUID func() [16]byte
	// NewUUID returns version 4 UUIDs: uuid().
	NewUUID func() [16]byte
	// Read holds the answers to Modify.ReadCommands, in their order, for a statement that ReadsFirst; for a batch those of
	// all its statements that do, one after the other.
	Read []*ReadPage
	// Stamps judges timestamps that a statement says; nil: all are good.
	Stamps StampJudge

	cas *casKeys // the write is decided by a CAS: its timestamp holds for all, and list elements get these keys
}

// StampJudge judges the timestamp, µs since the epoch, that USING TIMESTAMP gives to a write to a table.
type StampJudge interface {
	JudgeStamp(t *schema.Table, ts int64) error
}

// ReadPage is the answer to a read command.
type ReadPage = row.Page

// resolve returns the type that a TypeRef of a cast or type hint means in a keyspace.
func (env *Env) resolve(keyspace string, ref *cql.TypeRef) (*types.Type, error) {
	var unknown error
	ref.UDTNames(func(n cql.QualifiedName) {
		ks := keyspace
		if n.Qualified() {
			ks = n.Keyspace.Name
		}
		if _, ok := env.Catalog.Type(ks, n.Name.Name); !ok && unknown == nil {
			unknown = invalid("Unknown type %s.%s", ks, n.Name.Name)
		}
	})
	if unknown != nil {
		return nil, unknown
	}
	t, err := types.Parse(ref.String(), env.Catalog.Type, keyspace)
	if err != nil {
		return nil, invalid("%s", err.Error())
	}
	return t, nil
}
