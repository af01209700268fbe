package repair

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/helenusdb/helenus/repair/history"
)

const (
	// lookMax is the longest time between two looks whether a session's turn has come, lookMin the shortest.
	lookMax = 10 * time.Second
	lookMin = 10 * time.Millisecond
	// patienceMax is how long a session is put off at most because the node is busy.
	patienceMax = 10 * time.Minute
	// stepPause is how long a scheduled session waits before a step while the node is busy, and pausesMax how often.
	stepPause = 200 * time.Millisecond
	pausesMax = 3000
)

// SchedulerOptions are those of NewScheduler.
type SchedulerOptions struct {
	Service *Service      // required
	Within  time.Duration // in which every range has its turn; 0: there is no scheduler
	// Jobs returns the ranges that this node keeps repaired, in an order that depends on nothing but the metadata; the caller may write to the list. It may be called
	// from several goroutines. Required.
	Jobs func() []Job
	// Busy tells whether the node has so much to do that repair steps back. Required.
	Busy   func() bool
	Random func() float64   // in [0, 1); required
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default: discard
}

// SchedulerMetrics may be read at any time.
type SchedulerMetrics struct {
	Sessions, Failed atomic.Int64 // begun by the scheduler, and those of them that failed
	SteppedBack      atomic.Int64 // times that one was put off, or paused, because the node was busy
}

// Scheduler repairs all ranges of which a node is the first replica, again and again, one at a time. What it knows is what is recorded, so that a restart begins nothing anew.
type Scheduler struct {
	o       SchedulerOptions
	metrics SchedulerMetrics
	busy    time.Time // since when the session whose turn it is has been put off; zero: it has not been; of Run

	mu   sync.Mutex // guards plan; held for computation only
	plan *schedule
}

// JobStatus says how a job stands.
type JobStatus struct {
	Job
	Why string // why it is not repaired, or not vouched for; empty: it is
}

// NewScheduler returns a scheduler that does nothing before Run.
func NewScheduler(o SchedulerOptions) *Scheduler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Scheduler{o: o, plan: newSchedule(o.Within, o.Random)}
}

// Metrics returns the counters.
func (s *Scheduler) Metrics() *SchedulerMetrics { return &s.metrics }

// Status returns how the jobs stand now.
func (s *Scheduler) Status() []JobStatus {
	jobs := s.o.Jobs()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]JobStatus, len(jobs))
	for i := range jobs {
		out[i] = JobStatus{jobs[i], s.why(&jobs[i])}
	}
	return out
}

// Run repairs until ctx ends. Nothing is under way when it returns.
func (s *Scheduler) Run(ctx context.Context) error {
	look := lookMax
	if s.o.Within > 0 {
		look = min(look, max(s.o.Within/16, 10*time.Millisecond))
	}
	for wait(ctx, s.until(look)) {
		s.look(ctx)
	}
	return nil
}

// until returns how long to wait for the next turn: no longer than look, in which what jobs there are, and why not, may change.
func (s *Scheduler) until(look time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := s.plan.next.Sub(s.o.Now()); left > 0 && s.o.Within > 0 {
		return min(look, max(left, lookMin))
	}
	return look
}

// look begins a session whose turn has come and waits for it.
func (s *Scheduler) look(ctx context.Context) {
	if s.o.Within <= 0 {
		return
	}
	jobs, now := s.o.Jobs(), s.o.Now()
	job, ok := s.choose(now, jobs)
	if !ok || s.putOff(now) {
		return
	}
	report, err := s.o.Service.scheduled(ctx, job.Task, s.pauses())
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrStopped) || ctx.Err() != nil {
		return // an operator's repair goes first
	}
	s.metrics.Sessions.Add(1)
	if err != nil {
		s.metrics.Failed.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.begun(now, job, len(jobs))
	s.plan.ended(s.o.Now(), job, err, report.Doubt())
}

func (s *Scheduler) choose(now time.Time, jobs []Job) (*Job, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan.keep(jobs)
	i, ok := s.plan.choose(now, jobs)
	if !ok {
		return nil, false
	}
	return &jobs[i], true
}

// putOff tells whether the node is too busy for a session, for some time.
func (s *Scheduler) putOff(now time.Time) bool {
	if !s.o.Busy() {
		s.busy = time.Time{}
		return false
	}
	if s.busy.IsZero() {
		s.busy = now
	}
	if now.Sub(s.busy) >= min(patienceMax, s.o.Within/4) {
		s.busy = time.Time{}
		return false
	}
	s.metrics.SteppedBack.Add(1)
	return true
}

// pauses returns what a session calls before each step: it waits a moment while the node is busy, so often at most.
func (s *Scheduler) pauses() func(context.Context) {
	left := pausesMax
	return func(ctx context.Context) {
		if left > 0 && s.o.Busy() {
			left--
			s.metrics.SteppedBack.Add(1)
			wait(ctx, stepPause)
		}
	}
}

// why says what a job lacks; mu is held.
func (s *Scheduler) why(j *Job) string {
	t := s.plan.trials[j.key()]
	switch {
	case j.Blocked != "":
		return j.Blocked
	case t.why != "" && (t.failures > 0 || !j.ByAge): // else it is a doubt, of when its deletions went by repairs
		return t.why
	case s.o.Within <= 0 && j.At == history.None:
		return "repair_within is 0: nobody repairs by itself"
	case j.At == history.None:
		return "its turn has not come yet"
	case j.Before == history.None && !j.ByAge:
		return "the last repair could not vouch for deletions"
	}
	return ""
}

// scheduled repairs one range, with pauses before its steps. Errors: ErrBusy while an operator's repair goes on, ErrStopped, and what keeps the range from being repaired.
func (s *Service) scheduled(ctx context.Context, t Task, pause func(context.Context)) (*TableReport, error) {
	ctx, done, err := s.begin(ctx, true)
	if err != nil {
		return nil, err
	}
	defer done()
	report, _ := newReport([]Task{t})
	table := report.Tables[0]
	return table, s.task(ctx, &Spec{Primary: true, pause: pause}, &t, table, s.o.Cluster.Epoch())
}
