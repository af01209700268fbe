package coordinator_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/coordinator/batchlog"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// TestGoldenMessages: what goes over the wire, and what is kept as a hint, is what docs/format/messages.md shows.
func TestGoldenMessages(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := newCluster(t, layout{dcs: nodesIn("dc1", 3), tune: func(o *coordinator.Options) {
			o.Now = func() time.Time { return time.UnixMicro(1_700_000_000_123_456) }
			o.DownSince = func(ring.HostID) time.Time { return time.UnixMicro(1_700_000_000_000_000) }
		}})
		sent := map[string]string{}
		c.setFault(func(m message) action {
			switch {
			case m.verb == coordinator.VerbMutate:
				sent["mutate"] = hex.EncodeToString(m.body)
			case m.verb == coordinator.VerbBatchStore:
				sent["store"] = hex.EncodeToString(m.body)
			case m.verb == coordinator.VerbBatchRemove:
				sent["remove"] = hex.EncodeToString(m.body)
			case m.to == 1: // the digest is asked of one, the data of this node
				sent["read"] = hex.EncodeToString(m.body)
			}
			return action{}
		})
		c.setDown(2, true)
		c.mustWrite(0, coordinator.Quorum, c.put(c.wide, key(1), "a", 1_000_000, "x"), c.put(c.plain, key(1), "", 1_000_001, "y"))
		c.mustRead(0, coordinator.Quorum, row.Command{Generation: c.wide.Generation, Now: 1_700_000_000, Token: tokenOf(key(1)), Key: key(1), WithStatic: true, Limit: 10})
		c.mu.Lock()
		mutate := sent["mutate"]
		c.mu.Unlock()
		if err := c.nodes[0].logged(coordinator.One, c.put(c.plain, key(2), "", 1_000_002, "y"), c.put(c.plain, key(3), "", 1_000_002, "z")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.setFault(nil) // nothing is noted any more
		sent["mutate"] = mutate
		batch, err := hex.DecodeString(sent["store"])
		if err != nil || len(batch) < 28 {
			t.Fatal(err)
		}
		sent["entry"] = hex.EncodeToString(batchlog.AppendValue(nil, time.UnixMicro(1_700_000_000_123_999), batch[28:]))
		err = engine{c.nodes[0].engine, c.nodes[0]}.ScanHints(nil, nil, func(key, value []byte) bool {
			sent["key"] = hex.EncodeToString(key)
			if got := hex.EncodeToString(value); got != sent["mutate"][16:] { // without what it was planned under
				t.Errorf("the hint is %s", got)
			}
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := os.ReadFile("../docs/format/messages.md")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"mutate", "read", "key", "store", "remove", "entry"} {
			if want := lineOf(string(doc), name); want == "" || sent[name] != want {
				t.Errorf("%s: got  %s\nwant %s", name, sent[name], want)
			}
		}
	})
}

// lineOf returns the bytes that the document gives under a name.
func lineOf(doc, name string) string {
	for line := range strings.Lines(doc) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return f[1]
		}
	}
	return ""
}
