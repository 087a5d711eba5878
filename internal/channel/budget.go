package channel

import (
	"net"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

// budget is what a link may still say: a token bucket, kept as the time at which it will be full.
type budget struct{ fullAt time.Time }

// rate is how much a device may say: each per second, and burst at once.
type rate struct{ each, burst int }

// A frame costs one, whatever its kind, and all costBytes of the connection one more: candidates are
// passed on to others, whose queues are bounded in bytes, and what is not understood costs to read. A join costs a second's worth, since init is the most expensive
// answer there is.
const costBytes = 1 << 10

var (
	// deviceRate leaves room for a client that opens all its resources at once.
	deviceRate = rate{50, 200}
	// gatewayRate is for those that answer for many clients: a thousand come back within seconds
	// when a portal restarts.
	gatewayRate = rate{1000, 4000}
)

func rateOf(r signal.Role) rate {
	if r == signal.RoleGateway {
		return gatewayRate
	}
	return deviceRate
}

// take takes cost, burst at most, and returns how long to wait before going on.
func (b *budget) take(cost int, r rate, now time.Time) time.Duration {
	one := time.Second / time.Duration(r.each)
	if b.fullAt.Before(now) {
		b.fullAt = now
	}
	b.fullAt = b.fullAt.Add(time.Duration(min(cost, r.burst)) * one)
	return b.fullAt.Sub(now) - time.Duration(r.burst)*one
}

// spend waits until the device may have said so much: nothing is read from it meanwhile, which it
// notices when the buffers between are full. A cut ends the wait.
func (l *Link) spend(cost int) {
	l.mu.Lock()
	wait := l.budget.take(cost, rateOf(l.role), time.Now())
	l.mu.Unlock()
	if wait <= 0 {
		return
	}
	l.server.count(func(s *ServerStats) { s.Throttled++ })
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.cutOff:
	}
}

// meter is a connection whose device spends what it costs to read, in frames that the library handles by
// itself, too: pieces of messages may be empty and as many as one likes.
type meter struct {
	net.Conn
	link *Link
	// unpaid are bytes for which nothing has been spent yet.
	unpaid int
}

// Read implements net.Conn.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.unpaid += n
	if cost := m.unpaid / costBytes; cost > 0 {
		m.unpaid %= costBytes
		m.link.spend(cost)
	}
	return n, err
}
