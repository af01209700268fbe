package workload

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/internal/sim/check"
)

const (
	writers    = 8
	askTimeout = 12 * time.Second
)

// registers is one writer per register, at QUORUM, and reads of all by all.
type registers struct {
	ops  atomic.Int64
	mu   sync.Mutex
	bad  []check.Violation
	regs [writers]register
}

type register struct{ acked, tried int64 } // highest values

func (*registers) Name() string { return "registers" }
func (r *registers) Ops() int64 { return r.ops.Load() }

func (r *registers) Setup(ctx context.Context, env Env) error {
	for _, text := range []string{
		"CREATE KEYSPACE IF NOT EXISTS regs WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
		"CREATE TABLE IF NOT EXISTS regs.r (k int PRIMARY KEY, v bigint)",
	} {
		if _, err := insist(ctx, env, text, nil, 0); err != nil {
			return err
		}
	}
	return nil
}

func insist(ctx context.Context, env Env, text string, values []protocol.Value, ts int64) (v int64, err error) {
	for try := range 60 {
		var c *conn
		if c, err = dial(ctx, env, try%env.Nodes()); err == nil {
			v, err = c.ask(text, values, ts)
			_ = c.nc.Close()
			if err == nil {
				return v, nil
			}
		}
		time.Sleep(time.Second)
	}
	return 0, err
}

func (r *registers) Run(ctx context.Context, env Env) error {
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { r.client(ctx, env, i, env.Rand(fmt.Sprint(i))) })
	}
	wg.Wait()
	return nil
}

func (r *registers) client(ctx context.Context, env Env, me int, rnd *rand.Rand) {
	conns := make([]*conn, env.Nodes())
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.nc.Close()
			}
		}
	}()
	var seen [writers]int64
	for ctx.Err() == nil {
		time.Sleep(1 + time.Duration(rnd.Int64N(int64(10*time.Millisecond))))
		node := rnd.IntN(len(conns))
		if conns[node] == nil {
			c, err := dial(ctx, env, node)
			if err != nil {
				continue
			}
			conns[node] = c
		}
		var err error
		if rnd.IntN(2) == 0 {
			err = r.write(env, conns[node], me)
		} else {
			k := rnd.IntN(writers)
			var v int64
			if v, err = r.read(env, conns[node], k); err == nil {
				if v < seen[k] {
					r.wrong("monotonic", "client %d: register %d went back from %d to %d", me, k, seen[k], v)
				}
				seen[k] = v
			}
		}
		r.ops.Add(1)
		if _, told := err.(*protocol.Error); err != nil && !told {
			_ = conns[node].nc.Close()
			conns[node] = nil
		}
	}
}

func key(k int) protocol.Value {
	return protocol.Value{Bytes: binary.BigEndian.AppendUint32(nil, uint32(k))}
}

func (r *registers) write(env Env, c *conn, k int) error {
	r.mu.Lock()
	r.regs[k].tried++
	v := r.regs[k].tried
	r.mu.Unlock()
	_, err := c.ask("UPDATE regs.r SET v = ? WHERE k = ?", []protocol.Value{{Bytes: binary.BigEndian.AppendUint64(nil, uint64(v))}, key(k)}, v)
	env.Record("write", "%d = %d: %v", k, v, err)
	if err == nil {
		r.mu.Lock()
		r.regs[k].acked = max(r.regs[k].acked, v)
		r.mu.Unlock()
	}
	return err
}

func (r *registers) read(env Env, c *conn, k int) (int64, error) {
	r.mu.Lock()
	low := r.regs[k].acked
	r.mu.Unlock()
	v, err := c.ask("SELECT v FROM regs.r WHERE k = ?", []protocol.Value{key(k)}, 0)
	env.Record("read", "%d is %d: %v", k, v, err)
	r.mu.Lock()
	high := r.regs[k].tried
	r.mu.Unlock()
	if err == nil && (v < low || v > high) {
		r.wrong("durability", "register %d is %d: acknowledged %d, written up to %d", k, v, low, high)
	}
	return v, err
}

func (r *registers) wrong(checker, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = append(r.bad, check.Violation{Checker: checker, What: fmt.Sprintf(format, args...)})
}

func (r *registers) Verify(ctx context.Context, env Env) []check.Violation {
	for k := range r.regs {
		v, err := insist(ctx, env, "SELECT v FROM regs.r WHERE k = ?", []protocol.Value{key(k)}, 0)
		if err != nil || v < r.regs[k].acked || v > r.regs[k].tried {
			r.wrong("durability", "in the end register %d is %d (%v): acknowledged %d, written up to %d", k, v, err, r.regs[k].acked, r.regs[k].tried)
		}
	}
	return r.bad
}

// conn is a connection of protocol v4.
type conn struct {
	nc     net.Conn
	reader *protocol.FrameReader
}

func dial(ctx context.Context, env Env, node int) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	nc, err := env.Dial(ctx, node)
	if err != nil {
		return nil, err
	}
	c := &conn{nc, protocol.NewFrameReader(protocol.ReaderOptions{Client: true})}
	f, err := c.exchange(protocol.AppendStartup(nil, protocol.V4, 0, []protocol.StringPair{{Key: "CQL_VERSION", Value: "3.0.0"}}))
	if err == nil && f.Header.Op != protocol.OpReady {
		err = fmt.Errorf("STARTUP: %s", f.Header.Op)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) exchange(b []byte) (protocol.Frame, error) {
	_ = c.nc.SetDeadline(time.Now().Add(askTimeout))
	if _, err := c.nc.Write(b); err != nil {
		return protocol.Frame{}, err
	}
	return c.reader.ReadFrame(c.nc)
}

// ask returns the first value of the first row as a number, 0 when there is none.
func (c *conn) ask(text string, values []protocol.Value, ts int64) (int64, error) {
	p := &protocol.QueryParams{Consistency: protocol.Quorum, Values: values, PageSize: protocol.NoPageSize, SerialConsistency: protocol.Serial,
		Timestamp: protocol.NoTimestamp, NowInSeconds: protocol.NoNowInSeconds}
	if ts != 0 {
		p.Timestamp, p.Flags = ts, protocol.QueryTimestamp
	}
	f, err := c.exchange(protocol.AppendQuery(nil, protocol.V4, 1, 0, text, p))
	if err != nil {
		return 0, err
	}
	if f.Header.Op == protocol.OpError {
		e, err := protocol.DecodeError(protocol.V4, f.Body)
		if err != nil {
			return 0, err
		}
		return 0, e
	}
	res, err := protocol.DecodeResult(protocol.V4, f.Body)
	if err != nil || res.Kind != protocol.ResultRows || !res.Rows.Next() {
		return 0, err
	}
	var v int64
	for _, b := range res.Rows.Value(0) {
		v = v<<8 | int64(b)
	}
	return v, nil
}
