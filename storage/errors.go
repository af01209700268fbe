package storage

import "errors"

var (
	// ErrUnknownTable is returned for a generation that the catalog does not have or that was dropped.
	ErrUnknownTable = errors.New("storage: unknown table generation")
	// ErrDiskFull is returned for writes while the free space is below Options.ReserveBytes. Reads go on, and writes are
	// taken again without a restart when space was freed.
	ErrDiskFull = errors.New("storage: free disk space is below the reserve, writes are refused")
	// ErrStuck is returned for a write to a partition that a fold or purge has held for longer than Options.StripeWait, because it
	// waits for the disk. Nothing of it was added.
	ErrStuck = errors.New("storage: the disk does not answer, the write is refused")
	// ErrTooLarge is returned for a mutation or a batch above its limit. Nothing of it was added.
	ErrTooLarge = errors.New("storage: mutation is too large")
	// ErrLocked is returned by Open and OpenHome, wrapped, when another process has the directory open.
	ErrLocked = errors.New("in use by another process")
	// ErrFormat is returned by Open, wrapped, for a store below the pinned format.
	ErrFormat = errors.New("the store has another format")
	// ErrFailed is returned after a failed fsync or another fatal error of the store: nothing is acknowledged any more.
	ErrFailed = errors.New("storage: the store has failed")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("storage: closed")
	// ErrBadMutation is returned for a mutation whose bytes are malformed. Nothing of it was added.
	ErrBadMutation = errors.New("storage: malformed mutation")
	// ErrBadRecord is returned for a record of another node's snapshot that is malformed or out of its place. Nothing of it was taken.
	ErrBadRecord = errors.New("storage: malformed record")
	// ErrBadCommand is returned for a read command that contradicts itself.
	ErrBadCommand = errors.New("storage: malformed read command")

	errBadKey = errors.New("storage: malformed key")
)
