package exec

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/helenusdb/helenus/cql/plan"
	"github.com/helenusdb/helenus/cql/protocol"
	"github.com/helenusdb/helenus/row"
)

// A paging state is drawn in docs/format/paging-state.md:
//
//	| version (1) | kind (1) | content | MAC (16) |
//
// The MAC is HMAC-SHA256, cut to 16 bytes, under the cluster's secret, over everything before it, the id of the statement
// and its bind values. So every node of the cluster takes it, also after a restart, for this statement only.
const (
	stateVersion  = 1
	stateSelect   = 0
	stateDescribe = 1
	macLen        = 16
	stateMax      = 256 << 10 // bytes: two keys of 64 KiB and a clustering position fit
)

var errState = protocol.Errorf(protocol.CodeProtocol, "Invalid value for the paging state")

// mac returns the MAC over content.
func (o *op) mac(content []byte) [macLen]byte {
	secret := o.x.o.Schema.Current().Secret
	h := hmac.New(sha256.New, secret[:])
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(content)))
	h.Write(n[:])
	h.Write(content)
	h.Write(o.stmt.id[:])
	for _, v := range o.args.Values {
		binary.BigEndian.PutUint64(n[:], uint64(len(v.Bytes))<<2|uint64(v.State))
		h.Write(n[:])
		h.Write(v.Bytes)
	}
	return [macLen]byte(h.Sum(nil))
}

// sealState returns the paging state that continues a SELECT at st.
func (o *op) sealState(st *plan.State) []byte {
	dst := []byte{stateVersion, stateSelect}
	dst = binary.AppendVarint(dst, int64(st.Command))
	dst = binary.AppendVarint(dst, st.Remaining)
	dst = binary.AppendVarint(dst, st.Partition)
	dst = st.At.Append(dst)
	return o.seal(dst)
}

func (o *op) seal(content []byte) []byte {
	m := o.mac(content)
	return append(content, m[:]...)
}

// open checks a paging state and returns its content without version and kind.
func (o *op) open(state []byte, kind byte) ([]byte, error) {
	if len(state) < 2+macLen || len(state) > stateMax {
		return nil, errState
	}
	content := state[:len(state)-macLen]
	if m := o.mac(content); !hmac.Equal(m[:], state[len(content):]) {
		return nil, errState
	}
	if content[0] != stateVersion || content[1] != kind {
		return nil, errState
	}
	return content[2:], nil
}

// openState reads what sealState wrote. What it returns aliases state.
func (o *op) openState(state []byte, st *plan.State) error {
	content, err := o.open(state, stateSelect)
	if err != nil {
		return err
	}
	var numbers [3]int64
	for i := range numbers {
		v, n := binary.Varint(content)
		if n <= 0 {
			return errState
		}
		numbers[i], content = v, content[n:]
	}
	at, rest, err := row.DecodePosition(content)
	if err != nil || len(rest) > 0 || numbers[0] < 0 || numbers[0] > 1<<30 {
		return errState
	}
	*st = plan.State{Command: int32(numbers[0]), Remaining: numbers[1], Partition: numbers[2], At: at}
	return nil
}
