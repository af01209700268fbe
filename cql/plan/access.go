package plan

import (
	"math"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/row"
)

// Access says what a SELECT reads. It aliases the Buffer and the Args it was made with.
type Access struct {
	Commands []row.Command // reads of single partitions, in the order of the answer; none: nothing to read
	Scan     *row.Command  // a read over a token range; Commands is empty then
	Point    bool          // one command that reads at most one row: it may run inline
}

// Many reports whether IN names so many rows that Access is no small thing.
func (s *Select) Many(a *Args) bool { return s.where.many(a) }

// Access computes what to read. It aliases buf and a. Errors are *Error.
func (s *Select) Access(buf *Buffer, a *Args) (Access, error) {
	buf.Reset()
	if len(a.Values) < s.binds {
		return Access{}, invalid("Invalid amount of bind variables")
	}
	sc := buf.begin(a)
	if s.where.scans {
		return s.scanAccess(sc, buf)
	}
	if err := s.where.partitionKeys(sc, buf); err != nil {
		return Access{}, err
	}
	slices, all, err := s.where.clusteringSlices(sc, buf)
	if err != nil || !all && len(slices) == 0 {
		return Access{}, err
	}
	if len(buf.keys)*len(slices) > combinationsMax {
		return Access{}, tooMany()
	}
	acc := Access{Point: len(buf.keys) == 1 && (len(slices) == 1 && slices[0].Point || len(s.table.Clustering) == 0)}
	for _, key := range buf.keys {
		token := s.part.Token(key)
		if s.where.token != nil {
			in, err := s.where.tokenIn(sc, token)
			if err != nil {
				return Access{}, err
			}
			if !in {
				continue
			}
		}
		buf.cmds = append(buf.cmds, row.Command{Token: token, Key: key})
		s.fill(&buf.cmds[len(buf.cmds)-1], a, slices, acc.Point)
	}
	acc.Commands = buf.cmds
	return acc, nil
}

// fill completes a command but for its limits.
func (s *Select) fill(cmd *row.Command, a *Args, slices []row.Slice, point bool) {
	cmd.Generation, cmd.Now = s.table.Generation, a.Now
	cmd.Slices, cmd.Reverse, cmd.WithStatic = slices, s.reverse, s.static
	cmd.Columns = s.columns
	if point {
		cmd.Columns = s.pointCols
	}
}

func (s *Select) scanAccess(sc *scope, buf *Buffer) (Access, error) {
	span, ok, err := s.where.tokenRange(sc)
	if err != nil || !ok {
		return Access{}, err
	}
	slices, all, err := s.where.clusteringSlices(sc, buf)
	if err != nil || !all && len(slices) == 0 {
		return Access{}, err
	}
	buf.span = span
	buf.scan = row.Command{Range: &buf.span}
	s.fill(&buf.scan, sc.args, slices, false)
	return Access{Scan: &buf.scan}, nil
}

// tokenBounds evaluates the token restriction: tokens in (after, until]. ok is false when no token satisfies it.
func (w *where) tokenBounds(sc *scope) (after, until ring.Token, ok bool, err error) {
	after, until = ring.MinToken, ring.MaxToken
	t := w.token
	if t == nil {
		return after, until, true, nil
	}
	lower, upper := t.lower, t.upper
	if t.kind == restrictEq {
		lower = &boundSource{t.eq, t.cols, true}
		upper = lower
	}
	lo, hi := ring.MinToken, ring.MinToken
	if lower != nil {
		if lo, err = w.tokenValue(sc, lower.terms[0]); err != nil {
			return 0, 0, false, err
		}
	}
	if upper != nil {
		if hi, err = w.tokenValue(sc, upper.terms[0]); err != nil {
			return 0, 0, false, err
		}
	}
	if lo != ring.MinToken {
		after = lo
		if lower.inclusive {
			after--
		}
	}
	if hi != ring.MinToken { // the least token as an upper bound is none, as in Cassandra
		until = hi
		if !upper.inclusive {
			until--
		}
	}
	return after, until, after < until, nil
}

func (w *where) tokenValue(sc *scope, t term) (ring.Token, error) {
	v, err := t.eval(sc)
	switch {
	case err != nil:
		return 0, err
	case v.State == protocol.Null:
		return 0, invalid("Invalid null token value")
	case v.State == protocol.Unset:
		return 0, invalid("Invalid unset value for column partition key token")
	}
	n, err := types.DecodeBigint(v.Bytes)
	return ring.Token(n), marshalError(err)
}

// tokenRange returns the range to scan.
func (w *where) tokenRange(sc *scope) (ring.Range, bool, error) {
	after, until, ok, err := w.tokenBounds(sc)
	if err != nil || !ok {
		return ring.Range{}, false, err
	}
	if after == ring.MinToken && until == ring.MaxToken {
		return ring.FullRange(), true, nil
	}
	return ring.Range{Start: after, End: until}, true, nil
}

func (w *where) tokenIn(sc *scope, t ring.Token) (bool, error) {
	after, until, ok, err := w.tokenBounds(sc)
	return ok && t > after && t <= until, err
}

// noLimit stands for no LIMIT.
const noLimit = math.MaxInt64

// evalLimit evaluates LIMIT or PER PARTITION LIMIT.
func evalLimit(sc *scope, t term) (int64, error) {
	if t == nil {
		return noLimit, nil
	}
	v, err := t.eval(sc)
	switch {
	case err != nil:
		return 0, err
	case v.State == protocol.Null:
		return 0, invalid("Invalid null value of limit")
	case v.State == protocol.Unset:
		return noLimit, nil
	}
	n, err := types.DecodeInt(v.Bytes)
	switch {
	case err != nil:
		return 0, invalid("Invalid limit value")
	case n <= 0:
		return 0, invalid("LIMIT must be strictly positive")
	}
	return int64(n), nil
}
