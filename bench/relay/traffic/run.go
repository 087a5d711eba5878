package traffic

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Run carries out a plan through the server at the address and returns what became of each
// direction.
func (w *Network) Run(p Plan, server netip.AddrPort) (flows [directions]Flow, err error) {
	if err := p.check(len(w.lines)); err != nil {
		return flows, err
	}
	w.run++
	lines := w.lines[:p.Lines]
	var sinks [directions]*sink
	var senders [directions]*sender
	var receiving, sending sync.WaitGroup
	var mu sync.Mutex
	note := func(e error) {
		mu.Lock()
		err = errors.Join(err, e)
		mu.Unlock()
	}
	for d := range directions {
		if d == Up && !p.Up || d == Down && !p.Down {
			continue
		}
		for _, l := range lines {
			l.sent[d], l.next[d] = 0, 0
		}
		k := &sink{dir: d, run: w.run, lines: lines, in: w.sides[1-d].in, pattern: newPattern(p.Payload)}
		s := newSender(p, d, w.run, lines, server)
		sinks[d], senders[d] = k, s
		receiving.Go(func() { note(k.receive()) })
		sending.Go(func() {
			took, e := s.send()
			k.flow.Seconds = took.Seconds()
			note(e)
		})
	}
	sending.Wait()
	for d, k := range sinks {
		if k != nil {
			k.await(senders[d].sent)
		}
	}
	for _, k := range sinks {
		if k != nil {
			k.stop.Store(true)
		}
	}
	receiving.Wait()
	for d, k := range sinks {
		if k != nil {
			flows[d] = k.flow
			flows[d].Sent = senders[d].sent
		}
	}
	return flows, err
}

// await waits until all that was sent has arrived, or nothing more comes.
func (s *sink) await(sent uint64) {
	last, since := s.total.Load(), time.Now()
	for end := since.Add(drainMost); time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		switch n := s.total.Load(); {
		case n >= sent || n == last && time.Since(since) > drainQuiet:
			return
		case n != last:
			last, since = n, time.Now()
		}
	}
}

const (
	// drainQuiet without a datagram ends a run; queues on the way are shorter than that.
	drainQuiet = 50 * time.Millisecond
	// drainMost ends it in any case.
	drainMost = time.Second
)
