package channel

import (
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firelane/firelane/protocol/signal"
)

func TestBudget(t *testing.T) {
	var b budget
	now := time.Unix(1_790_000_000, 0)
	r := rate{each: 50, burst: 200}
	for i := range r.burst {
		if wait := b.take(1, r, now); wait > 0 {
			t.Fatalf("message %d waits %v", i, wait)
		}
	}
	if wait := b.take(1, r, now); wait != 20*time.Millisecond {
		t.Errorf("one too many waits %v", wait)
	}
	if wait := b.take(1<<30, r, now.Add(time.Hour)); wait > 0 {
		t.Errorf("whoever was quiet waits %v for a message of any size", wait)
	}
	if wait := b.take(1<<30, r, now.Add(time.Hour)); wait != 4*time.Second {
		t.Errorf("the longest wait is %v", wait)
	}
}

// A device that joins again and again is slowed down, and can be cut meanwhile.
func TestServerSlowsDownAFlood(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	ws := rawDevice(t, p.http.URL, signal.RoleClient)
	join := strings.ReplaceAll(`{"topic":"ROLE","event":"phx_join","payload":null,"ref":0}`, "ROLE", "client")
	for range 2 * deviceRate.burst / deviceRate.each {
		write(t.Context(), ws, join)
	}
	l := p.link(t, 0)
	go func() {
		for {
			if _, _, err := ws.Read(t.Context()); err != nil {
				return
			}
		}
	}()
	eventually(t, "it waits", func() bool { return p.Stats().Throttled > 0 })
	p.mu.Lock()
	joins := len(p.links)
	p.mu.Unlock()
	if most := deviceRate.burst / deviceRate.each; joins > most+2 { // seconds may have passed
		t.Errorf("%d joins at once, want %d at most", joins, most)
	}
	l.Cut(ErrEnded)
	eventually(t, "the link ends", func() bool { return len(p.closings()) == 1 })
	ws.Close(websocket.StatusNormalClosure, "")
}
