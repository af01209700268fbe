package history

import "github.com/helenusdb/helenus/schema"

const (
	// SkewMax is how far the clocks of nodes may be apart, in seconds: the shortest delay after which a deletion is taken to be where it belongs.
	SkewMax = 60
	// againMin is the shortest time, in seconds, within which the rows of a conditional write may be written again; gc_grace_seconds if that is longer.
	againMin = 3 * 60 * 60
)

// Terms are what decides which tombstones of a token may be purged.
type Terms struct {
	Mode     schema.TombstoneGC
	Grace    int64 // gc_grace_seconds
	Delay    int64 // propagation_delay_in_seconds
	Replicas int   // of the token, those that are becoming one too
	Before   int64 // Entry.Before of an entry that covers these replicas; None: there is none, or it does not count
	// Again: conditional writes were made to the partition, whose rows may be written once more with their timestamps. By mode repair the sessions have seen to that.
	Again bool
}

// TermsOf returns the terms of a table's options.
func TermsOf(o *schema.TableOptions) Terms {
	mode, delay := o.TombstoneGC()
	return Terms{Mode: mode, Grace: int64(o.GCGraceSeconds), Delay: int64(delay), Before: None}
}

// Bound returns the time, in seconds since the epoch, before which deletions and expired cells of a token may be purged at now, together with what they
// shadow; None: none may. It does not fall as now rises, and never is above now.
func Bound(now int64, t *Terms) int64 {
	b := t.bound(now)
	if t.Again && t.Mode != schema.TombstoneGCRepair {
		b = min(b, now-max(againMin, t.Grace))
	}
	return min(b, now)
}

func (t *Terms) bound(now int64) int64 {
	switch t.Mode {
	case schema.TombstoneGCImmediate:
		return now
	case schema.TombstoneGCDisabled:
		return None
	case schema.TombstoneGCTimeout:
		return now - t.Grace
	}
	if t.Replicas < 2 { // nobody to repair with
		return now - t.Grace
	}
	if t.Before == None {
		return None
	}
	return t.Before - max(t.Delay, SkewMax)
}
