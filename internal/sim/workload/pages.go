package workload

import (
	"context"
	"fmt"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

// pages scans a table, page by page, while others write to it.
type pages struct {
	base
	rows  rowSpace
	scans [][]check.Scan // by client
	reads [][]check.Read // what they say about rows
}

const (
	pagesWidth   = 24  // rows of a partition
	pagesMax     = 500 // pages after which a scan counts as one without end
	pageSizeMax  = 7
	pageRetryMax = 3 // times that a page is asked for again after an error
)

// NewPages returns the workload of paged scans.
func NewPages(o Options) Workload { return &pages{base: newBase("pages", o)} }

// Setup implements Workload.
func (p *pages) Setup(ctx context.Context, env Env) error {
	p.rows = rowSpace{base: &p.base, table: p.keyspace + ".s", width: pagesWidth}
	return p.setup(ctx, env, rowTable("s", &p.o))
}

// Run implements Workload.
func (p *pages) Run(ctx context.Context, _ Env) error {
	p.rows.logs = make([]registerLog, p.o.Clients)
	p.scans, p.reads = make([][]check.Scan, p.o.Clients), make([][]check.Read, p.o.Clients)
	return p.run(ctx, func(ctx context.Context, w *worker) {
		key := partition(w.rnd.IntN(p.o.Keys))
		switch n := w.rnd.IntN(20); {
		case n < 11:
			op := w.next()
			p.rows.write(ctx, w, op, p.rows.insert(w, op, key))
		case n < 16:
			p.rows.write(ctx, w, w.next(), p.rows.remove(w, key))
		default:
			p.scan(ctx, w, w.level(false))
		}
	})
}

// plan draws what is scanned.
type scanPlan struct {
	request
	scan     check.Scan
	from, to int64    // rows of each partition
	within   []string // partitions
}

func (p *pages) plan(w *worker) scanPlan {
	s := scanPlan{to: pagesWidth}
	s.scan = check.Scan{Op: w.next(), Start: p.start}
	where, order, limit := "", "", ""
	if w.rnd.IntN(2) == 0 {
		key := partition(w.rnd.IntN(p.o.Keys))
		s.within = []string{key}
		where, s.values = " WHERE p = ?", []protocol.Value{text(key)}
		if w.rnd.IntN(2) == 0 {
			s.from, s.to = p.rows.slice(w)
			bound := p.rows.bound(w, s.from, s.to)
			where, s.values = where+bound.text, append(s.values, bound.values...)
		}
		if s.scan.Reverse = w.rnd.IntN(3) == 0; s.scan.Reverse {
			order = " ORDER BY c DESC"
		}
	} else {
		for n := range p.o.Keys {
			s.within = append(s.within, partition(n))
		}
		if w.rnd.IntN(4) == 0 {
			s.scan.PerPart = 1 + w.rnd.IntN(4)
			limit = fmt.Sprintf(" PER PARTITION LIMIT %d", s.scan.PerPart)
		}
	}
	if w.rnd.IntN(4) == 0 {
		s.scan.Limit = 1 + w.rnd.IntN(30)
		limit += fmt.Sprintf(" LIMIT %d", s.scan.Limit)
	}
	s.scan.Query = "SELECT p, c, v, writetime(v), m, token(p) FROM " + p.rows.table + where + order + limit
	s.text, s.pageSize = s.scan.Query, 1+w.rnd.Int32N(pageSizeMax)
	return s
}

// scan reads all pages, each from another coordinator, and writes down what they say.
func (p *pages) scan(ctx context.Context, w *worker, level protocol.Consistency) {
	s := p.plan(w)
	s.level, s.scan.Level, s.now = level, level.String(), p.rows.seconds()
	s.scan.Call = now(p.env)
	acks, ok := p.walk(ctx, w, &s)
	if !ok {
		return
	}
	s.scan.Return = now(p.env)
	p.scans[w.id] = append(p.scans[w.id], s.scan)
	read := check.Read{Node: -1, Acks: acks, Now: s.now}
	p.reads[w.id] = append(p.reads[w.id], s.scan.Reads(read, p.known(&s), s.covered())...)
}

// walk fetches the pages. It returns what the level vouches for by all of the coordinators; false: the scan did not come to its end.
func (p *pages) walk(ctx context.Context, w *worker, s *scanPlan) (acks check.Acks, ok bool) {
	retries := 0
	for page := 0; ; page++ {
		node := w.node()
		a, err := w.ask(ctx, s.scan.Op, node, &s.request, fmt.Sprintf("page %d of %s", page, s.scan.Query))
		if err != nil {
			if retries++; retries > pageRetryMax || !w.rest(ctx, p.o.Pace) {
				return acks, false
			}
			page--
			continue
		}
		acks = weaker(acks, p.acks(s.level, node), s.scan.Pages == 0)
		s.scan.Pages++
		for _, r := range a.rows {
			key, c := string(r[0]), number(r[1])
			s.scan.Rows = append(s.scan.Rows, check.ScanRow{Page: page, Partition: key, Token: number(r[5]), Clust: c, Register: rowName(key, c),
				Value: rowValue(r), TS: number(r[3])})
		}
		if a.state == nil {
			return acks, true
		}
		if page >= pagesMax {
			w.wrong = append(w.wrong, check.Violation{Checker: check.CheckerPages, What: fmt.Sprintf("scan %d (%s) has brought %d pages and %d rows and does not end",
				s.scan.Op, s.scan.Query, page, len(s.scan.Rows))})
			return acks, false
		}
		s.state = a.state
	}
}

// weaker returns what both vouch for.
func weaker(a, b check.Acks, first bool) check.Acks {
	if first {
		return b
	}
	a.All = min(a.All, b.All)
	for i := range a.In {
		a.In[i] = min(a.In[i], b.In[i])
	}
	return a
}

// known returns the rows that the scan is about.
func (p *pages) known(s *scanPlan) []string {
	var out []string
	for _, key := range s.within {
		out = append(out, names(key, s.from, s.to)...)
	}
	return out
}

// covered tells of which rows the scan says that they do not exist: with a limit, only those before the last row that it brought in
// the same partition.
func (s *scanPlan) covered() func(string) bool {
	sc := &s.scan
	if sc.PerPart == 0 && (sc.Limit == 0 || len(sc.Rows) < sc.Limit) {
		return func(string) bool { return true }
	}
	last := map[string]string{}
	for i := range sc.Rows {
		last[sc.Rows[i].Partition] = sc.Rows[i].Register
	}
	return func(register string) bool {
		for _, key := range s.within {
			if l, ok := last[key]; ok && len(register) == len(l) && register[:len(key)+1] == key+"/" {
				return register < l != sc.Reverse && register != l
			}
		}
		return false
	}
}

// Verify implements Workload.
func (p *pages) Verify(ctx context.Context, _ Env) []check.Violation {
	w := p.verifier()
	defer w.client.close()
	// One scan at ALL after everything, by the way that the clients take.
	p.scans, p.reads, p.rows.logs = append(p.scans, nil), append(p.reads, nil), append(p.rows.logs, registerLog{})
	w.id = len(p.scans) - 1
	p.scan(ctx, w, protocol.All)
	h, found := p.rows.verify(ctx, w)
	found = append(append(p.found, h.Check()...), found...)
	for i := range p.scans {
		for j := range p.scans[i] {
			found = append(found, p.scans[i][j].Check()...)
		}
	}
	// What the scans say about rows, alone: all other reads have been judged.
	h.Reads = nil
	for i := range p.reads {
		h.Reads = append(h.Reads, p.reads[i]...)
	}
	return append(append(found, w.wrong...), check.AsPages(h.Check())...)
}
