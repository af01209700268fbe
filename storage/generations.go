package storage

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/helenusdb/helenus/schema"
)

// Generations returns the table generations that hold rows, markers or Paxos registers, ascending. It looks up one key for each.
func (e *Engine) Generations() ([]schema.Generation, error) {
	var out []schema.Generation
	for _, space := range []byte{spaceRows, spaceMarkers, spacePaxos} {
		found, err := e.generationsIn(space)
		if err != nil {
			return nil, fmt.Errorf("storage: generations: %w", err)
		}
		out = append(out, found...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (e *Engine) generationsIn(space byte) ([]schema.Generation, error) {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return nil, err
	}
	var out []schema.Generation
	for ok := it.First(); ok; {
		key := it.Key()
		if len(key) < tokenOffset {
			break
		}
		gen := binary.BigEndian.Uint32(key[1:])
		out = append(out, schema.Generation(gen))
		if gen == 1<<32-1 {
			break
		}
		ok = it.SeekGE(appendGeneration(nil, space, schema.Generation(gen+1)))
	}
	if err := it.Error(); err != nil {
		_ = it.Close()
		return nil, err
	}
	return out, it.Close()
}
