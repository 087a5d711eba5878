package channel

import (
	"io"
	"net"
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

// flood sends begin and then the same frame over and over for a second, or until they have to wait.
func flood(t *testing.T, p *testPortal, begin, one string) {
	t.Helper()
	conn, err := net.Dial("tcp", p.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, strings.Replace(upgrade, "gateway", "client", 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	many := strings.Repeat(one, 1+(16<<10)/len(one))
	if _, err := io.WriteString(conn, begin); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Second)
	for time.Now().Before(end) && p.Stats().Throttled == 0 {
		_ = conn.SetWriteDeadline(end)
		if _, err := io.WriteString(conn, many); err != nil {
			break
		}
	}
	eventually(t, "it waits", func() bool { return p.Stats().Throttled > 0 })
}

// Whatever kind of frames a device sends, it is read at the rate it may have.
func TestServerSlowsDownEveryKindOfFrame(t *testing.T) {
	mask := "\x00\x00\x00\x00"
	for what, frame := range map[string]string{
		"binary":              "\x82\xfe\xea\x60" + mask + strings.Repeat("x", 60000),
		"small binary":        "\x82\x81" + mask + "x",
		"ping":                "\x89\x80" + mask,
		"pong":                "\x8a\x80" + mask,
		"empty continuations": "\x00\x80" + mask,
	} {
		t.Run(what, func(t *testing.T) {
			noLeaks(t)
			p := newPortal(t)
			begin := ""
			if what == "empty continuations" {
				begin = "\x01\x80" + mask
			}
			flood(t, p, begin, frame)
		})
	}
}

// Binary frames and pings are no sign of life.
func TestServerEndsDevicesThatSayNothingKnown(t *testing.T) {
	noLeaks(t)
	p := newPortal(t)
	p.idle = 300 * time.Millisecond
	ws := rawDevice(t, p.http.URL, signal.RoleGateway)
	write(t.Context(), ws, `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`)
	p.link(t, 0)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	go func() {
		for ws.Write(t.Context(), websocket.MessageBinary, []byte("x")) == nil {
			select {
			case <-tick.C:
			case <-t.Context().Done():
			}
		}
	}()
	eventually(t, "the link ends", func() bool { return len(p.closings()) == 1 })
	if why := p.closings()[0]; why.Error() != "device is silent" {
		t.Errorf("ended by %v", why)
	}
}
