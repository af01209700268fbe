package check

// Replica is what one replica holds of a table, or what it answers alone, in an order of its own content.
type Replica struct {
	Name string
	Rows []ReplicaRow // ascending by Key
}

// ReplicaRow is one row.
type ReplicaRow struct{ Key, Content string }

// Converged reports rows in which replicas differ, each replica compared with the first.
func Converged(table string, replicas []Replica) []Violation {
	var r report
	for i := 1; i < len(replicas); i++ {
		differ(&r, table, &replicas[0], &replicas[i])
	}
	return r.done()
}

func differ(r *report, table string, a, b *Replica) {
	i, j := 0, 0
	for i < len(a.Rows) || j < len(b.Rows) {
		switch {
		case j == len(b.Rows) || i < len(a.Rows) && a.Rows[i].Key < b.Rows[j].Key:
			r.add(CheckerConvergence, "%s of %s is %s on %s and does not exist on %s", a.Rows[i].Key, table, quote(a.Rows[i].Content), a.Name, b.Name)
			i++
		case i == len(a.Rows) || b.Rows[j].Key < a.Rows[i].Key:
			r.add(CheckerConvergence, "%s of %s is %s on %s and does not exist on %s", b.Rows[j].Key, table, quote(b.Rows[j].Content), b.Name, a.Name)
			j++
		default:
			if a.Rows[i].Content != b.Rows[j].Content {
				r.add(CheckerConvergence, "%s of %s is %s on %s and %s on %s", a.Rows[i].Key, table, quote(a.Rows[i].Content), a.Name, quote(b.Rows[j].Content), b.Name)
			}
			i, j = i+1, j+1
		}
	}
}

// Quiet reports a read that had to reconcile replicas although an earlier one had just made them equal: digests that are no function
// of content alone, or repairs that do not repair.
func Quiet(table, key string, mismatches int) []Violation {
	if mismatches == 0 {
		return nil
	}
	var r report
	r.add(CheckerConvergence, "%s of %s: %d reads at ALL in a row found digests that differ, after the first had repaired the replicas", key, table, mismatches)
	return r.done()
}
