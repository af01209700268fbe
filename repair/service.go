package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/internal/planted"
	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/rpc"
	"github.com/helenusdb/helenus/schema"
)

// Tally asks for the tally of a table's items.
type Tally struct {
	Generation schema.Generation
	At         row.Purge
	Tokens     ring.Interval
	Keep       bool      // keep the leaves that had to be computed
	Fresh      bool      // compute all of them, whatever is kept
	Until      time.Time // answer with what there is, at least something, after it
}

// Store is this node's engine as repair sees it.
type Store interface {
	// Read answers a command; what it saw need not be durable.
	Read(cmd *row.Command, page *row.Page) error
	// Tally returns the tally of tokens from the first up to covered, which is the last one unless Until came first.
	Tally(ctx context.Context, q Tally) (t row.Tally, covered ring.Token, err error)
	// TallyParts returns the tallies of as many of the first of parts, ascending intervals, as are best read together, which is soon done; none: the first is asked for by Tally. Of q it takes Generation and At.
	TallyParts(ctx context.Context, q Tally, parts []ring.Interval) ([]row.Tally, error)
	// Apply makes mutations durable before it returns.
	Apply(ctx context.Context, ms []row.Mutation) error
	// Dropped tells which cells of a table do not count because their column was dropped; nil: none.
	Dropped(gen schema.Generation) func(col schema.ColumnID, ts int64) bool
	IsUnknownTable(err error) bool
}

// Cluster is the metadata as repair sees it.
type Cluster interface {
	Epoch() uint64
	Table(gen schema.Generation) (*schema.Table, bool)
	// Owns tells whether this node is a replica of all of tokens, or becoming one.
	Owns(gen schema.Generation, tokens ring.Interval) bool
	// Members returns the nodes that may keep hints and batches for others: those that serve requests, this node among them.
	Members() []ring.HostID
	// Sound tells whether a node is known to have everything that it has acknowledged.
	Sound(id ring.HostID) bool
	// Lost tells whether one of the nodes may have lost something that it had acknowledged since a time, in seconds since the epoch, or shortly before.
	Lost(ids []ring.HostID, since int64) bool
	// Plan returns what a repair led by this node consists of, in ring order: for each interval all tables, or an error that says what of the
	// spec is not possible.
	Plan(s *Spec) ([]Task, error)
}

// Registers is what this node knows of conditional writes.
type Registers interface {
	// FinishRange finishes those that are accepted on this node, of partitions in tokens.
	FinishRange(ctx context.Context, gen schema.Generation, tokens ring.Interval) error
	// OldestIn returns when the oldest was made, in seconds since the epoch, whose rows this node may yet have written to a replica that lacks them; false:
	// there is none.
	OldestIn(gen schema.Generation, tokens ring.Interval) (since int64, some bool, err error)
}

// History keeps what was repaired.
type History interface {
	// Put is durable when it returns; *history.Book is one.
	Put(ctx context.Context, gen schema.Generation, e history.Entry) error
}

// Transport calls other nodes; *rpc.Transport is one.
type Transport interface {
	Call(ctx context.Context, to ring.HostID, class rpc.Class, verb rpc.Verb, body []byte) ([]byte, rpc.Status, error)
}

// Options of New.
type Options struct {
	Self      ring.HostID // required
	Transport Transport   // required
	Store     Store       // required
	Cluster   Cluster     // required
	Registers Registers   // nil: conditional writes are left alone
	// Settle makes this node ready to be compared with by one that fills a range: what was let in here under older metadata is visible, and
	// every conditional write of tokens that is accepted here is finished. It returns the latest ballot promised here, µs since the epoch. nil: nothing has to be done.
	Settle func(ctx context.Context, gen schema.Generation, tokens ring.Interval) (promised int64, err error)
	// Stream fetches tokens of a table from another replica into this node and returns what has come; it is durable, and merged with what is here. nil: nothing is streamed.
	Stream func(ctx context.Context, gen schema.Generation, tokens ring.Interval, from ring.HostID) (records, bytes int64, err error)
	// GCBefore returns the time, in seconds since the epoch, before which this node would purge a table's tombstones at now, wherever in tokens they are;
	// row.NoTimestamp: there are some that it would not purge however old they are. Required.
	GCBefore func(t *schema.Table, tokens ring.Interval, now int64) int64
	History  History // required
	// Waiting returns when the oldest hint or batch was written, in seconds since the epoch, that waits on this node, whoever it is for; false: none waits. Required.
	Waiting func() (since int64, some bool, err error)
	Alive   func(ring.HostID) bool // required

	CallTimeout  time.Duration // of one request; default 30 s
	RangeTimeout time.Duration // of one range of a table; default 1 h
	Tries        int           // of one request; default 4
	Pause        time.Duration // after the first try, doubled after each; default 250 ms

	Now    func() time.Time // what horizons are made of; default time.Now
	Logger *slog.Logger     // default: discard
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.CallTimeout, 30*time.Second)
	set(&o.RangeTimeout, time.Hour)
	set(&o.Pause, 250*time.Millisecond)
	if o.Tries <= 0 {
		o.Tries = 4
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Spec says what to repair. The zero value: all tables of all user keyspaces, all ranges that this node replicates.
type Spec struct {
	Keyspace string          // "": all user keyspaces
	Tables   []string        // empty: all of the keyspace
	Ranges   []ring.Interval // empty: those that this node replicates; else these parts of them, an error if it does not replicate one
	Primary  bool            // only the ranges that this node is the first replica of
	DCs      []string        // only replicas of these data centres, this node's among them; empty: all
	Hosts    []ring.HostID   // only these replicas, this node among them; empty: all
	Rebuild  string          // only this node is given what it lacks, of one replica of each range in this data centre; empty: all replicas are made equal

	Preview  bool // find what differs and count what would be sent, send nothing
	Validate bool // find the intervals that differ and send nothing
	Full     bool // read everything again, whatever leaves are kept

	pause func(context.Context) // called before each step; nil: nothing is
	pull  bool                  // only this node is given what it lacks; unless it is rebuilt, conditional writes are finished and what it lacks whole has been streamed already
}

func (s *Spec) readOnly() bool { return s.Preview || s.Validate }

// Task is one interval of one table with the replicas that it is repaired between, this node the first.
type Task struct {
	Keyspace, Table string
	Generation      schema.Generation
	Tokens          ring.Interval
	Replicas        []ring.HostID
}

// everybody tells whether a task of the spec is between all replicas of its tokens.
func (s *Spec) everybody() bool { return len(s.DCs) == 0 && len(s.Hosts) == 0 && s.Rebuild == "" }

// PeerReport says what was sent to one replica, this node too. All may be read at any time.
type PeerReport struct {
	Rows, Deletions, Bytes atomic.Int64 // rows and static rows; deletions that cover more; bytes of both
	Traffic                atomic.Int64 // bytes of all messages to and from it; 0 for this node
}

// TableReport says what was found in one table. All may be read at any time.
type TableReport struct {
	Keyspace, Table string
	Ranges          atomic.Int64 // that were looked at to the end
	RangesDifferent atomic.Int64
	RangesFailed    atomic.Int64
	RangesVouched   atomic.Int64 // after which tombstones may be purged that are older
	Items           atomic.Int64 // of the replica that has most, summed up over ranges
	Leaves          atomic.Int64 // small intervals in which replicas differed

	mu     sync.Mutex
	peers  map[ring.HostID]*PeerReport
	errors []string
	doubts string
}

const errorsMax = 16 // that a table's report keeps

// peer returns the report about a replica.
func (t *TableReport) peer(id ring.HostID) *PeerReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers == nil {
		t.peers = map[ring.HostID]*PeerReport{}
	}
	if t.peers[id] == nil {
		t.peers[id] = &PeerReport{}
	}
	return t.peers[id]
}

// Peers returns the replicas that the table was compared with, in the order of their ids, this node among them.
func (t *TableReport) Peers() (ids []ring.HostID, reports []*PeerReport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.peers {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ring.HostID) int { return strings.Compare(string(a[:]), string(b[:])) })
	for _, id := range ids {
		reports = append(reports, t.peers[id])
	}
	return ids, reports
}

func (t *TableReport) fail(task *Task, err error) {
	t.RangesFailed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.errors) < errorsMax {
		t.errors = append(t.errors, fmt.Sprintf("tokens %d to %d: %v", task.Tokens.First, task.Tokens.Last, err))
	}
}

// doubt notes why a session cannot vouch for deletions.
func (t *TableReport) doubt(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubts = err.Error()
}

// Doubt returns why the last range that was repaired and not vouched for was not; empty: there is none.
func (t *TableReport) Doubt() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doubts
}

// Errors returns the first errors of ranges that failed.
func (t *TableReport) Errors() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.errors)
}

// Report says what a repair has found and done so far.
type Report struct {
	Tasks  int // ranges × tables
	Done   atomic.Int64
	Tables []*TableReport // in the order of the plan; does not change
}

// Failed returns how many ranges could not be repaired.
func (r *Report) Failed() (n int64) {
	for _, t := range r.Tables {
		n += t.RangesFailed.Load()
	}
	return n
}

// Metrics of repair. All may be read at any time.
type Metrics struct {
	Sessions, SessionsFailed atomic.Int64 // ranges of tables
	Rows, Bytes              atomic.Int64 // sent to replicas, this node too
	Active                   atomic.Int64 // repairs under way that this node leads
	Different                atomic.Int64 // small intervals in which replicas differed
	Unheard                  atomic.Int64 // sessions of which some replica has not heard that they succeeded
}

// ErrBusy is returned when as many repairs are led by this node as it may lead.
var ErrBusy = errors.New("repair: another repair is under way on this node")

// ErrStopped is returned when the service has ended, or was not started.
var ErrStopped = errors.New("repair: the node is stopping")

// Service leads repairs and answers those that others lead.
type Service struct {
	o       Options
	local   local
	metrics Metrics

	life context.Context
	end  context.CancelFunc

	mu      sync.Mutex // held for a few instructions
	started bool
	ended   bool
	leading bool
	served  int
	running sync.WaitGroup // requests that are answered, and the repair that is led
}

// New returns a service that answers and leads nothing before Run.
func New(o Options) *Service {
	s := &Service{o: o.withDefaults()}
	s.local = local{&s.o}
	//lint:ignore SA1019 the service's own lifetime, not a request's
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Metrics returns the service's counters.
func (s *Service) Metrics() *Metrics { return &s.metrics }

// Run returns when ctx has ended and everything that is under way too.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	<-ctx.Done()
	s.Close()
	return nil
}

// Close ends what is under way and waits for it. Nothing is begun after it. It may be called again.
func (s *Service) Close() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.end()
	s.running.Wait()
}

func (s *Service) lead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended || !s.started:
		return ErrStopped
	case s.leading:
		return ErrBusy
	}
	s.leading = true
	s.running.Add(1)
	return nil
}

func (s *Service) unlead() {
	s.mu.Lock()
	s.leading = false
	s.mu.Unlock()
	s.running.Done()
}

// Repair repairs what spec says and returns when all of it was looked at. begun, which may be nil, is called once with the report, which may be read
// while the repair goes on. A range that fails is in the report and the others go on; the error is for what ends everything: ErrBusy, ErrStopped, an impossible spec, ctx.
func (s *Service) Repair(ctx context.Context, spec Spec, begun func(*Report)) (*Report, error) {
	if err := s.lead(); err != nil {
		return nil, err
	}
	defer s.unlead()
	s.metrics.Active.Add(1)
	defer s.metrics.Active.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	spec.pull = spec.Rebuild != ""
	epoch := s.o.Cluster.Epoch()
	tasks, err := s.o.Cluster.Plan(&spec)
	if err != nil {
		return nil, err
	}
	report, tables := newReport(tasks)
	if begun != nil {
		begun(report)
	}
	s.o.Logger.Info("repair begins", "ranges", len(tasks), "tables", len(report.Tables), "preview", spec.Preview, "validate", spec.Validate)
	for i := range tasks {
		_ = s.task(ctx, &spec, &tasks[i], tables[i], epoch) // it is in the report
		if err := ctx.Err(); err != nil {
			s.o.Logger.Info("repair is given up", "done", report.Done.Load(), "ranges", len(tasks))
			if s.life.Err() != nil {
				err = ErrStopped
			}
			return report, err
		}
		report.Done.Add(1)
	}
	s.o.Logger.Info("repair ends", "ranges", len(tasks), "failed", report.Failed())
	return report, nil
}

// newReport returns an empty report and the table's part of it for each task.
func newReport(tasks []Task) (*Report, []*TableReport) {
	r := &Report{Tasks: len(tasks)}
	byGeneration := map[schema.Generation]*TableReport{}
	of := make([]*TableReport, len(tasks))
	for i := range tasks {
		t := byGeneration[tasks[i].Generation]
		if t == nil {
			t = &TableReport{Keyspace: tasks[i].Keyspace, Table: tasks[i].Table}
			byGeneration[tasks[i].Generation] = t
			r.Tables = append(r.Tables, t)
		}
		of[i] = t
	}
	return r, of
}

// task repairs one range of one table. The error is in the report too.
func (s *Service) task(ctx context.Context, spec *Spec, t *Task, report *TableReport, epoch uint64) error {
	s.metrics.Sessions.Add(1)
	ctx, cancel := context.WithTimeout(ctx, s.o.RangeTimeout)
	defer cancel()
	differed, err := s.session(ctx, spec, t, report, epoch)
	if differed {
		report.RangesDifferent.Add(1)
	}
	if err == nil {
		report.Ranges.Add(1)
		return nil
	}
	s.metrics.SessionsFailed.Add(1)
	report.fail(t, err)
	s.o.Logger.Warn("a range was not repaired", "keyspace", t.Keyspace, "table", t.Table, "first", t.Tokens.First, "last", t.Tokens.Last, "err", err)
	return err
}

func (s *Service) session(ctx context.Context, spec *Spec, t *Task, report *TableReport, epoch uint64) (differed bool, err error) {
	if len(t.Replicas) < 2 {
		return false, nil
	}
	v := &session{o: &s.o, spec: spec, gen: t.Generation, tokens: t.Tokens, table: report, metrics: &s.metrics}
	for _, id := range t.Replicas {
		if id != s.o.Self && !s.o.Alive(id) {
			if planted.On(planted.PurgeWithReplicaDown) {
				continue
			}
			return false, fmt.Errorf("repair: replica %s is down", id)
		}
		p := report.peer(id)
		v.reports = append(v.reports, p)
		if id == s.o.Self {
			v.replicas = append(v.replicas, s.local)
			continue
		}
		v.replicas = append(v.replicas, &peer{&s.o, id, p})
	}
	before := sent(v.reports)
	differed, err = v.run(ctx)
	after := sent(v.reports)
	if !spec.readOnly() {
		s.metrics.Rows.Add(after[0] - before[0])
		s.metrics.Bytes.Add(after[1] - before[1])
	}
	if err == nil && s.o.Cluster.Epoch() != epoch && !s.same(spec, t) {
		err = errors.New("repair: the replicas of the range have changed meanwhile")
	}
	if err == nil && spec.everybody() && !spec.readOnly() {
		err = s.record(ctx, v, t)
	}
	return differed, err
}

// record says everywhere what a session has achieved. That a peer does not hear it is no failure: it purges later than the others.
func (s *Service) record(ctx context.Context, v *session, t *Task) error {
	e := history.Entry{Tokens: t.Tokens, At: v.start, Before: v.vouched, Replicas: slices.SortedFunc(slices.Values(t.Replicas), ring.HostID.Compare)}
	if s.o.Cluster.Lost(e.Replicas, e.At) {
		v.table.doubt(errors.New("repair: a replica may have lost the end of a log meanwhile"))
		e.Before = history.None
	}
	if e.Before != history.None {
		v.table.RangesVouched.Add(1)
	}
	if err := s.o.History.Put(ctx, t.Generation, e); err != nil {
		return fmt.Errorf("repair: what was repaired is not recorded: %w", err)
	}
	q := repairedRequest{t.Generation, e}
	errs := make([]error, len(v.replicas))
	var wg sync.WaitGroup
	for i, r := range v.replicas {
		if p, ok := r.(*peer); ok {
			wg.Go(func() { errs[i] = p.call(ctx, verbRepaired, q.append(nil), nothing) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.metrics.Unheard.Add(1)
		s.o.Logger.Warn("a replica has not heard that a range was repaired", "keyspace", t.Keyspace, "table", t.Table, "err", err)
	}
	return nil
}

// sent sums up rows with deletions, and bytes.
func sent(reports []*PeerReport) (sum [2]int64) {
	for _, r := range reports {
		sum[0] += r.Rows.Load() + r.Deletions.Load()
		sum[1] += r.Bytes.Load()
	}
	return sum
}

// same tells whether a task would still be planned as it was.
func (s *Service) same(spec *Spec, t *Task) bool {
	again := *spec
	again.Keyspace, again.Tables, again.Ranges = t.Keyspace, []string{t.Table}, []ring.Interval{t.Tokens}
	tasks, err := s.o.Cluster.Plan(&again)
	if err != nil || len(tasks) == 0 {
		return false
	}
	next := t.Tokens.First
	for i := range tasks {
		if tasks[i].Generation != t.Generation || tasks[i].Tokens.First != next || !slices.Equal(tasks[i].Replicas, t.Replicas) {
			return false
		}
		next = tasks[i].Tokens.Last + 1
	}
	return tasks[len(tasks)-1].Tokens.Last == t.Tokens.Last
}
