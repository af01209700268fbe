// Package workload holds what simulated clients do, and what they check.
package workload
