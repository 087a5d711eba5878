package udp

import "net/netip"

// maxRefusals bounds how many destinations are remembered as refusing trains. A gateway's
// clients share few links towards the internet: a thousand exceptions mean that the rule is
// wrong, and trains are switched off altogether. A relay sends to whomever its clients name, so
// that there it means nothing, and the set starts anew.
const maxRefusals = 1024

// refusals are the destinations the kernel takes no trains for, each with the shortest stride it
// refused: what was too long for a link says nothing about shorter segments, and a sender of long
// ones cannot spoil a destination for others. It is written on such a refusal only, and costs a
// length check while it is empty.
type refusals struct {
	to map[netip.AddrPort]int
}

func (r *refusals) has(to netip.AddrPort, stride int) bool {
	if len(r.to) == 0 {
		return false
	}
	least, ok := r.to[to]
	return ok && stride >= least
}

// add remembers a destination, or returns false when there is no room.
func (r *refusals) add(to netip.AddrPort, least int) bool {
	if r.to == nil {
		r.to = make(map[netip.AddrPort]int)
	}
	old, known := r.to[to]
	if !known && len(r.to) >= maxRefusals {
		return false
	}
	if !known || least < old {
		r.to[to] = least
	}
	return true
}

// forget empties the set.
func (r *refusals) forget() { clear(r.to) }
