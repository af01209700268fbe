package e2e

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/helenusdb/helenus/internal/e2e/differ"
)

// TestCorpusAsCassandra runs the corpus of internal/e2e/differ against one fresh node and compares with what Apache
// Cassandra 5.0.8 answered; what differs on purpose is compared with what is meant.
func TestCorpusAsCassandra(t *testing.T) {
	c := newCluster(t, 1).up()
	const dir = "differ/testdata"
	files, err := differ.ReadCorpus(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		f := &files[i]
		t.Run(f.Name, func(t *testing.T) {
			theirs, err := differ.ReadGolden(filepath.Join(dir, f.Name+".golden"))
			if err != nil || len(theirs) == 0 {
				t.Fatalf("no golden answers: %v", err)
			}
			purpose, err := differ.ReadGolden(filepath.Join(dir, f.Name+".ours"))
			if err != nil {
				t.Fatal(err)
			}
			s := differ.NewServer(net.JoinHostPort(c.addr(0), strconv.Itoa(cqlPort)))
			s.Quiet = 10 * time.Millisecond
			ours, err := differ.Record(s, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differ.Compare(f, theirs, purpose, ours) {
				t.Error(d)
			}
		})
	}
}
