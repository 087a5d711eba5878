package control

import "net/netip"

// arrivals remembers which address of ours the newest remotes wrote to, so that answers leave from
// there: the handshake machine knows remotes only. The zero value is empty.
//
// Entries are made in recent. When that is full it becomes older, whose entries are forgotten:
// an entry outlives at least half of maxArrivals others.
type arrivals struct{ recent, older map[netip.AddrPort]netip.Addr }

// maxArrivals bounds arrivals: a handshake's answer leaves within milliseconds, and a flood of
// initiations from forged sources can at worst make an answer leave from the kernel's choice: the
// first data message then pins the path to the address it was sent to (fib.Peer.ArrivedFrom).
const maxArrivals = 1024

// note records that remote wrote to local; an invalid remote is nobody.
func (l *arrivals) note(remote netip.AddrPort, local netip.Addr) {
	if !remote.IsValid() {
		return
	}
	if _, known := l.recent[remote]; !known && len(l.recent) == maxArrivals/2 {
		l.recent, l.older = l.older, l.recent
		clear(l.recent)
	}
	if l.recent == nil {
		l.recent = make(map[netip.AddrPort]netip.Addr)
	}
	l.recent[remote] = local
}

// of returns the address that remote wrote to last; the zero Addr if that is not known.
func (l *arrivals) of(remote netip.AddrPort) netip.Addr {
	if local, known := l.recent[remote]; known {
		return local
	}
	return l.older[remote]
}

// forget makes of unaware of remote.
func (l *arrivals) forget(remote netip.AddrPort) {
	delete(l.recent, remote)
	delete(l.older, remote)
}
