package udp

import "net/netip"

// maxRefusals bounds how many destinations are remembered as refusing trains. A gateway's
// clients share few links towards the internet: a thousand exceptions mean that the rule is
// wrong, and trains are switched off altogether.
const maxRefusals = 1024

// refusals is the set of destinations the kernel takes no trains for. It is written on such a
// refusal only, and costs a length check while it is empty.
type refusals struct {
	to map[netip.AddrPort]struct{}
}

func (r *refusals) has(to netip.AddrPort) bool {
	if len(r.to) == 0 {
		return false
	}
	_, ok := r.to[to]
	return ok
}

// add remembers a destination, or returns false when there is no room.
func (r *refusals) add(to netip.AddrPort) bool {
	if r.to == nil {
		r.to = make(map[netip.AddrPort]struct{})
	}
	if _, ok := r.to[to]; !ok && len(r.to) >= maxRefusals {
		return false
	}
	r.to[to] = struct{}{}
	return true
}
