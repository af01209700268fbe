package plan

import (
	"encoding/binary"
	"math"
	"math/big"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// aggregateKind names the aggregates.
type aggregateKind uint8

const (
	aggCountRows aggregateKind = iota + 1
	aggCount
	aggMin
	aggMax
	aggSum
	aggAvg
)

// aggTerm is the result of an aggregate over the group at hand.
type aggTerm struct {
	fn    *function
	arg   term // nil: count(*)
	index int
}

func (t *aggTerm) eval(sc *scope) (protocol.Value, error) {
	v, err := sc.row.aggs[t.index].result(t.fn)
	if err != nil || v == nil {
		return nullValue(), err
	}
	return setValue(v), nil
}

// aggState is an aggregate in the making.
type aggState struct {
	n       int64
	best    []byte
	integer int64
	big     *big.Int // sums of varints, and of bigints for avg
	floats  floatSum
	decimal decimal // the sum, or the average so far
}

// add takes in the row in view.
func (s *aggState) add(sc *scope, t *aggTerm) error {
	if t.arg == nil {
		s.n++
		return nil
	}
	v, err := t.arg.eval(sc)
	if err != nil || v.State != protocol.Set {
		return err
	}
	return s.addValue(t.fn, v.Bytes)
}

func (s *aggState) addValue(fn *function, v []byte) error {
	switch fn.aggregate {
	case aggMin, aggMax:
		c := 0
		if s.best != nil {
			c = fn.args[0].Compare(v, s.best)
		}
		if s.best == nil || c < 0 && fn.aggregate == aggMin || c > 0 && fn.aggregate == aggMax {
			s.best = append(s.best[:0:0], v...)
			if s.best == nil {
				s.best = []byte{}
			}
		}
	case aggSum, aggAvg:
		return s.addNumber(fn, v)
	}
	s.n++
	return nil
}

func (s *aggState) addNumber(fn *function, v []byte) error {
	n, ok, err := operand(fn.args[0], v)
	if !ok || err != nil {
		return err
	}
	s.n++
	switch {
	case n.decimal != nil && fn.aggregate == aggAvg:
		s.decimal = s.decimal.add(n.decimal.sub(s.decimal).quoByCount(s.n))
	case n.decimal != nil:
		s.decimal = s.decimal.add(*n.decimal)
	case n.big != nil:
		if s.big == nil {
			s.big = new(big.Int)
		}
		s.big.Add(s.big, n.big)
	case n.isFloat:
		s.floats.add(n.float)
	default:
		s.integer += n.integer
		if fn.aggregate == aggAvg {
			if s.big == nil {
				s.big = new(big.Int)
			}
			s.big.Add(s.big, big.NewInt(n.integer))
		}
	}
	return nil
}

func (s *aggState) result(fn *function) ([]byte, error) {
	switch fn.aggregate {
	case aggCountRows, aggCount:
		return binary.BigEndian.AppendUint64(nil, uint64(s.n)), nil
	case aggMin, aggMax:
		return s.best, nil
	case aggSum:
		return s.sum(fn.ret), nil
	}
	return s.average(fn.ret), nil
}

func (s *aggState) sum(t *types.Type) []byte {
	switch t.Kind {
	case types.KindFloat, types.KindDouble:
		return encodeNumber(t, number{isFloat: true, float: s.floats.sum()})
	case types.KindVarint:
		return types.EncodeVarint(bigOf(s.big))
	case types.KindDecimal:
		return s.decimal.encode()
	}
	return encodeNumber(t, number{integer: s.integer})
}

func bigOf(n *big.Int) *big.Int {
	if n == nil {
		return new(big.Int)
	}
	return n
}

func (s *aggState) average(t *types.Type) []byte {
	switch t.Kind {
	case types.KindFloat, types.KindDouble:
		f := 0.0
		if s.n > 0 {
			f = s.floats.average(s.n)
		}
		return encodeNumber(t, number{isFloat: true, float: f})
	case types.KindDecimal:
		return s.decimal.encode()
	}
	sum := bigOf(s.big)
	if s.n > 0 {
		sum = new(big.Int).Quo(sum, big.NewInt(s.n))
	}
	if t.Kind == types.KindVarint {
		return types.EncodeVarint(sum)
	}
	return encodeNumber(t, number{integer: sum.Int64()})
}

// floatSum is a compensated sum, as Cassandra's.
type floatSum struct {
	total, compensation, simple float64

	exact *decimal // the sum, once finite values have made total infinite
}

func (s *floatSum) add(v float64) {
	if s.exact != nil && !math.IsInf(v, 0) && v == v {
		d := s.exact.add(decimalOfFloat(v))
		s.exact = &d
	}
	s.simple += v
	t := v - s.compensation
	r := s.total + t
	s.compensation = (r - s.total) - t
	if s.exact == nil && math.IsInf(r, 0) && !math.IsInf(v, 0) && !math.IsInf(s.total, 0) {
		d := decimalOfFloat(s.total).add(decimalOfFloat(v))
		s.exact = &d
	}
	s.total = r
}

func (s *floatSum) sum() float64 {
	v := s.total - s.compensation
	if math.IsNaN(v) && math.IsInf(s.simple, 0) {
		return s.simple
	}
	return v
}

func (s *floatSum) average(n int64) float64 {
	if s.exact != nil {
		return s.exact.quoByCount(n).float()
	}
	return s.sum() / float64(n)
}

func countRowsFunction() *function {
	return &function{keyspace: systemKeyspace, name: "count_rows", ret: types.Bigint, aggregate: aggCountRows}
}
