// Package e2e tests Helenus as its users meet it: real processes of the built binary, stock drivers and cqlsh, kill -9,
// stopped processes, full disks, copied images. Every test starts its own cluster on loopback addresses of its own.
// The tests run when HELENUS_E2E=1 and HELENUS_BIN names the binary (scripts/test.sh e2e sets both), and need
// HELENUS_PYTHON, a Python with the pinned driver; tests of runtimes that a machine lacks are skipped with a notice.
//
// Only tests live here; nothing may import it.
package e2e
