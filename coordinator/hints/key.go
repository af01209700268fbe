package hints

import (
	"time"

	"github.com/helenusdb/helenus/ring"
)

// ParseKey returns the target of a stored hint and when its write was made; false: it is no key of a hint.
func ParseKey(key []byte) (to ring.HostID, at time.Time, ok bool) {
	if len(key) != keyLen {
		return to, at, false
	}
	return ring.HostID(key[:16]), time.UnixMicro(keyTime(key)), true
}
