package sim

import (
	"bytes"
	"runtime"
)

// quiesce returns when every goroutine of the bubble but the caller waits for something. The time stands still meanwhile. It is
// synctest.Wait for a caller that may hold locks: whoever waits for one of those counts as resting too. Should somebody never
// rest, it gives up after dumpBytesMax: the run goes on, and only its repetition may differ.
func quiesce() {
	buf := make([]byte, 1<<20)
	for budget := dumpBytesMax; budget > 0; {
		runtime.Gosched()
		n := runtime.Stack(buf, true)
		budget -= n
		if n == len(buf) {
			buf = make([]byte, 2*len(buf))
			continue
		}
		if busy(buf[:n]) == 0 {
			return
		}
	}
}

// dumpBytesMax is how much of dumps is looked through: a run's has about half a megabyte.
const dumpBytesMax = 1 << 30

// busy counts the goroutines of bubbles in a dump that run or could run, without the first, which made the dump.
func busy(dump []byte) int {
	n := 0
	for first := true; len(dump) > 0; first = false {
		line, _, _ := bytes.Cut(dump, []byte("\n"))
		if !first && isBusy(line) {
			n++
		}
		next := bytes.Index(dump, []byte("\n\ngoroutine "))
		if next < 0 {
			break
		}
		dump = dump[next+2:]
	}
	return n
}

// isBusy judges a line like "goroutine 7 [chan receive (durable), synctest bubble 1]:".
func isBusy(line []byte) bool {
	open := bytes.IndexByte(line, '[')
	if open < 0 || !bytes.Contains(line, []byte("synctest bubble")) {
		return false
	}
	status := line[open+1:]
	for _, s := range []string{"running", "runnable", "syscall", "preempted", "copystack", "GC ", "waiting"} {
		if bytes.HasPrefix(status, []byte(s)) {
			return true
		}
	}
	return false
}
