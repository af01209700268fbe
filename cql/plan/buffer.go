package plan

import (
	"bytes"
	"slices"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
	"github.com/helenusdb/helenus/schema"
)

// Buffer is the scratch memory of one request: row builders, arenas for keys, fragments and commands. What Mutations,
// ReadCommands and Access return aliases it until its next Reset (which those calls do, but AppendMutations does not).
// The zero value is ready; reuse it; not safe for concurrent use.
type Buffer struct {
	mem    arena
	sc     scope
	comps  [][]byte // values of key components
	keys   [][]byte // partition keys
	tuples [][]byte // combinations of clustering values, flat
	slices []row.Slice
	cells  []row.Cell
	row    row.Builder
	frag   row.FragmentBuilder
	points []point
	out    arena  // fragments
	rowBuf []byte // a row being built
	muts   []row.Mutation
	cmds   []row.Command
	scan   row.Command
	span   ring.Range

	increments uint32 // of counters, since Reset: each has a number of its own
}

// Reset forgets everything that was built.
func (b *Buffer) Reset() {
	b.mem.reset()
	b.out.reset()
	clear(b.muts)
	b.muts = b.muts[:0]
	b.cmds = b.cmds[:0]
	b.slices = b.slices[:0]
	b.increments = 0
}

func (b *Buffer) begin(a *Args) *scope {
	b.sc.args, b.sc.mem, b.sc.row = a, &b.mem, nil
	return &b.sc
}

// Mutations returns what was appended since Reset, those of one partition next to one another, in the order in which they
// were first written to.
func (b *Buffer) Mutations() []row.Mutation {
	if len(b.muts) > groupPairsMax {
		groupByKey(b.muts)
		return b.muts
	}
	for i := 1; i < len(b.muts); i++ {
		b.groupInto(i)
	}
	return b.muts
}

// groupPairsMax is how many mutations are compared in pairs, which takes no memory.
const groupPairsMax = 32

// groupByKey orders many mutations by when their partition was first written to.
func groupByKey(muts []row.Mutation) {
	type partition struct {
		generation schema.Generation
		key        string
	}
	first := make(map[partition]int, len(muts))
	for i := range muts {
		p := partition{muts[i].Generation, string(muts[i].Key)}
		if _, ok := first[p]; !ok {
			first[p] = i
		}
	}
	slices.SortStableFunc(muts, func(a, b row.Mutation) int {
		return first[partition{a.Generation, string(a.Key)}] - first[partition{b.Generation, string(b.Key)}]
	})
}

// groupInto moves mutation i behind the last one before it of the same partition.
func (b *Buffer) groupInto(i int) {
	m := b.muts[i]
	for j := i - 1; j >= 0; j-- {
		if !samePartition(&b.muts[j], &m) {
			continue
		}
		copy(b.muts[j+2:i+1], b.muts[j+1:i])
		b.muts[j+1] = m
		return
	}
}

func samePartition(a, b *row.Mutation) bool {
	return a.Generation == b.Generation && a.Token == b.Token && bytes.Equal(a.Key, b.Key)
}

// sortSlices orders slices and joins those that touch, in place.
func sortSlices(list []row.Slice) []row.Slice {
	if len(list) < 2 {
		return list
	}
	slices.SortFunc(list, func(a, b row.Slice) int { return bytes.Compare(a.Start, b.Start) })
	out := list[:1]
	for _, s := range list[1:] {
		last := &out[len(out)-1]
		switch {
		case last.End == nil:
		case bytes.Compare(s.Start, last.End) > 0:
			out = append(out, s)
		case s.End == nil || bytes.Compare(s.End, last.End) > 0:
			last.End, last.Point = s.End, false
		}
	}
	return out
}
