package storage

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// model is what the engine should do, without a thought for speed: maps, one deletion per position, everything always reconciled.
// It shares with the engine the value types of package row and none of its codec.
type model struct {
	parts map[schema.Generation]map[string]*modelPartition
}

type modelPartition struct {
	key    []byte
	del    row.Deletion
	ranges map[string]row.Deletion // by clustering key: the domain is small and known
	static *modelRow
	rows   map[string]*modelRow
}

type modelRow struct {
	live  row.Liveness
	del   row.Deletion
	cdel  map[schema.ColumnID]row.Deletion
	cells map[cellID]row.Cell
}

type cellID struct {
	col  schema.ColumnID
	path string
}

// clusterings is the domain of clustering keys; positions between them do not occur. As in a real table none is the beginning of
// another.
var clusterings = []string{"a", "bb", "bc", "c", "d", "e", "fa", "fb", "g", "h"}

func newModel() *model { return &model{map[schema.Generation]map[string]*modelPartition{}} }

func newModelRow() *modelRow {
	return &modelRow{live: row.NoLiveness(), del: row.Live(), cdel: map[schema.ColumnID]row.Deletion{}, cells: map[cellID]row.Cell{}}
}

func (m *model) partition(gen schema.Generation, key []byte) *modelPartition {
	t := m.parts[gen]
	if t == nil {
		t = map[string]*modelPartition{}
		m.parts[gen] = t
	}
	p := t[string(key)]
	if p == nil {
		p = &modelPartition{key: slices.Clone(key), del: row.Live(), ranges: map[string]row.Deletion{}, static: newModelRow(), rows: map[string]*modelRow{}}
		t[string(key)] = p
	}
	return p
}

func (p *modelPartition) row(ck string) *modelRow {
	if p.rows[ck] == nil {
		p.rows[ck] = newModelRow()
	}
	return p.rows[ck]
}

// change is one mutation in the model's terms.
type change struct {
	gen    schema.Generation
	key    []byte
	del    row.Deletion
	ranges []row.RangeTombstone
	static *modelRow
	rows   map[string]*modelRow
}

func (m *model) apply(c change) {
	p := m.partition(c.gen, c.key)
	p.deletePartition(c.del)
	for _, rt := range c.ranges {
		for _, ck := range clusterings {
			if ck >= string(rt.Start) && (rt.End == nil || ck < string(rt.End)) && rt.Supersedes(p.rangeDel(ck)) {
				p.ranges[ck] = rt.Deletion
			}
		}
	}
	p.prune()
	if c.static != nil {
		p.static.merge(c.static)
	}
	for ck, r := range c.rows {
		p.row(ck).merge(r)
	}
}

func (p *modelPartition) deletePartition(d row.Deletion) {
	if d.Supersedes(p.del) {
		p.del = d
	}
}

func (p *modelPartition) rangeDel(ck string) row.Deletion {
	if d, ok := p.ranges[ck]; ok {
		return d
	}
	return row.Live()
}

// prune forgets range deletions that the partition's supersedes.
func (p *modelPartition) prune() {
	for ck, d := range p.ranges {
		if !d.Supersedes(p.del) {
			delete(p.ranges, ck)
		}
	}
}

func (p *modelPartition) over(ck string) row.Deletion {
	d := p.rangeDel(ck)
	if p.del.Supersedes(d) {
		return p.del
	}
	return d
}

func (r *modelRow) merge(o *modelRow) {
	if o.live.Supersedes(r.live) {
		r.live = o.live
	}
	if o.del.Supersedes(r.del) {
		r.del = o.del
	}
	for col, d := range o.cdel {
		if old, ok := r.cdel[col]; !ok || d.Supersedes(old) {
			r.cdel[col] = d
		}
	}
	for id, c := range o.cells {
		if old, ok := r.cells[id]; !ok || wins(c, old) {
			r.cells[id] = c
		}
	}
	r.shadow(row.Live())
}

// wins is the rule of design 2.1, spelled out once more.
func wins(a, b row.Cell) bool {
	rank := func(c row.Cell) int {
		if c.TTL != 0 {
			return 1
		} else if c.Tombstone {
			return 2
		}
		return 0
	}
	if a.Timestamp != b.Timestamp {
		return a.Timestamp > b.Timestamp
	}
	if rank(a) != rank(b) {
		return rank(a) > rank(b)
	}
	if a.Expiry != b.Expiry {
		return a.Expiry > b.Expiry
	}
	if a.TTL != b.TTL {
		return a.TTL < b.TTL
	}
	if a.Tombstone != b.Tombstone {
		return a.Tombstone
	}
	return bytes.Compare(a.Value, b.Value) > 0
}

// shadow removes what the row's own deletions and d cover.
func (r *modelRow) shadow(d row.Deletion) {
	if !r.del.Supersedes(d) {
		r.del = row.Live()
	} else {
		d = r.del
	}
	if d.Shadows(r.live.Timestamp) {
		r.live = row.NoLiveness()
	}
	for col, cd := range r.cdel {
		if !cd.Supersedes(d) {
			delete(r.cdel, col)
		}
	}
	for id, c := range r.cells {
		if d.Shadows(c.Timestamp) {
			delete(r.cells, id)
		} else if cd, ok := r.cdel[id.col]; ok && cd.Shadows(c.Timestamp) {
			delete(r.cells, id)
		}
	}
}

// purge does what Engine.Purge promises at the time now.
func (m *model) purge(gen schema.Generation, now, gcBefore int64) {
	for _, p := range m.parts[gen] {
		if p.del.Purgeable(gcBefore) {
			p.static.shadow(p.del)
			for _, r := range p.rows {
				r.shadow(p.del)
			}
			p.del = row.Live()
		}
		for ck, d := range p.ranges {
			if d.Purgeable(gcBefore) {
				p.row(ck).shadow(d)
				delete(p.ranges, ck)
			}
		}
		p.static.purge(now, gcBefore)
		for _, r := range p.rows {
			r.purge(now, gcBefore)
		}
	}
}

func (r *modelRow) purge(now, gcBefore int64) {
	if !r.live.Empty() && !r.live.LiveAt(now) && r.live.Expiry < gcBefore {
		r.live = row.NoLiveness()
	}
	if r.del.Purgeable(gcBefore) {
		r.del = row.Live()
	}
	for col, d := range r.cdel {
		if d.Purgeable(gcBefore) {
			delete(r.cdel, col)
		}
	}
	for id, c := range r.cells {
		if c.LiveAt(now) {
			continue
		}
		c.Tombstone, c.Value = true, nil
		r.cells[id] = c
		if c.LocalTime() < gcBefore {
			delete(r.cells, id)
		}
	}
}

// text is what a client sees of the row under d at now; empty if the row does not exist.
func (r *modelRow) text(d row.Deletion, now int64) string {
	v := newModelRow()
	v.merge(r)
	v.shadow(d)
	var cells []string
	for id, c := range v.cells {
		if c.LiveAt(now) {
			cells = append(cells, fmt.Sprintf("%d.%s=%s", id.col, id.path, c.Value))
		}
	}
	if len(cells) == 0 && !v.live.LiveAt(now) {
		return ""
	}
	slices.Sort(cells)
	return "{" + strings.Join(cells, ",") + "}"
}

// query answers a command, limits on pages aside.
func (m *model) query(cmd *row.Command) []string {
	if cmd.Range == nil {
		return m.partition(cmd.Generation, cmd.Key).query(cmd)
	}
	var parts []*modelPartition
	for _, p := range m.parts[cmd.Generation] {
		if t := token(p.key); t > cmd.Range.Start && (cmd.Range.End == ring.MinToken || t <= cmd.Range.End) {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b *modelPartition) int {
		if x, y := token(a.key), token(b.key); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return bytes.Compare(a.key, b.key)
	})
	var out []string
	for _, p := range parts {
		out = append(out, p.query(cmd)...)
	}
	return out
}

func (p *modelPartition) query(cmd *row.Command) (out []string) {
	if cmd.WithStatic || cmd.StaticOnly {
		if s := p.static.text(p.del, cmd.Now); s != "" && s != "{}" {
			out = append(out, fmt.Sprintf("%x static %s", p.key, s))
		}
	}
	if cmd.StaticOnly {
		return out
	}
	cks := make([]string, 0, len(p.rows))
	for ck := range p.rows {
		if selected(cmd, ck) {
			cks = append(cks, ck)
		}
	}
	slices.Sort(cks)
	if cmd.Reverse {
		slices.Reverse(cks)
	}
	rows := 0
	for _, ck := range cks {
		if s := p.rows[ck].text(p.over(ck), cmd.Now); s != "" && (cmd.PerPartition == 0 || rows < cmd.PerPartition) {
			out = append(out, fmt.Sprintf("%x %q %s", p.key, ck, s))
			rows++
		}
	}
	return out
}

func selected(cmd *row.Command, ck string) bool {
	if cmd.Slices == nil {
		return true
	}
	for _, s := range cmd.Slices {
		if ck >= string(s.Start) && (s.End == nil || ck < string(s.End)) {
			return true
		}
	}
	return false
}
