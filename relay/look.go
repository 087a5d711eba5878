package relay

import "time"

const (
	// lookInterval is how often control looks at what nothing tells it of: the host's addresses,
	// which cost some system calls, and the drops at relayed ports.
	lookInterval = time.Second
	// socketsPerLook bounds how many sockets of ports a worker looks at in one go: some ten
	// microseconds of work. All of 16,384 ports in both families have their turn in half a minute.
	socketsPerLook = 1024
)

// look is what control does each lookInterval.
func (r *Relay) look() {
	if err := r.readHost(); err != nil {
		if count, due := r.unread.note(time.Now()); due {
			r.log.Warn("this host's addresses are unknown: those of before are assumed", "error", err, "failures", count)
		}
	} else {
		r.unread = failures{}
	}
	if r.Counters().ActiveAllocations.Load() == 0 {
		return
	}
	for _, w := range r.workers {
		if !w.orders.waiting.Load() { // else it is behind, and has not looked yet
			w.give(order{look: true})
		}
	}
}

// losses is what the sockets of ports count of what they lost.
type losses struct{ overflows, failures, unreadable uint64 }

// look counts what the next sockets of ports have lost since the worker looked last.
func (w *Worker) look() {
	for range min(socketsPerLook, len(w.slots)-firstPortTag) {
		if w.looked++; w.looked >= len(w.slots) {
			w.looked = firstPortTag
		}
		w.settle(&w.slots[w.looked])
	}
}

// settle counts what a port's socket has lost since it was settled last.
func (w *Worker) settle(s *slot) {
	if s.socket == nil {
		return
	}
	st := s.socket.Stats()
	lost := losses{
		overflows: st.RecvOverflow,
		failures: st.SendUnreachable + st.SendProhibited + st.SendRefused + st.SendTooLong + st.SendNoMemory +
			st.SendInvalid + st.SendOther,
		unreadable: st.RecvMalformed + st.RecvTruncated,
	}
	w.counts.add(PortOverflows, int(lost.overflows-s.settled.overflows))
	w.counts.add(PortSendFailures, int(lost.failures-s.settled.failures))
	w.counts.add(PortUnreadable, int(lost.unreadable-s.settled.unreadable))
	s.settled = lost
}
