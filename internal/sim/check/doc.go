// Package check holds what the simulator's checkers say.
package check
