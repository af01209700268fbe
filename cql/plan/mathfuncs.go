package plan

import (
	"cmp"
	"math"
	"math/big"
	"slices"

	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/cql/types"
)

// convert returns n in the form that encodeNumber wants for t.
func (n number) convert(t *types.Type) number {
	switch t.Kind {
	case types.KindFloat, types.KindDouble:
		return number{isFloat: true, float: n.asFloat()}
	case types.KindVarint:
		return number{big: n.asBig()}
	case types.KindDecimal:
		d := n.asDecimal()
		return number{decimal: &d}
	}
	switch {
	case n.isFloat:
		return number{integer: truncated(n.float, t)}
	case n.big != nil, n.decimal != nil:
		return number{integer: low64(n.asBig())}
	}
	return n
}

// truncated converts as Java does: NaN is 0, and what is out of range is the nearest int or long before it is narrowed.
func truncated(f float64, t *types.Type) int64 {
	lo, hi := math.MinInt64, math.MaxInt64
	if t.Kind != types.KindBigint {
		lo, hi = math.MinInt32, math.MaxInt32
	}
	switch {
	case f != f:
		return 0
	case f <= float64(lo):
		return int64(lo)
	case f >= float64(hi):
		return int64(hi)
	}
	return int64(f)
}

// low64 returns the low 64 bits in two's complement.
func low64(n *big.Int) int64 {
	m := new(big.Int).And(n, new(big.Int).SetUint64(math.MaxUint64))
	return int64(m.Uint64())
}

// typeSize is the width by which the type of an operation's result is chosen.
func typeSize(t *types.Type) int {
	switch t.Kind {
	case types.KindTinyint:
		return 1
	case types.KindSmallint:
		return 2
	case types.KindInt, types.KindFloat:
		return 4
	case types.KindBigint, types.KindDouble, types.KindCounter:
		return 8
	}
	return math.MaxInt
}

func floatingPoint(t *types.Type) bool {
	return t.Kind == types.KindFloat || t.Kind == types.KindDouble || t.Kind == types.KindDecimal
}

// operationType returns the type of a op b.
func operationType(a, b *types.Type) *types.Type {
	size := max(typeSize(a), typeSize(b))
	if floatingPoint(a) || floatingPoint(b) {
		switch size {
		case 4:
			return types.Float
		case 8:
			return types.Double
		}
		return types.Decimal
	}
	switch size {
	case 1:
		return types.Tinyint
	case 2:
		return types.Smallint
	case 4:
		return types.Int
	case 8:
		return types.Bigint
	}
	return types.Varint
}

// operatorFunctions are the functions behind + - * / % and negation.
func operatorFunctions(name string) []*function {
	var op byte
	switch name {
	case "_add":
		op = '+'
	case "_substract":
		op = '-'
	case "_multiply":
		op = '*'
	case "_divide":
		op = '/'
	case "_modulo":
		op = '%'
	case "_negate":
		return negations()
	default:
		return nil
	}
	var out []*function
	for _, a := range numericTypes() {
		for _, b := range numericTypes() {
			ret := operationType(a, b)
			out = append(out, native(name, ret, arithmetic(op, a, b, ret), a, b))
		}
	}
	if op == '+' || op == '-' {
		for _, t := range []*types.Type{types.Timestamp, types.Date} {
			out = append(out, native(name, t, addDuration(t, op == '-'), t, types.Duration))
		}
	}
	if op == '+' {
		out = append(out, concatenations(name)...)
	}
	return out
}

func concatenations(name string) []*function {
	concat := func(sc *scope, args [][]byte) ([]byte, error) {
		return slices.Concat(args[0], args[1]), nil
	}
	return []*function{
		native(name, types.Text, concat, types.Text, types.Text),
		native(name, types.Ascii, concat, types.Ascii, types.Ascii),
		native(name, types.Text, concat, types.Ascii, types.Text),
		native(name, types.Text, concat, types.Text, types.Ascii),
	}
}

func negations() []*function {
	var out []*function
	for _, t := range numericTypes() {
		out = append(out, native("_negate", t, func(_ *scope, args [][]byte) ([]byte, error) {
			n, ok, err := operand(t, args[0])
			if !ok || err != nil {
				return nil, err
			}
			return encodeNumber(t, n.negate()), nil
		}, t))
	}
	return out
}

func (n number) negate() number {
	switch {
	case n.decimal != nil:
		return number{decimal: &decimal{new(big.Int).Neg(n.decimal.int()), n.decimal.scale}}
	case n.big != nil:
		return number{big: new(big.Int).Neg(n.big)}
	case n.isFloat:
		return number{isFloat: true, float: -n.float}
	}
	return number{integer: -n.integer}
}

// arithmetic returns the execution of a op b in type ret.
func arithmetic(op byte, a, b, ret *types.Type) func(sc *scope, args [][]byte) ([]byte, error) {
	return func(_ *scope, args [][]byte) ([]byte, error) {
		x, ok, err := operand(a, args[0])
		y, ok2, err2 := operand(b, args[1])
		if err := cmp.Or(err, err2); !ok || !ok2 || err != nil {
			return nil, err
		}
		if why := cmp.Or(x.noDecimal(ret), y.noDecimal(ret)); why != "" {
			return nil, operationFailed(op, a, b, why)
		}
		x, y = x.operandOf(a, ret), y.operandOf(b, ret)
		z, ok := x.calculate(op, y, ret)
		if !ok {
			if x.decimal != nil && op == '%' {
				return nil, operationFailed(op, a, b, "Division by zero")
			}
			if x.big != nil || x.decimal != nil {
				return nil, operationFailed(op, a, b, "BigInteger divide by zero")
			}
			return nil, operationFailed(op, a, b, "/ by zero")
		}
		return encodeNumber(ret, z), nil
	}
}

// operandOf returns n, of type t, in the form that arithmetic in ret wants. Where the result is a decimal, Cassandra takes
// small integers for doubles: 2 is 2.0.
func (n number) operandOf(t, ret *types.Type) number {
	if ret.Kind == types.KindDecimal && typeSize(t) <= typeSize(types.Int) && !floatingPoint(t) {
		d := decimalOfFloat(float64(n.integer))
		return number{decimal: &d}
	}
	return n.convert(ret)
}

// operationFailed is the error of a op b.
func operationFailed(op byte, a, b *types.Type, why string) *Error {
	return &Error{
		Code: protocol.CodeFunctionFailure, Function: operatorFunction(op), ArgTypes: []string{a.String(), b.String()},
		Msg: "the operation '" + a.String() + " " + string(op) + " " + b.String() + "' failed: " + why,
	}
}

// calculate returns x op y; both have the form of t. ok is false for a division by zero.
func (x number) calculate(op byte, y number, t *types.Type) (z number, ok bool) {
	switch {
	case x.decimal != nil:
		d, ok := x.decimal.calculate(op, *y.decimal)
		return number{decimal: &d}, ok
	case x.big != nil:
		n, ok := bigCalculate(op, x.big, y.big)
		return number{big: n}, ok
	case x.isFloat && t.Kind == types.KindFloat:
		return number{isFloat: true, float: float64(float32Calculate(op, float32(x.float), float32(y.float)))}, true
	case x.isFloat:
		return number{isFloat: true, float: floatCalculate(op, x.float, y.float)}, true
	}
	if (op == '/' || op == '%') && y.integer == 0 {
		return z, false
	}
	return number{integer: intCalculate(op, x.integer, y.integer)}, true
}

func intCalculate(op byte, x, y int64) int64 {
	switch op {
	case '+':
		return x + y
	case '-':
		return x - y
	case '*':
		return x * y
	case '/':
		return x / y
	}
	return x % y
}

func floatCalculate(op byte, x, y float64) float64 {
	switch op {
	case '+':
		return x + y
	case '-':
		return x - y
	case '*':
		return x * y
	case '/':
		return x / y
	}
	return math.Mod(x, y)
}

func float32Calculate(op byte, x, y float32) float32 {
	switch op {
	case '+':
		return x + y
	case '-':
		return x - y
	case '*':
		return x * y
	case '/':
		return x / y
	}
	return float32(math.Mod(float64(x), float64(y)))
}

func bigCalculate(op byte, x, y *big.Int) (*big.Int, bool) {
	z := new(big.Int)
	switch op {
	case '+':
		return z.Add(x, y), true
	case '-':
		return z.Sub(x, y), true
	case '*':
		return z.Mul(x, y), true
	}
	if y.Sign() == 0 {
		return z, false
	}
	if op == '/' {
		return z.Quo(x, y), true
	}
	return z.Rem(x, y), true
}

// Scales of decimal division, as Cassandra's.
const (
	divisionScaleMin = 32
	divisionScaleMax = 1000
)

func (d decimal) calculate(op byte, o decimal) (decimal, bool) {
	switch op {
	case '+':
		return d.add(o), true
	case '-':
		return d.sub(o), true
	case '*':
		return d.mul(o), true
	}
	if o.int().Sign() == 0 {
		return d, false
	}
	if op == '%' {
		a, b, scale := d.align(o)
		return decimal{new(big.Int).Rem(a, b), scale}, true
	}
	return d.quo(o), true
}

func precision(n *big.Int) int32 {
	if n.Sign() == 0 {
		return 1
	}
	return int32(len(new(big.Int).Abs(n).String()))
}

// quo divides, rounding half up at a scale that leaves enough digits, and drops zeros at the end.
func (d decimal) quo(o decimal) decimal {
	first := (precision(d.int()) - d.scale) - (precision(o.int()) - o.scale)
	scale := max(divisionScaleMin-first, d.scale, o.scale, divisionScaleMin)
	scale = min(scale, divisionScaleMax)
	a, b := d.int(), o.int()
	if shift := scale - d.scale + o.scale; shift >= 0 {
		a = new(big.Int).Mul(a, pow10(shift))
	} else {
		b = new(big.Int).Mul(b, pow10(-shift))
	}
	return decimal{quoHalfUp(a, b), scale}.strip()
}

func quoHalfUp(a, b *big.Int) *big.Int {
	q, r := new(big.Int).QuoRem(a, b, new(big.Int))
	if r.Lsh(r.Abs(r), 1).CmpAbs(b) >= 0 {
		if (a.Sign() < 0) != (b.Sign() < 0) {
			return q.Sub(q, big.NewInt(1))
		}
		q.Add(q, big.NewInt(1))
	}
	return q
}

// strip drops zeros at the end, as BigDecimal.stripTrailingZeros.
func (d decimal) strip() decimal {
	n := new(big.Int).Set(d.int())
	if n.Sign() == 0 {
		return decimal{}
	}
	ten, r := big.NewInt(10), new(big.Int)
	for {
		q, _ := new(big.Int).QuoRem(n, ten, r)
		if r.Sign() != 0 {
			return decimal{n, d.scale}
		}
		n = q
		d.scale--
	}
}

// mathFunctions are abs, exp, log, log10, round of every numeric type.
func mathFunctions(name string) []*function {
	switch name {
	case "abs", "exp", "log", "log10", "round":
	default:
		return nil
	}
	var out []*function
	for _, t := range numericTypes() {
		ret := t
		out = append(out, native(name, ret, func(_ *scope, args [][]byte) ([]byte, error) {
			n, ok, err := operand(t, args[0])
			if !ok || err != nil {
				return nil, err
			}
			return mathExec(name, t, n)
		}, t))
	}
	return out
}

func mathExec(name string, t *types.Type, n number) ([]byte, error) {
	switch name {
	case "abs":
		if n.negative() {
			n = n.negate()
		}
		return encodeNumber(t, n), nil
	case "round":
		return encodeNumber(t, n.round(t)), nil
	}
	if t.Kind == types.KindDecimal || t.Kind == types.KindVarint {
		return nil, notYet(name + " of " + t.String() + " values")
	}
	f := n.asFloat()
	switch name {
	case "exp":
		f = math.Exp(f)
	case "log":
		f = math.Log(f)
	default:
		f = log10(f)
	}
	return encodeNumber(t, number{isFloat: true, float: f}.convert(t)), nil
}

// log10 is that of fdlibm, and so Java's: math.Log10 may differ in the last bit.
func log10(x float64) float64 {
	const (
		ivln10    = 4.34294481903251816668e-01
		log10of2H = 3.01029995663611771306e-01
		log10of2L = 3.69423907715893078616e-13
	)
	if x <= 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return math.Log10(x)
	}
	frac, exp := math.Frexp(x) // x = frac * 2^exp, frac in [0.5, 1)
	k := exp - 1
	frac *= 2
	if k < 0 {
		k++
		frac /= 2
	}
	y := float64(k)
	return y*log10of2L + ivln10*math.Log(frac) + y*log10of2H
}

func (n number) negative() bool {
	switch {
	case n.decimal != nil:
		return n.decimal.int().Sign() < 0
	case n.big != nil:
		return n.big.Sign() < 0
	case n.isFloat:
		return math.Signbit(n.float)
	}
	return n.integer < 0
}

// round rounds to an integer: floats half up like Java's Math.round, decimals half up away from zero.
func (n number) round(t *types.Type) number {
	switch {
	case n.decimal != nil && n.decimal.scale > 0:
		d := decimal{quoHalfUp(n.decimal.int(), pow10(n.decimal.scale)), 0}
		return number{decimal: &d}
	case n.decimal != nil:
		d := decimal{n.decimal.truncate(), 0}
		return number{decimal: &d}
	case n.isFloat && t.Kind == types.KindFloat:
		return number{isFloat: true, float: float64(truncated(math.Floor(n.float+0.5), types.Int))}
	case n.isFloat:
		return number{isFloat: true, float: float64(truncated(math.Floor(n.float+0.5), types.Bigint))}
	}
	return n
}
