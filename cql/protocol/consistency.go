package protocol

import (
	"fmt"
	"strings"
)

// Consistency is a consistency level, with its number on the wire.
type Consistency uint16

// The consistency levels.
const (
	Any         Consistency = 0x00
	One         Consistency = 0x01
	Two         Consistency = 0x02
	Three       Consistency = 0x03
	Quorum      Consistency = 0x04
	All         Consistency = 0x05
	LocalQuorum Consistency = 0x06
	EachQuorum  Consistency = 0x07
	Serial      Consistency = 0x08
	LocalSerial Consistency = 0x09
	LocalOne    Consistency = 0x0A
	NodeLocal   Consistency = 0x0B
)

var consistencyNames = [...]string{"ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM",
	"EACH_QUORUM", "SERIAL", "LOCAL_SERIAL", "LOCAL_ONE", "NODE_LOCAL"}

// Known reports whether c is a level of the protocol.
func (c Consistency) Known() bool { return int(c) < len(consistencyNames) }

// String returns the level's name, "LOCAL_QUORUM".
func (c Consistency) String() string {
	if c.Known() {
		return consistencyNames[c]
	}
	return fmt.Sprintf("UNKNOWN(%d)", uint16(c))
}

// IsSerial reports whether c is one of the two Paxos levels.
func (c Consistency) IsSerial() bool { return c == Serial || c == LocalSerial }

// IsLocal reports whether c counts replicas of the coordinator's datacenter only.
func (c Consistency) IsLocal() bool {
	return c == LocalOne || c == LocalQuorum || c == LocalSerial || c == NodeLocal
}

// ParseConsistency returns the level of that name, in any case.
func ParseConsistency(s string) (Consistency, error) {
	for i, name := range consistencyNames {
		if strings.EqualFold(s, name) {
			return Consistency(i), nil
		}
	}
	return 0, fmt.Errorf("protocol: unknown consistency level %q", s)
}
