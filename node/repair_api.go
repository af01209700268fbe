package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/helenusdb/helenus/meta"
	"github.com/helenusdb/helenus/repair"
	"github.com/helenusdb/helenus/ring"
)

// RepairPath takes a RepairRequest and answers with RepairProgress, one JSON value per line, the last with Finished.
const RepairPath = "/api/v1/repair"

// repairProgressEvery is the time between two lines of progress.
const repairProgressEvery = 500 * time.Millisecond

// RepairRequest says what to repair, led by the node that gets it. The zero value: everything that it replicates.
type RepairRequest struct {
	Keyspace string   `json:"keyspace,omitempty"`
	Tables   []string `json:"tables,omitempty"`
	Ranges   []string `json:"ranges,omitempty"` // "start:end", which means (start, end]
	Primary  bool     `json:"primary,omitempty"`
	DCs      []string `json:"dcs,omitempty"`
	Hosts    []string `json:"hosts,omitempty"` // addresses or host ids
	Preview  bool     `json:"preview,omitempty"`
	Validate bool     `json:"validate,omitempty"`
	Full     bool     `json:"full,omitempty"`
	// Rebuild is the data centre of whose replicas the node is given what it lacks; nothing else is changed. Empty: it is a repair.
	Rebuild string `json:"rebuild,omitempty"`
}

// RepairProgress says how far a repair is.
type RepairProgress struct {
	Ranges   int           `json:"ranges"` // of all tables
	Done     int64         `json:"done"`
	Finished bool          `json:"finished"`
	Seconds  float64       `json:"seconds"`
	Tables   []RepairTable `json:"tables"`
	Error    string        `json:"error,omitempty"` // what ended the repair early
}

// RepairTable says what was found in one table.
type RepairTable struct {
	Keyspace        string       `json:"keyspace"`
	Table           string       `json:"table"`
	Ranges          int64        `json:"ranges"` // compared to the end
	RangesDifferent int64        `json:"ranges_different"`
	RangesFailed    int64        `json:"ranges_failed"`
	Items           int64        `json:"items"`  // rows and deletions compared
	Leaves          int64        `json:"leaves"` // small intervals in which replicas differed
	Peers           []RepairPeer `json:"peers"`
	Errors          []string     `json:"errors,omitempty"`
}

// RepairPeer says what was sent to one replica, or would be.
type RepairPeer struct {
	HostID    string `json:"host_id"`
	Address   string `json:"address"`
	Rows      int64  `json:"rows"`
	Deletions int64  `json:"deletions"`
	Bytes     int64  `json:"bytes"`
	Traffic   int64  `json:"traffic"` // bytes of all messages
}

func (n *Node) serveRepair(ctx context.Context, body []byte, tell func(any)) error {
	var q RepairRequest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return fmt.Errorf("the request does not decode: %w", err)
	}
	spec, err := repairSpec(&q, n.log.Current())
	if err != nil {
		return err
	}
	began := time.Now()
	reports := make(chan *repair.Report, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := n.repair.Repair(ctx, spec, func(r *repair.Report) { reports <- r })
		ended <- err
	}()
	t := time.NewTicker(repairProgressEvery)
	defer t.Stop()
	var report *repair.Report
	for {
		select {
		case report = <-reports:
			tell(n.repairProgress(report, began, false))
		case <-t.C:
			if report != nil {
				tell(n.repairProgress(report, began, false))
			}
		case err := <-ended:
			select {
			case report = <-reports:
			default:
			}
			if report == nil {
				return err
			}
			last := n.repairProgress(report, began, true)
			if err != nil {
				last.Error = err.Error()
			}
			tell(last)
			return nil
		}
	}
}

func (n *Node) repairProgress(r *repair.Report, began time.Time, finished bool) *RepairProgress {
	p := &RepairProgress{Ranges: r.Tasks, Done: r.Done.Load(), Finished: finished, Seconds: time.Since(began).Seconds(), Tables: []RepairTable{}}
	s := n.log.Current()
	for _, t := range r.Tables {
		v := RepairTable{Keyspace: t.Keyspace, Table: t.Table, Ranges: t.Ranges.Load(), RangesDifferent: t.RangesDifferent.Load(),
			RangesFailed: t.RangesFailed.Load(), Items: t.Items.Load(), Leaves: t.Leaves.Load(), Errors: t.Errors(), Peers: []RepairPeer{}}
		ids, reports := t.Peers()
		for i, id := range ids {
			peer := RepairPeer{HostID: id.String(), Rows: reports[i].Rows.Load(), Deletions: reports[i].Deletions.Load(), Bytes: reports[i].Bytes.Load(),
				Traffic: reports[i].Traffic.Load()}
			if m := s.Node(id); m != nil {
				peer.Address = m.Internode.Addr().String()
			}
			v.Peers = append(v.Peers, peer)
		}
		p.Tables = append(p.Tables, v)
	}
	return p
}

// repairSpec resolves a request against the metadata.
func repairSpec(q *RepairRequest, s *meta.State) (spec repair.Spec, err error) {
	spec = repair.Spec{Keyspace: q.Keyspace, Tables: q.Tables, Primary: q.Primary, DCs: q.DCs, Preview: q.Preview, Validate: q.Validate, Full: q.Full, Rebuild: q.Rebuild}
	switch {
	case q.Preview && q.Validate:
		return spec, errors.New("preview and validate exclude each other")
	case q.Rebuild != "" && (q.Primary || len(q.Hosts) > 0 || len(q.DCs) > 0):
		return spec, errors.New("a rebuild is of all ranges of the node, from one replica of each in one data centre: it excludes primary, hosts and dcs")
	case q.Primary && len(q.Hosts) > 0:
		return spec, errors.New("the primary range with some hosts only would leave the others out: choose one of them")
	}
	for _, text := range q.Ranges {
		r, err := parseRange(text)
		if err != nil {
			return spec, err
		}
		spec.Ranges = r.Intervals(spec.Ranges)
	}
	for _, text := range q.Hosts {
		id, err := hostNamed(text, s)
		if err != nil {
			return spec, err
		}
		if !slices.Contains(spec.Hosts, id) {
			spec.Hosts = append(spec.Hosts, id)
		}
	}
	return spec, nil
}

func parseRange(text string) (r ring.Range, err error) {
	start, end, ok := strings.Cut(text, ":")
	if ok {
		var e1, e2 error
		r.Start, e1 = ring.ParseToken(start)
		r.End, e2 = ring.ParseToken(end)
		err = errors.Join(e1, e2)
	}
	if !ok || err != nil || r.Start == r.End {
		return r, fmt.Errorf("range %q is not start:end, two different tokens", text)
	}
	return r, nil
}

func hostNamed(text string, s *meta.State) (ring.HostID, error) {
	if id, err := ring.ParseHostID(text); err == nil {
		return id, nil
	}
	addr, err := netip.ParseAddr(text)
	if err == nil {
		for _, m := range s.Members() {
			if m.Internode.Addr() == addr || m.Native.Addr() == addr {
				return m.ID, nil
			}
		}
	}
	return ring.HostID{}, fmt.Errorf("no member has the address or host id %q", text)
}
