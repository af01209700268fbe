package repair

import (
	"time"

	"github.com/helenusdb/helenus/repair/history"
	"github.com/helenusdb/helenus/ring"
	"github.com/helenusdb/helenus/schema"
)

const (
	retryMin = time.Minute // after a session that failed; doubled after each
	retryMax = time.Hour
)

// Job is a range of a table that a node keeps repaired.
type Job struct {
	Task
	At      int64  // when the least of its tokens were last repaired on all replicas, seconds since the epoch; history.None: never
	Before  int64  // the time before which deletions may be purged by that; history.None: none may
	Blocked string // why no session can begin now; empty: one can
	// ByAge: the table's deletions go by their age alone, or never, so that no repair has to vouch for them.
	ByAge bool
}

// jobKey names a job, also after others were cut off it.
type jobKey struct {
	generation schema.Generation
	first      ring.Token
}

func (j *Job) key() jobKey { return jobKey{j.Generation, j.Tokens.First} }

// trial is what became of the last session of a job.
type trial struct {
	failures int
	at       int64     // when it failed, seconds since the epoch
	until    time.Time // none begins before; zero: any time
	why      string    // the error, or what kept it from vouching for deletions, if nothing failed
}

// schedule decides when which job's turn is. It is pure: time and randomness are given. It belongs to one goroutine.
//
// All jobs have their turn within the given time: one session begins per within/n, a little earlier by chance so that nodes do not go in step, the job that was repaired
// longest ago first. Nothing is made up for in a burst: who is late goes on twice as fast.
type schedule struct {
	within time.Duration
	random func() float64 // in [0, 1)
	next   time.Time      // no session begins before; zero: not known yet
	trials map[jobKey]trial
}

func newSchedule(within time.Duration, random func() float64) *schedule {
	return &schedule{within: within, random: random, trials: map[jobKey]trial{}}
}

// pace returns the time between the beginnings of two sessions.
func (s *schedule) pace(n int, late bool) time.Duration {
	d := s.within / time.Duration(max(n, 1))
	d -= time.Duration(s.random() * float64(d) / 4)
	if late {
		d /= 2
	}
	return d
}

// choose returns the job whose turn is at now, false: none's yet.
func (s *schedule) choose(now time.Time, jobs []Job) (int, bool) {
	if s.next.IsZero() {
		s.next = now.Add(time.Duration(s.random() * float64(s.pace(len(jobs), false))))
	}
	if len(jobs) == 0 || now.Before(s.next) {
		return 0, false
	}
	best := -1
	for i := range jobs {
		if jobs[i].Blocked != "" || now.Before(s.trials[jobs[i].key()].until) {
			continue
		}
		if best < 0 || s.since(&jobs[i]) < s.since(&jobs[best]) {
			best = i
		}
	}
	return best, best >= 0
}

// since returns what jobs have their turn in the order of: when one was repaired. One that failed goes behind the half that was repaired longest ago: it must not take the turns
// of all others.
func (s *schedule) since(j *Job) int64 {
	if t, ok := s.trials[j.key()]; ok && t.failures > 0 {
		return max(j.At, t.at-int64(s.within/2/time.Second))
	}
	return j.At
}

// begun takes note of a session that begins at now.
func (s *schedule) begun(now time.Time, j *Job, jobs int) {
	late := j.At != history.None && now.Sub(time.Unix(j.At, 0)) > s.within
	s.next = now.Add(s.pace(jobs, late))
}

// ended takes note of how a session has ended; doubt is why it did not vouch for deletions.
func (s *schedule) ended(now time.Time, j *Job, err error, doubt string) {
	if err == nil {
		delete(s.trials, j.key())
		if doubt != "" {
			s.trials[j.key()] = trial{why: doubt}
		}
		return
	}
	t := s.trials[j.key()]
	pause := min(retryMin<<min(t.failures, 10), retryMax, max(s.within/4, time.Second))
	s.trials[j.key()] = trial{failures: t.failures + 1, at: now.Unix(), until: now.Add(pause), why: err.Error()}
}

// keep forgets what it knows of jobs that there are no more.
func (s *schedule) keep(jobs []Job) {
	if len(s.trials) == 0 {
		return
	}
	left := map[jobKey]trial{}
	for i := range jobs {
		if t, ok := s.trials[jobs[i].key()]; ok {
			left[jobs[i].key()] = t
		}
	}
	s.trials = left
}
