package types

import (
	"bytes"
	"math/big"
	"testing"
)

func BenchmarkTypes(b *testing.B) {
	u := []byte{0xd2, 0x17, 0x7d, 0xd0, 0xea, 0xa2, 0x11, 0xde, 0xa5, 0x72, 0, 0x1b, 0x77, 0x9c, 0x76, 0xe3}
	buf := make([]byte, 0, 256)
	for _, c := range []struct {
		typ *Type
		v   []byte
	}{
		{Int, EncodeInt(1)}, {Bigint, EncodeBigint(1)}, {Text, bytes.Repeat([]byte("text "), 7)}, {Uuid, u}, {Timeuuid, u},
		{Decimal, EncodeDecimal(big.NewInt(123456), 2)}, {ListOf(Int, true), ListOf(Int, true).AppendCollection(nil, [][]byte{EncodeInt(1), EncodeInt(2)})},
	} {
		key := c.typ.AppendKey(nil, c.v, false)
		b.Run("Validate/"+c.typ.String(), func(b *testing.B) {
			for b.Loop() {
				_ = c.typ.Validate(c.v)
			}
		})
		b.Run("Compare/"+c.typ.String(), func(b *testing.B) {
			for b.Loop() {
				c.typ.Compare(c.v, c.v)
			}
		})
		b.Run("AppendKey/"+c.typ.String(), func(b *testing.B) {
			for b.Loop() {
				c.typ.AppendKey(buf, c.v, false)
			}
		})
		b.Run("AppendFromKey/"+c.typ.String(), func(b *testing.B) {
			for b.Loop() {
				_, _, _ = c.typ.AppendFromKey(buf, key, false)
			}
		})
	}
}
