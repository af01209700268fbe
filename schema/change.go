package schema

import (
	"time"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
)

// ChangeKind says what a Change does. The numbers are part of the encoding.
type ChangeKind uint8

// The kinds of changes.
const (
	PutKeyspaceChange   ChangeKind = 1 // create a keyspace, or replace its own properties
	DropKeyspaceChange  ChangeKind = 2 // with all it holds
	PutTableChange      ChangeKind = 3 // create or replace a table
	DropTableChange     ChangeKind = 4
	PutTypeChange       ChangeKind = 5 // create or replace a user type; the tables and types that use it follow
	DropTypeChange      ChangeKind = 6
	PutGenerationChange ChangeKind = 7 // truncate a table: what it stores begins anew in another generation
)

// Change is one step from a catalog to the next: a validated definition or the removal of one. It is immutable and
// self-contained; Append and DecodeChange carry it through the log. DDL makes changes, Apply takes them.
type Change struct {
	Kind       ChangeKind
	Keyspace   string
	Name       string     // of the table or type; "" for keyspaces
	Generation Generation // PutGenerationChange only

	durableWrites bool        // PutKeyspaceChange
	replication   Map         // PutKeyspaceChange
	table         *Table      // PutTableChange; its user types count by name only, Apply binds them
	typ           *types.Type // PutTypeChange; likewise
}

// EventChange is the first part of a schema event, as the native protocol names it.
type EventChange string

// What happened.
const (
	Created EventChange = "CREATED"
	Updated EventChange = "UPDATED"
	Dropped EventChange = "DROPPED"
)

// EventTarget is the second part of a schema event, as the native protocol names it.
type EventTarget string

// To what it happened.
const (
	TargetKeyspace EventTarget = "KEYSPACE"
	TargetTable    EventTarget = "TABLE"
	TargetType     EventTarget = "TYPE"
)

// Event is what clients are told of a schema change. The zero value says that nothing is to be told: the statement
// changed nothing, or nothing that a client caches.
type Event struct {
	Change   EventChange
	Target   EventTarget
	Keyspace string
	Name     string // "" for TargetKeyspace
}

// None reports whether there is nothing to tell.
func (e Event) None() bool { return e.Change == "" }

// Plan is what a DDL statement comes to.
type Plan struct {
	Changes  []Change // to be applied together; empty when the statement changes nothing
	Event    Event    // for the client that asked, whatever Diff says for the others
	Warnings []string
}

// Env is what DDL needs of the world besides the catalog.
type Env struct {
	// NewID returns a new table id, unique in the cluster and for ever.
	NewID func() ID
	// Now tells the time that is recorded, for instance of a drop.
	Now func() time.Time
	// KnownDCs are the data centers that NetworkTopologyStrategy may name; nil allows any name.
	KnownDCs []string
	// Ring is the cluster's, for the warning about a replication factor above the number of nodes. nil: no warnings.
	Ring *ring.Ring
	// DefaultRF is the replication factor of keyspaces that do not name one. 0 means 1.
	DefaultRF int
}
