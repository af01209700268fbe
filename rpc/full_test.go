package rpc

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/helenusdb/helenus/ring"
)

// Verbs of the blunt session.
const (
	verbSmall    Verb = iota + 64 // answers with two bytes
	verbLarge                     // answers with the body
	verbRead                      // likewise, by ReplyRead
	verbExplain                   // fails, with the body as its text
	verbDisown                    // is no owner, with the body as its text
	verbReject                    // is a bad request, with the body as its text
	verbTooLarge                  // answers with more than BodyMax
	verbReadTooLarge
)

// blunt answers at once.
type blunt struct{}

func (blunt) Handle(req *Request, rsp Responder) {
	switch req.Verb {
	case verbSmall:
		rsp.Reply(StatusOK, []byte("ok"))
	case verbLarge:
		rsp.Reply(StatusOK, req.Body)
	case verbRead:
		rsp.ReplyRead(req.Body)
	case verbExplain:
		rsp.Reply(StatusFailed, req.Body)
	case verbDisown:
		rsp.Reply(StatusNotOwner, req.Body)
	case verbReject:
		rsp.Reply(StatusBadRequest, req.Body)
	case verbTooLarge:
		rsp.Reply(StatusOK, make([]byte, BodyMax+1))
	case verbReadTooLarge:
		rsp.ReplyRead(make([]byte, BodyMax+1))
	}
}

func (blunt) Flush() {}
func (blunt) Close() {}

// An answer for which the queue has no room may get lost, and may be cut short, but says nothing that is not true: above all
// not that a request which was handled had no effect (C3).
func TestAFullQueueDeniesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		b := f.add(2, func(o *Options) {
			o.Data = Limits{QueueBytes: 16 << 10, InFlight: 1000}
			o.NewSession = func(ring.HostID, Class) Session { return blunt{} }
		})
		mustCall(t, a, 2, Data, verbSmall, nil)
		f.net.Cut(hostName(2), hostName(1))
		body := bytes.Repeat([]byte("x"), 4<<10)
		deadline := time.Now().Add(3 * time.Second)
		ask := func(verb Verb, size int) *once {
			o := newOnce()
			a.Send(hostID(2), Data, verb, deadline, body[:size], o)
			synctest.Wait() // handled, and what the network holds of the answer is written
			return o
		}
		var fill []*once
		for range 100 { // beyond what the network holds
			fill = append(fill, ask(verbLarge, len(body)))
		}
		for range 100 { // to the last hole
			fill = append(fill, ask(verbLarge, answerAlways+1))
		}
		outcome := map[Verb]*once{}
		for _, v := range []Verb{verbSmall, verbLarge, verbRead, verbExplain, verbDisown, verbReject} {
			outcome[v] = ask(v, len(body))
		}
		traced := newOnce()
		a.SendTraced([16]byte{1}, hostID(2), Data, verbSmall, deadline, nil, traced)
		synctest.Wait()
		f.net.Heal(hostName(2), hostName(1))
		time.Sleep(4 * time.Second)
		synctest.Wait()
		for i, o := range fill {
			if o.count.Load() != 1 || o.rsp.Err == nil && o.rsp.Status != StatusOK {
				t.Errorf("request %d of those that filled the queue ended %d times, %v, %v", i, o.count.Load(), o.rsp.Status, o.rsp.Err)
			}
		}
		for v, want := range map[Verb]struct {
			status Status
			body   string
		}{verbSmall: {StatusOK, "ok"}, verbRead: {StatusOverloaded, ""}, verbExplain: {StatusFailed, ""}, verbReject: {StatusOverloaded, ""}} {
			if o := outcome[v]; o.count.Load() != 1 || o.rsp.Err != nil || o.rsp.Status != want.status || string(o.rsp.Body) != want.body {
				t.Errorf("verb %d: ended %d times, %v, %d bytes, %v", v, o.count.Load(), o.rsp.Status, len(o.rsp.Body), o.rsp.Err)
			}
		}
		for _, v := range []Verb{verbLarge, verbDisown} {
			var e *Error
			if o := outcome[v]; o.count.Load() != 1 || !errors.As(o.rsp.Err, &e) || !errors.Is(e, ErrTimeout) || !e.Sent {
				t.Errorf("verb %d: ended %d times, %v, %v", v, o.count.Load(), o.rsp.Status, o.rsp.Err)
			}
		}
		if traced.count.Load() != 1 || traced.rsp.Err != nil || string(traced.rsp.Body) != "ok" || len(traced.rsp.Trace) > 0 {
			t.Errorf("traced: %v, %q, trace %q, %v", traced.rsp.Status, traced.rsp.Body, traced.rsp.Trace, traced.rsp.Err)
		}
		if n := b.Metrics().class(Data).Unanswered.Load(); n < 2 || n > int64(len(fill)) {
			t.Errorf("%d answers found no room", n)
		}
	})
}

// An answer that is too large says so where that hides nothing.
func TestAnswersThatAreTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		a := f.add(1, nil)
		f.add(2, func(o *Options) { o.NewSession = func(ring.HostID, Class) Session { return blunt{} } })
		for verb, text := range map[Verb]string{verbTooLarge: "", verbReadTooLarge: "too large"} {
			got, status, err := a.Call(t.Context(), hostID(2), Data, verb, nil)
			if err != nil || status != StatusFailed || (text == "") != (len(got) == 0) || !strings.Contains(string(got), text) {
				t.Errorf("verb %d: %v, %q, %v", verb, status, got, err)
			}
		}
	})
}
