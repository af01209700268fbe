// Package eras counts what is under way by the RingEpoch that it was planned under, so that one can wait until nothing of an older plan is left:
// docs/design/0009-movement.md, F2 and F5. It knows nothing of what is counted.
package eras
