package history

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

// Write is a change of one record; Value nil removes it.
type Write struct{ Key, Value []byte }

// Store keeps records.
type Store interface {
	// Scan calls fn for the records from start up to end, in the order of their keys, until it returns false.
	Scan(start, end []byte, fn func(key, value []byte) bool) error
	// Commit makes all of the changes durable before it returns, or none.
	Commit(ctx context.Context, changes []Write) error
}

// Book keeps a map for each table. What it says was durable before. It is safe for concurrent use; reading it waits for nothing.
type Book struct {
	store  Store
	turn   chan struct{} // held by the one that changes the book
	tables atomic.Pointer[map[schema.Generation]*Map]
	// Damaged is how many records did not decode when the book was opened; they count as not there.
	Damaged int
}

// Open reads the book that a store has. Errors are the store's.
func Open(store Store) (*Book, error) {
	b := &Book{store: store, turn: make(chan struct{}, 1)}
	entries := map[schema.Generation][]Entry{}
	start, end := Bounds()
	err := store.Scan(start, end, func(key, value []byte) bool {
		gen, e, err := DecodeRecord(key, value)
		list := entries[gen]
		if err != nil || len(list) > 0 && e.Tokens.First <= list[len(list)-1].Tokens.Last {
			b.Damaged++
			return true
		}
		entries[gen] = append(list, e)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	tables := map[schema.Generation]*Map{}
	for gen, list := range entries {
		tables[gen] = &Map{list}
	}
	b.tables.Store(&tables)
	return b, nil
}

// Table returns what is known of a table.
func (b *Book) Table(gen schema.Generation) *Map {
	if m := (*b.tables.Load())[gen]; m != nil {
		return m
	}
	return &Map{}
}

// Generations returns the tables of which something is known, ascending.
func (b *Book) Generations() []schema.Generation {
	return slices.Sorted(maps.Keys(*b.tables.Load()))
}

// Put adds what e says of a table. It is durable when Put returns. Errors: ctx's and the store's; then nothing has changed, as far as is known.
func (b *Book) Put(ctx context.Context, gen schema.Generation, e Entry) error {
	e.Replicas = slices.Clone(e.Replicas)
	slices.SortFunc(e.Replicas, ring.HostID.Compare)
	if e.Replicas = slices.Compact(e.Replicas); len(e.Replicas) > replicasMax || e.Tokens.First > e.Tokens.Last {
		return errMalformed
	}
	return b.change(ctx, func(tables map[schema.Generation]*Map) []Write {
		old := tables[gen]
		if old == nil {
			old = &Map{}
		}
		tables[gen] = old.Put(e)
		return changes(gen, old.entries, tables[gen].entries)
	})
}

// Forget removes what is known of tables.
func (b *Book) Forget(ctx context.Context, gens ...schema.Generation) error {
	return b.change(ctx, func(tables map[schema.Generation]*Map) (out []Write) {
		for _, gen := range gens {
			if m := tables[gen]; m != nil {
				out = append(out, changes(gen, m.entries, nil)...)
				delete(tables, gen)
			}
		}
		return out
	})
}

func (b *Book) change(ctx context.Context, f func(map[schema.Generation]*Map) []Write) error {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.turn }()
	tables := maps.Clone(*b.tables.Load())
	if writes := f(tables); len(writes) > 0 {
		if err := b.store.Commit(ctx, writes); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	b.tables.Store(&tables)
	return nil
}

// changes returns what makes the records of the one list those of the other, in the order of their keys.
func changes(gen schema.Generation, from, to []Entry) (out []Write) {
	for i, j := 0, 0; i < len(from) || j < len(to); {
		switch {
		case j == len(to) || i < len(from) && from[i].Tokens.First < to[j].Tokens.First:
			out = append(out, Write{Key: AppendKey(nil, gen, from[i].Tokens.First)})
			i++
		case i == len(from) || to[j].Tokens.First < from[i].Tokens.First:
			out = append(out, Write{Key: AppendKey(nil, gen, to[j].Tokens.First), Value: AppendValue(nil, &to[j])})
			j++
		default:
			if from[i].Tokens != to[j].Tokens || !from[i].same(&to[j]) {
				out = append(out, Write{Key: AppendKey(nil, gen, to[j].Tokens.First), Value: AppendValue(nil, &to[j])})
			}
			i, j = i+1, j+1
		}
	}
	return out
}

// Void removes what is recorded of ranges of which a node is a replica: it may have lost what it was given.
func (b *Book) Void(ctx context.Context, id ring.HostID) error {
	return b.change(ctx, func(tables map[schema.Generation]*Map) (out []Write) {
		for _, gen := range slices.Sorted(maps.Keys(tables)) {
			m := tables[gen]
			left := slices.DeleteFunc(slices.Clone(m.entries), func(e Entry) bool { return slices.Contains(e.Replicas, id) })
			if len(left) < len(m.entries) {
				out = append(out, changes(gen, m.entries, left)...)
				tables[gen] = &Map{left}
			}
		}
		return out
	})
}
