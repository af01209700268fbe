// Package trace records what one request did: a Session collects events in memory, and whoever began it writes them to
// system_traces when the request has been answered. A nil *Session records nothing, so that callers need no condition.
package trace
