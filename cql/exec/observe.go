package exec

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql"
	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/internal/latency"
	"github.com/helenusdb/helenus/schema"
)

// Way is how a request went through the coordinator, as nodetool proxyhistograms tells them apart.
type Way uint8

// The ways.
const (
	WayRead     Way = iota // of one or several partitions
	WayWrite               // batches and counters too
	WayRange               // a SELECT that scans
	WayCASRead             // at SERIAL or LOCAL_SERIAL
	WayCASWrite            // with conditions
	Ways        = 5
)

// TableLatency is how long requests for one table took that this node coordinated, failed ones included, from the end of their
// parsing to the answer. A batch counts for the first of its tables.
type TableLatency struct{ Read, Write latency.Histogram }

// shardsMax is in how many places the histograms of the node are written to: neighbouring connections write to different ones.
const shardsMax = 4

// observer times requests.
type observer struct {
	shards  [shardsMax][Ways]latency.Histogram
	next    atomic.Uint32 // of the next session
	tables  atomic.Pointer[map[schema.ID]*TableLatency]
	mu      sync.Mutex // orders replacements of tables; held for the copying of the map
	slow    atomic.Int64
	lost    atomic.Int64 // slow ones that were not logged since the last that was
	refill  atomic.Int64 // when, in ns since began, the log has room again
	began   time.Time
	limit   time.Duration // what takes longer is slow; 0: nothing is
	values  bool
	catalog func() *schema.Catalog
	logger  *slog.Logger
}

const (
	slowPerSecond = 10      // lines of the slow-query log, in the long run and at once
	slowTextMax   = 1 << 10 // bytes of a statement in it
	slowValueMax  = 128     // bytes of a value, if values are shown
	slowValues    = 16      // values, if they are shown
)

func (b *observer) init(o *Options) {
	b.began, b.limit, b.values, b.logger = time.Now(), o.SlowThreshold, o.SlowValues, o.Logger
	b.catalog = func() *schema.Catalog { return o.Schema.Current().Catalog }
	b.tables.Store(&map[schema.ID]*TableLatency{})
}

// of returns the latencies of a table. There are no more than tables: what was dropped is forgotten when another one is added.
func (b *observer) of(t *schema.Table) *TableLatency {
	if l := (*b.tables.Load())[t.ID]; l != nil {
		return l
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, catalog := *b.tables.Load(), b.catalog()
	if l := old[t.ID]; l != nil {
		return l
	}
	l, next := new(TableLatency), make(map[schema.ID]*TableLatency, len(old)+1)
	for id, o := range old {
		if _, ok := catalog.TableByID(id); ok {
			next[id] = o
		}
	}
	next[t.ID] = l
	b.tables.Store(&next)
	return l
}

// way returns how the op went; false for what is not timed.
func (o *op) way() (Way, bool) {
	if o.compiled == nil || o.compiled.Statement == nil {
		return 0, false
	}
	switch o.compiled.Kind {
	case plan.KindSelect:
		switch {
		case o.compiled.Table.Virtual:
			return 0, false
		case o.params.Consistency.IsSerial():
			return WayCASRead, true
		case o.scanned:
			return WayRange, true
		}
		return WayRead, true
	case plan.KindModify, plan.KindBatch:
		if o.compiled.Conditional {
			return WayCASWrite, true
		}
		return WayWrite, true
	}
	return 0, false
}

// observe takes the time of an op that is about to be answered.
func (o *op) observe() {
	if o.began.IsZero() {
		return
	}
	took := time.Since(o.began)
	o.began = time.Time{}
	way, ok := o.way()
	if !ok {
		return
	}
	b := &o.x.observed
	b.shards[o.s.shard][way].Observe(took)
	if len(o.compiled.tables) > 0 {
		l := b.of(o.compiled.tables[0])
		if way == WayWrite || way == WayCASWrite {
			l.Write.Observe(took)
		} else {
			l.Read.Observe(took)
		}
	}
	if b.limit > 0 && took >= b.limit {
		b.slow.Add(1)
		b.log(o, took)
	}
}

// admit takes a place in the log: a bucket of slowPerSecond that is refilled evenly, kept as the time when it is full again.
func (b *observer) admit(now time.Time) bool {
	const each = int64(time.Second / slowPerSecond)
	at := int64(now.Sub(b.began))
	for {
		full := b.refill.Load()
		next := max(full, at) + each
		if next > at+int64(time.Second) {
			return false
		}
		if b.refill.CompareAndSwap(full, next) {
			return true
		}
	}
}

// log writes a line about a slow op, unless there were too many; then the next line says how many.
func (b *observer) log(o *op, took time.Duration) {
	if !b.admit(time.Now()) {
		b.lost.Add(1)
		return
	}
	attrs := []any{"took", took, "consistency", o.params.Consistency.String(), "statement", o.slowText(), "client", o.s.info.Remote.String()}
	if len(o.compiled.tables) > 0 {
		attrs = append(attrs, "keyspace", o.compiled.tables[0].Keyspace, "table", o.compiled.tables[0].Name)
	}
	if b.values {
		if v := o.slowBound(); len(v) > 0 {
			attrs = append(attrs, "values", v)
		}
	}
	if lost := b.lost.Swap(0); lost > 0 {
		attrs = append(attrs, "not_logged", lost)
	}
	b.logger.Warn("slow query", attrs...)
}

// slowText is the statement, of a BATCH its first, with ? in the place of constants unless values are shown.
func (o *op) slowText() string {
	text := o.text()
	if text == "" && o.params == &o.batch.QueryParams && len(o.batch.Statements) > 0 {
		text = string(o.batch.Statements[0].Query)
		if s := &o.batch.Statements[0]; s.Prepared {
			if p := o.x.lookup(s.ID); p != nil {
				text = p.text
			}
		}
	}
	if !o.x.observed.values {
		return cql.Redact(text, slowTextMax)
	}
	if len(text) > slowTextMax {
		return text[:slowTextMax] + "..."
	}
	return text
}

// slowBound shows the bound values; those of a BATCH are not shown.
func (o *op) slowBound() []string {
	var out []string
	if o.params == &o.batch.QueryParams {
		return nil
	}
	for i := range min(len(o.compiled.Binds), len(o.args.Values), slowValues) {
		out = append(out, o.compiled.Binds[i].Name+"="+o.boundText(i, slowValueMax))
	}
	return out
}

// Latencies returns how long the requests took that went that way, since the executor was made.
func (x *Executor) Latencies(w Way) (s latency.Snapshot) {
	for i := range x.observed.shards {
		s.Add(&x.observed.shards[i][w])
	}
	return s
}

// TableLatency returns how long requests for a table took; nil when there were none.
func (x *Executor) TableLatency(id schema.ID) *TableLatency { return (*x.observed.tables.Load())[id] }

// SlowQueries returns how many requests took longer than Options.SlowThreshold.
func (x *Executor) SlowQueries() int64 { return x.observed.slow.Load() }
