package cql

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// verdict is what Cassandra said to a statement.
type verdict struct {
	class     string // ok, 2000 (syntax) or 2200 (invalid)
	statement string
	message   string
}

// verdicts reads testdata/cassandra-5.0.8.tsv.
func verdicts(t testing.TB) []verdict {
	t.Helper()
	f, err := os.Open("testdata/cassandra-5.0.8.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []verdict
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 {
			t.Fatalf("bad line: %s", lines.Text())
		}
		v := verdict{class: fields[0]}
		if err := errors.Join(json.Unmarshal([]byte(fields[1]), &v.statement), json.Unmarshal([]byte(fields[2]), &v.message)); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		list = append(list, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// class returns the class of an error as in the golden data.
func class(err error) string {
	var syntax *SyntaxError
	var invalid *InvalidError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &syntax):
		return "2000"
	case errors.As(err, &invalid):
		return "2200"
	}
	return fmt.Sprintf("%T", err)
}

// TestVerdicts: statements are accepted and refused as by Cassandra, at the same place and in the same words.
func TestVerdicts(t *testing.T) {
	list := verdicts(t)
	if len(list) < 1000 {
		t.Fatalf("only %d statements", len(list))
	}
	for _, v := range list {
		_, err := Parse(v.statement)
		msg := ""
		if err != nil {
			msg = err.Error()
		}
		if class(err) != v.class || msg != v.message {
			t.Errorf("%q\n got %s %s\nwant %s %s", v.statement, class(err), msg, v.class, v.message)
		}
	}
}
