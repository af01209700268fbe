package trace

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogRoundTrip: what a node logs is what the session shows, bounded, with times that fit between asking and being answered.
func TestLogRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{Started: time.Now()}
		sent := time.Now()
		time.Sleep(2 * time.Millisecond)
		l := NewLog([16]byte{7})
		for i := range 2 * logEventsMax {
			l.Event("%d%s", i, strings.Repeat("x", 2*logTextMax))
		}
		time.Sleep(3 * time.Millisecond)
		encoded := l.Append(nil)
		time.Sleep(4 * time.Millisecond)
		source := netip.MustParseAddrPort("127.0.0.2:7000")
		if err := s.Answered(source, sent, encoded); err != nil || l.ID() != [16]byte{7} {
			t.Fatal(err)
		}
		events, _ := s.Events()
		if len(events) != logEventsMax {
			t.Fatalf("%d events", len(events))
		}
		for _, e := range events {
			if len(e.Activity) != logTextMax || e.Source != source || e.Elapsed != 0 || e.At != sent.Add(3*time.Millisecond) {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// FuzzAnswered: bytes of another node never panic, and never add more than the bound.
func FuzzAnswered(f *testing.F) {
	l := NewLog([16]byte{1})
	l.Event("seek")
	f.Add(l.Append(nil))
	f.Add([]byte{1, 2, 3})
	f.Add(bytes.Repeat([]byte{0}, 1000))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Session{}
		err := s.Answered(netip.AddrPort{}, time.Now(), b)
		if events, _ := s.Events(); len(events) > logEventsMax || err != nil && len(events) > 0 {
			t.Fatalf("%d events, %v", len(events), err)
		}
	})
}

// TestFinish: late events are handed over once, when the last holder has let go, and only if there are any.
func TestFinish(t *testing.T) {
	told := 0
	late := func(e []Event) { told += len(e) }
	s := &Session{}
	s.Hold()
	s.Hold()
	s.Event("early")
	if events, _ := s.Finish(late); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
	s.Event("late")
	s.Release()
	if told != 0 {
		t.Error("told while somebody holds the session")
	}
	s.Release()
	s.Event("too late")
	s.Hold()
	s.Release()
	if told != 1 {
		t.Errorf("told of %d events", told)
	}
	var none *Session
	none.Event("x")
	none.Hold()
	none.Release()
	var nobody *Log
	nobody.Event("x")
	if err := none.Answered(netip.AddrPort{}, time.Now(), nil); err != nil || len(nobody.Append(nil)) != 0 {
		t.Error("nil records something")
	}
}
