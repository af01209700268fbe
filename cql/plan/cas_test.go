package plan

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/row"
)

// casOf binds a statement or batch with conditions.
func casOf(t testing.TB, db *memDB, text string, a *Args) *CAS {
	t.Helper()
	st := benchCompile(t, db, text)
	list := []*Modify{st.Modify}
	if st.Batch != nil {
		list = st.Batch.Statements
	}
	c := NewCAS(st.Batch != nil)
	for _, m := range list {
		if err := c.Add(m, a); err != nil {
			t.Fatal(text, err)
		}
	}
	return c
}

// listPaths returns the keys of the elements of one list that mutations write, in the order of the mutations.
func listPaths(t testing.TB, muts []row.Mutation) (paths [][]byte, stamps []int64) {
	t.Helper()
	for i := range muts {
		var f row.FragmentReader
		if err := f.Init(muts[i].Fragment); err != nil {
			t.Fatal(err)
		}
		for f.NextRow() {
			var r row.Reader
			if err := r.Init(f.Row); err != nil {
				t.Fatal(err)
			}
			for r.Next() {
				for r.NextElement() {
					paths, stamps = append(paths, bytes.Clone(r.Cell.Path)), append(stamps, r.Cell.Timestamp)
				}
			}
		}
	}
	return paths, stamps
}

// TestScenario_P10_ListKeysFollowFromTheBallot: the keys of list elements that a conditional write appends come from the
// timestamp that it is decided with and nothing else. So they are the same whichever node decides, differ between decisions,
// and go on in order within a batch and from decision to decision; prepended elements go the other way.
func TestScenario_P10_ListKeysFollowFromTheBallot(t *testing.T) {
	db := goldenDB(t)
	batch := func(op string) string {
		return "BEGIN BATCH UPDATE coll SET l = " + op + " WHERE k = 1 AND c = 1 IF v = null; UPDATE coll SET l = " + op + " WHERE k = 1 AND c = 1; APPLY BATCH"
	}
	for op, forward := range map[string]bool{"l + [1, 2, 3]": true, "[1, 2, 3] + l": false} {
		here, elsewhere := db.args(nil), db.args(nil)
		elsewhere.NewTimeUUID = func() [16]byte { t.Error("a clock's UUID is used"); return [16]byte{} }
		a, b := casOf(t, db, batch(op), here), casOf(t, db, batch(op), elsewhere)
		var all [][]byte
		for _, ts := range []int64{1_700_000_000_000_000, 1_700_000_000_000_001, 1_700_000_000_000_500} {
			ms, applied, err := a.Decide(&row.Page{}, ts, db.now)
			ms2, _, err2 := b.Decide(&row.Page{}, ts, db.now)
			if !applied || err != nil || err2 != nil {
				t.Fatal(applied, err, err2)
			}
			paths, stamps := listPaths(t, ms)
			paths2, _ := listPaths(t, ms2)
			if len(paths) != 6 || !slices.EqualFunc(paths, paths2, bytes.Equal) {
				t.Fatalf("%s: %x here, %x elsewhere", op, paths, paths2)
			}
			if slices.ContainsFunc(stamps, func(s int64) bool { return s != ts }) {
				t.Errorf("%s: timestamps %d, decided at %d", op, stamps, ts)
			}
			if !forward { // within a mutation they stand in order of the list; the second statement's come before the first's
				paths = append(paths[3:], paths[:3]...)
				all = append(paths, all...)
				continue
			}
			all = append(all, paths...)
		}
		if !slices.IsSortedFunc(all, bytes.Compare) || len(slices.CompactFunc(slices.Clone(all), bytes.Equal)) != len(all) {
			t.Errorf("%s: keys %x are not in order", op, all)
		}
	}
}

// TestScenario_P16_NullIsNull: to a condition a column is null whether there is no row, no cell, a tombstone, an expired
// cell, an empty collection that is not frozen, or a deleted row or partition around it; and only then.
func TestScenario_P16_NullIsNull(t *testing.T) {
	for _, before := range [][]string{
		nil,
		{"INSERT INTO coll (k, c) VALUES (1, 1)"},
		{"INSERT INTO coll (k, c, v, l, st, m, fl, u, fu, tp, sl) VALUES (1, 1, null, null, null, null, null, null, null, null, null)"},
		{"INSERT INTO coll (k, c, l, st, m, sl) VALUES (1, 1, [], {}, {}, [])"},
		{"INSERT INTO coll (k, c, v, l, m, fl, u, fu, sl) VALUES (1, 1, 5, [1], {'a': 1}, [1], {no: 1}, {no: 1}, ['x'])", "DELETE v, l, m, fl, u, fu, sl FROM coll WHERE k = 1 AND c = 1"},
		{"INSERT INTO coll (k, c, v, l, m, fl, u, fu, sl) VALUES (1, 1, 5, [1], {'a': 1}, [1], {no: 1}, {no: 1}, ['x'])", "DELETE FROM coll WHERE k = 1"},
		{"INSERT INTO coll (k, c, v, l, m, fl, u, fu) VALUES (1, 1, 5, [1], {'a': 1}, [1], {no: 1}, {no: 1})", "DELETE FROM coll WHERE k = 1 AND c = 1"},
		{"INSERT INTO coll (k, c, v, l, m, fl, u, fu) VALUES (1, 1, 5, [1], {'a': 1}, [1], {no: 1}, {no: 1})", "DELETE FROM coll WHERE k = 1 AND c > 0"},
		{"INSERT INTO coll (k, c, v, l, m, fl, u, fu, sl) VALUES (1, 1, 5, [1], {'a': 1}, [1], {no: 1}, {no: 1}, ['x']) USING TTL 10", "later"},
		{"UPDATE coll SET l = [1, 2] WHERE k = 1 AND c = 1", "UPDATE coll SET l = l - [1, 2] WHERE k = 1 AND c = 1"},
	} {
		db := goldenDB(t)
		for _, text := range before {
			if text == "later" {
				db.now += 10
				continue
			}
			db.must(text)
		}
		for _, c := range []string{"v", "l", "st", "m", "fl", "u", "fu", "tp", "sl", "l[0]", "m['a']", "u.no", "fu.no", "fl[0]"} {
			for cond, want := range map[string]bool{"= null": true, "!= null": false, "IN (null)": true} {
				got := db.must("UPDATE coll SET v = null WHERE k = 1 AND c = 1 IF " + c + " " + cond)
				if (got.rows[0][0][0] == 1) != want {
					t.Errorf("after %q: IF %s %s: %v", before, c, cond, !want)
				}
			}
		}
	}
	db := goldenDB(t)
	db.must("INSERT INTO coll (k, c, v, l, st, m, fl, u, fu, sl) VALUES (1, 1, 0, [0], {''}, {'a': 0}, [], {no: 0}, {no: 0}, [''])")
	for _, c := range []string{"v", "l", "st", "m", "fl", "u", "fu", "sl", "l[0]", "m['a']", "u.no", "fu.no"} {
		if db.must("UPDATE coll SET v = 0 WHERE k = 1 AND c = 1 IF " + c + " = null").rows[0][0][0] == 1 {
			t.Errorf("%s is null", c)
		}
	}
}

// TestDecideEvaluatesOnce: what uuid() and now() give to the key and to the values is the same in each decision, and differs
// from call to call.
func TestDecideEvaluatesOnce(t *testing.T) {
	db := goldenDB(t)
	db.must("CREATE TABLE ids (k uuid, c timeuuid, a uuid, b timeuuid, d timeuuid, l list<timeuuid>, PRIMARY KEY (k, c))")
	a := db.args(nil)
	c := casOf(t, db, "INSERT INTO ids (k, c, a, b, d, l) VALUES (uuid(), now(), uuid(), now(), now(), [now(), now()]) IF NOT EXISTS", a)
	cmd := c.Command()
	first, applied, err := c.Decide(&row.Page{}, 1000, db.now)
	if !applied || err != nil || len(first) != 1 || !bytes.Equal(first[0].Key, cmd.Key) || len(cmd.Slices) != 1 {
		t.Fatalf("%v %v %+v, read %+v", applied, err, first, cmd)
	}
	kept := bytes.Clone(first[0].Fragment)
	if second, _, err := c.Decide(&row.Page{}, 1000, db.now); err != nil || !bytes.Equal(second[0].Fragment, kept) {
		t.Errorf("decides %x, then %x", kept, second[0].Fragment)
	}
	if _, _, err := c.Decide(&row.Page{}, 2000, db.now); err != nil || !bytes.Equal(first[0].Fragment, kept) {
		t.Error("a later decision changed the mutations of the first")
	}
	db.apply(first)
	r := db.must("SELECT k, c, a, b, d, l FROM ids").rows[0]
	seen := map[string]bool{}
	for _, v := range append(r[:5:5], r[5][8:24], r[5][28:44]) {
		seen[string(v)] = true
	}
	if len(seen) != 7 {
		t.Errorf("%d values of 7 differ: %x", len(seen), r)
	}
}

// TestConditionalReadIsWhole: what the conditions are about is read in one page, or nothing is decided.
func TestConditionalReadIsWhole(t *testing.T) {
	db := goldenDB(t)
	c := casOf(t, db, "BEGIN BATCH UPDATE lsl SET v = 1 WHERE k = 1 AND c = 2 IF v = 1; UPDATE lsl SET v = 1 WHERE k = 1 AND c = 1 IF m['a'] = 1; "+
		"UPDATE lsl SET ll[0] = 1 WHERE k = 1 AND c = 3; UPDATE lsl SET ll[1] = 1 WHERE k = 1 AND c = 1; UPDATE lsl SET v = 1 WHERE k = 1 AND c = 9; APPLY BATCH", db.args(nil))
	cmd := c.Command()
	var keys []string
	for _, s := range cmd.Slices {
		keys = append(keys, fmt.Sprintf("%x", s.Start))
	}
	if len(keys) != 3 || !slices.IsSorted(keys) || !cmd.WithStatic || cmd.Limit != 0 || cmd.Bytes != row.MaxPageBytes {
		t.Errorf("reads %+v", cmd)
	}
	_, applied, err := c.Decide(&row.Page{More: true}, 1000, db.now)
	if applied || err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("decides on part of it: %v %v", applied, err)
	}
	if _, _, err := c.Decide(&row.Page{Data: []byte{1, 2, 3}}, 1000, db.now); err == nil {
		t.Error("decides on malformed bytes")
	}
}

// TestConditionsOnRandomRows compares what conditions on numbers say with arithmetic.
func TestConditionsOnRandomRows(t *testing.T) {
	db := goldenDB(t)
	holds := map[string]func(v, w int) bool{
		"=": func(v, w int) bool { return v == w }, "!=": func(v, w int) bool { return v != w }, "<": func(v, w int) bool { return v < w },
		"<=": func(v, w int) bool { return v <= w }, ">": func(v, w int) bool { return v > w }, ">=": func(v, w int) bool { return v >= w },
	}
	for v := -2; v <= 2; v++ {
		db.must("INSERT INTO t1 (k, v) VALUES (1, ?)", setValue(types.EncodeInt(int32(v))))
		for op, want := range holds {
			for w := -2; w <= 2; w++ {
				r := db.must("UPDATE t1 SET t = 'x' WHERE k = 1 IF v "+op+" ?", setValue(types.EncodeInt(int32(w))))
				if (r.rows[0][0][0] == 1) != want(v, w) {
					t.Errorf("%d %s %d: %v", v, op, w, !want(v, w))
				}
				if r.rows[0][0][0] == 0 && !bytes.Equal(r.rows[0][1], types.EncodeInt(int32(v))) {
					t.Errorf("%d %s %d: shows %x", v, op, w, r.rows[0][1])
				}
			}
		}
	}
}
