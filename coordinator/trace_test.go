package coordinator_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/helenusdb/helenus/coordinator"
	"github.com/helenusdb/helenus/internal/trace"
)

// TestTraceHasTheReplicasEvents: what every replica did for a traced write and read is in the trace under its own address,
// between what the coordinator did before and after, also of a replica that answers after the client had its answer.
func TestTraceHasTheReplicasEvents(t *testing.T) {
	simulated(t, func(t *testing.T) {
		c := three(t)
		for i := range 3 {
			for j := range 3 {
				c.net.SetDelay(addrOf(i).Addr().String(), addrOf(j).Addr().String(), time.Millisecond)
			}
		}
		s := &trace.Session{ID: [16]byte{1}, Coordinator: netip.MustParseAddrPort("10.0.0.1:9042"), Started: time.Now()}
		c.setFault(func(m message) action {
			if m.to == 2 && m.verb == coordinator.VerbMutate {
				return action{delay: 100 * time.Millisecond}
			}
			return action{}
		})
		n := c.nodes[0].coord
		err := n.WriteSync(context.Background(), &coordinator.Write{Mutations: mutations(c.put(c.wide, key(1), "a", 1, "x")), Level: coordinator.Quorum, Trace: s})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.ReadPage(context.Background(), &coordinator.Read{Command: c.whole(c.wide, key(1)), Level: coordinator.Quorum, Trace: s}); err != nil {
			t.Fatal(err)
		}
		late := make(chan []trace.Event, 2)
		events, lost := s.Finish(func(e []trace.Event) { late <- e })
		if lost != 0 {
			t.Errorf("%d events lost", lost)
		}
		for source, want := range map[string][]string{
			"10.0.0.1:9042": {"Sending MUTATION_REQ message to /10.0.0.2:7000", "Appending to commitlog and wide memtable", "Sending READ_REQ message to /10.0.0.2:7000",
				"Executing single-partition query on wide", "Processing response from /10.0.0.2:7000"},
			"10.0.0.2:7000": {"MUTATION_REQ message received from /10.0.0.1:7000", "Appending to commitlog", "Mutation is in the commitlog", "Enqueuing response to 10.0.0.1:7000",
				"READ_REQ message received from /10.0.0.1:7000", "Executing single-partition query on wide", "Read 1 live rows", "Enqueuing response to 10.0.0.1:7000"},
			"10.0.0.3:7000": nil,
		} {
			inOrder(t, events, source, want)
		}
		inOrder(t, <-late, "10.0.0.3:7000", []string{"MUTATION_REQ message received", "Appending to commitlog", "Enqueuing response"})
		for _, e := range events {
			if e.At.Before(s.Started) || e.At.After(s.Started.Add(20*time.Millisecond)) || e.Source.Port() == 7000 && e.Elapsed > time.Millisecond {
				t.Errorf("%q at %v, after %v", e.Activity, e.At.Sub(s.Started), e.Elapsed)
			}
			if strings.Contains(e.Activity, "message received") && e.At.Sub(s.Started) != time.Millisecond && e.At.Sub(s.Started) != 3*time.Millisecond {
				t.Errorf("%q at %v", e.Activity, e.At.Sub(s.Started))
			}
		}
	})
}

// inOrder demands that the events of a source begin as wanted, in order, and that there are none when nothing is wanted.
func inOrder(t *testing.T, events []trace.Event, source string, want []string) {
	t.Helper()
	var got []string
	for _, e := range events {
		if e.Source.String() == source {
			got = append(got, e.Activity)
		}
	}
	i := 0
	for _, g := range got {
		if i < len(want) && strings.HasPrefix(g, want[i]) {
			i++
		}
	}
	if i < len(want) || len(want) == 0 && len(got) > 0 {
		t.Errorf("%s did %q, not %q", source, got, want)
	}
}
