package plan

import (
	"math"
	"math/big"

	"github.com/helenusdb/helenus/cql/types"
)

// number is a value of a numeric type: exactly one of its forms.
type number struct {
	integer int64
	float   float64
	isFloat bool
	big     *big.Int
	decimal *decimal
}

// decimal is unscaled * 10^-scale, as Java's BigDecimal. The zero value is 0.
type decimal struct {
	unscaled *big.Int // nil: 0
	scale    int32
}

func (d decimal) int() *big.Int {
	if d.unscaled == nil {
		return new(big.Int)
	}
	return d.unscaled
}

func (d decimal) encode() []byte { return types.EncodeDecimal(d.int(), d.scale) }

// Numbers that functions calculate with are bounded: the cost of an operation grows with the digits of its operands and
// with how far their scales are apart.
const (
	decimalScaleMax = 10_000
	numberBitsMax   = 1 << 18
)

// tooWide reports whether n is beyond what functions calculate with.
func (n number) tooWide() bool {
	switch {
	case n.decimal != nil:
		return n.decimal.scale > decimalScaleMax || n.decimal.scale < -decimalScaleMax || n.decimal.int().BitLen() > numberBitsMax
	case n.big != nil:
		return n.big.BitLen() > numberBitsMax
	}
	return false
}

// errTooWide is the error of calculating with such a number.
func errTooWide() error {
	return invalid("Numbers of more than %d bits or a scale beyond %d cannot be calculated with", numberBitsMax, decimalScaleMax)
}

// operand decodes a numeric argument of a function; ok is false for an empty one, which counts as null.
func operand(t *types.Type, v []byte) (n number, ok bool, err error) {
	n, ok = numberOf(t, v)
	if ok && n.tooWide() {
		err = errTooWide()
	}
	return n, ok, err
}

func pow10(n int32) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// align returns both unscaled values at the larger scale.
func (d decimal) align(o decimal) (a, b *big.Int, scale int32) {
	a, b = d.int(), o.int()
	switch {
	case d.scale < o.scale:
		a = new(big.Int).Mul(a, pow10(o.scale-d.scale))
		return a, b, o.scale
	case d.scale > o.scale:
		b = new(big.Int).Mul(b, pow10(d.scale-o.scale))
	}
	return a, b, d.scale
}

func (d decimal) add(o decimal) decimal {
	a, b, scale := d.align(o)
	return decimal{new(big.Int).Add(a, b), scale}
}

func (d decimal) sub(o decimal) decimal {
	a, b, scale := d.align(o)
	return decimal{new(big.Int).Sub(a, b), scale}
}

func (d decimal) mul(o decimal) decimal {
	return decimal{new(big.Int).Mul(d.int(), o.int()), d.scale + o.scale}
}

// quoByCount divides by n, keeping the scale and rounding half to even.
func (d decimal) quoByCount(n int64) decimal {
	return decimal{quoHalfEven(d.int(), big.NewInt(n)), d.scale}
}

// quoHalfEven returns a / b rounded to the nearest, ties to even.
func quoHalfEven(a, b *big.Int) *big.Int {
	q, r := new(big.Int).QuoRem(a, b, new(big.Int))
	twice := new(big.Int).Abs(r)
	twice.Lsh(twice, 1)
	c := twice.CmpAbs(b)
	if c > 0 || c == 0 && q.Bit(0) == 1 {
		if (a.Sign() < 0) != (b.Sign() < 0) {
			q.Sub(q, big.NewInt(1))
		} else {
			q.Add(q, big.NewInt(1))
		}
	}
	return q
}

func (d decimal) float() float64 {
	f, _ := new(big.Float).SetString(decimalText(d))
	if f == nil {
		return math.NaN()
	}
	v, _ := f.Float64()
	return v
}

// decimalText returns d so that big.Float reads it.
func decimalText(d decimal) string {
	return d.int().String() + "e" + big.NewInt(-int64(d.scale)).String()
}

// numberOf decodes a numeric value; false for an empty one, which counts as null.
func numberOf(t *types.Type, v []byte) (number, bool) {
	if len(v) == 0 {
		return number{}, false
	}
	switch t.Kind {
	case types.KindTinyint:
		n, err := types.DecodeTinyint(v)
		return number{integer: int64(n)}, err == nil
	case types.KindSmallint:
		n, err := types.DecodeSmallint(v)
		return number{integer: int64(n)}, err == nil
	case types.KindInt:
		n, err := types.DecodeInt(v)
		return number{integer: int64(n)}, err == nil
	case types.KindBigint, types.KindCounter, types.KindTimestamp:
		n, err := types.DecodeBigint(v)
		return number{integer: n}, err == nil
	case types.KindFloat:
		f, err := types.DecodeFloat(v)
		return number{isFloat: true, float: float64(f)}, err == nil
	case types.KindDouble:
		f, err := types.DecodeDouble(v)
		return number{isFloat: true, float: f}, err == nil
	case types.KindVarint:
		n, err := types.DecodeVarint(v)
		return number{big: n}, err == nil
	case types.KindDecimal:
		n, scale, err := types.DecodeDecimal(v)
		return number{decimal: &decimal{n, scale}}, err == nil
	}
	return number{}, false
}

// encodeNumber encodes n, which has the form of t but for the width: integers wrap around.
func encodeNumber(t *types.Type, n number) []byte {
	switch t.Kind {
	case types.KindTinyint:
		return types.EncodeTinyint(int8(n.integer))
	case types.KindSmallint:
		return types.EncodeSmallint(int16(n.integer))
	case types.KindInt:
		return types.EncodeInt(int32(n.integer))
	case types.KindFloat:
		if n.float != n.float {
			return []byte{0x7F, 0xC0, 0, 0} // Java's NaN
		}
		return types.EncodeFloat(float32(n.float))
	case types.KindDouble:
		if n.float != n.float {
			return []byte{0x7F, 0xF8, 0, 0, 0, 0, 0, 0}
		}
		return types.EncodeDouble(n.float)
	case types.KindVarint:
		return types.EncodeVarint(n.asBig())
	case types.KindDecimal:
		return n.asDecimal().encode()
	}
	return types.EncodeBigint(n.integer)
}

func (n number) asBig() *big.Int {
	switch {
	case n.big != nil:
		return n.big
	case n.decimal != nil:
		return n.decimal.truncate()
	case n.isFloat:
		return big.NewInt(truncated(n.float, types.Bigint)) // as Cassandra does, by way of a bigint
	}
	return big.NewInt(n.integer)
}

// truncate returns the integer part.
func (d decimal) truncate() *big.Int {
	if d.scale <= 0 {
		return new(big.Int).Mul(d.int(), pow10(-d.scale))
	}
	return new(big.Int).Quo(d.int(), pow10(d.scale))
}

func (n number) asDecimal() decimal {
	switch {
	case n.decimal != nil:
		return *n.decimal
	case n.big != nil:
		return decimal{n.big, 0}
	case n.isFloat:
		return decimalOfFloat(n.float)
	}
	return decimal{big.NewInt(n.integer), 0}
}

func (n number) asFloat() float64 {
	switch {
	case n.decimal != nil:
		return n.decimal.float()
	case n.big != nil:
		f, _ := new(big.Float).SetInt(n.big).Float64()
		return f
	case n.isFloat:
		return n.float
	}
	return float64(n.integer)
}

// noDecimal returns why n cannot become a t, a decimal; "" when it can, or t is something else.
func (n number) noDecimal(t *types.Type) string {
	switch {
	case t.Kind != types.KindDecimal || !n.isFloat:
		return ""
	case math.IsNaN(n.float):
		return "A NaN cannot be converted into a decimal"
	case math.IsInf(n.float, 0):
		return "An infinite number cannot be converted into a decimal"
	}
	return ""
}

// decimalOfFloat is Java's BigDecimal.valueOf(double): the digits of the shortest text of f.
func decimalOfFloat(f float64) decimal { return decimalOfText(types.Double, types.EncodeDouble(f)) }

// decimalOfText returns the digits of the shortest text of v, a value of t.
func decimalOfText(t *types.Type, v []byte) decimal {
	v, err := types.Decimal.ParseLiteral(string(t.AppendText(nil, v)))
	if err != nil {
		return decimal{}
	}
	n, scale, err := types.DecodeDecimal(v)
	if err != nil {
		return decimal{}
	}
	return decimal{n, scale}
}
