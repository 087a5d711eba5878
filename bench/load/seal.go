package load

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/firelane/firelane/protocol/wireguard"
)

// seal sends datagrams for c.length as the messages of a WireGuard session: the generator is
// client and tunnel in one.
func seal(c sendConfig) (Sent, error) {
	from, err := netip.ParseAddr(c.peer.inner)
	if err != nil {
		return Sent{}, err
	}
	to, err := netip.ParseAddrPort(c.to)
	if err != nil {
		return Sent{}, err
	}
	t, err := newTemplate(from, to, c.payload)
	if err != nil {
		return Sent{}, err
	}
	if c.burst < 1 || c.burst > maxBurst {
		return Sent{}, fmt.Errorf("bursts of %d packets are not between 1 and %d", c.burst, maxBurst)
	}
	s, err := c.peer.dial(c.run)
	if err != nil {
		return Sent{}, err
	}
	defer s.conn.Close()
	f, err := newFlood(s, t, c)
	if err != nil {
		return Sent{}, err
	}
	start := time.Now()
	for until := start.Add(c.length); err == nil && time.Now().Before(until); {
		err = f.burst()
	}
	f.Seconds = time.Since(start).Seconds()
	return f.Sent, err
}

// flood is a session that sends as much as it can, of flows that take turns.
type flood struct {
	Sent
	*session
	*template
	train
	run, seq uint64
}

func newFlood(s *session, t *template, c sendConfig) (*flood, error) {
	f := &flood{session: s, template: t, run: c.run}
	var err error
	f.train, err = newTrain(s.conn, len(t.plain)+wireguard.DataMinSize, c.burst)
	return f, err
}

// burst seals and sends one train.
func (f *flood) burst() error {
	first, ok := f.keys.Take(len(f.cars))
	if !ok {
		return errKeyUsedUp
	}
	now := time.Now().UnixNano()
	for _, m := range f.cars {
		flow := f.seq % flows
		f.put(m[wireguard.HeaderSize:], frame{run: f.run, seq: flow<<flowShift | f.seq, sent: now})
		f.seq++
	}
	f.keys.Seal(&f.scratch, f.cars, first)
	return f.send(&f.Sent)
}

// flows is how many a gateway meets at once: some, and not so many that each has but one packet
// in a burst.
const flows = 16
