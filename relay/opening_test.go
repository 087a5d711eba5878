package relay

import "testing"

// Success is answered when the port is bound and not before; a port that another program has is
// passed over, and after some tries the relay gives up.
func TestPortsAreBoundBeforeSuccess(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "refresh", d.refresh(), 437) // gets a nonce
	h.hold = true
	if m := d.allocate(); m != nil || d.published() != nil || len(h.held) != 1 {
		t.Fatalf("answered before the port was bound: %+v", m)
	}
	if m := d.allocate(); m != nil || len(h.held) != 1 || h.s.Counters().Event(EventOpening) != 1 {
		t.Errorf("a repeated request: %+v", m)
	}
	wants(t, "refresh before the port is bound", d.refresh(), 437)
	h.answers = nil
	h.failing = maxOpenTries - 1
	h.release()
	if len(h.answers) != 1 || h.answers[0].m.Code != 0 || d.published() == nil {
		t.Errorf("after some failures: %+v", h.answers)
	}
	e := h.device("192.0.2.1:1001", "b")
	h.failing = maxOpenTries
	wants(t, "when nothing can be bound", e.allocate(), 508)
	wants(t, "afterwards", e.allocate(), 0)
	if n := h.s.Counters().Event(EventOpenFailed); n != 2*maxOpenTries-1 {
		t.Errorf("%d failures counted", n)
	}
}

// An allocation that is replaced while its port is being bound is closed as soon as it is.
func TestReplacedWhileOpening(t *testing.T) {
	h := newHarness(t, nil)
	d, moved := h.device("192.0.2.1:1000", "a"), h.device("192.0.2.1:1001", "a")
	d.refresh()
	moved.refresh()
	h.hold = true
	d.allocate()
	moved.allocate()
	if len(h.held) != 2 || len(h.closes) != 0 {
		t.Fatalf("%d opens, closes %v", len(h.held), h.closes)
	}
	h.answers = nil
	first := h.held[0].ID
	h.release()
	if len(h.answers) != 1 || h.answers[0].to != moved.from || len(h.closes) != 1 || h.closes[0].ID != first {
		t.Errorf("answers %+v, closes %v", h.answers, h.closes)
	}
	if d.published() != nil || moved.published() == nil {
		t.Error("the wrong one is published")
	}
}

func TestOpenedOutOfTheBlue(t *testing.T) {
	h := newHarness(t, nil)
	defer func() {
		if recover() == nil {
			t.Error("an answer to no Open was taken")
		}
	}()
	h.s.HandleOpened(7, nil, true, h.now)
}
