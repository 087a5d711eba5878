package control

import (
	"net/netip"
	"testing"
)

func TestArrivalsForgetTheOldestAndKeepTheNewest(t *testing.T) {
	remote := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 0, byte(i >> 8), byte(i)}), 1)
	}
	x, y := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var l arrivals
	l.note(netip.AddrPort{}, x)
	if len(l.recent)+len(l.older) != 0 {
		t.Error("nobody was noted")
	}
	for i := range 5 * maxArrivals {
		l.note(remote(0), y) // one that keeps coming is never forgotten
		l.note(remote(1+i), x)
		if len(l.recent)+len(l.older) > maxArrivals {
			t.Fatalf("%d entries", len(l.recent)+len(l.older))
		}
		if l.of(remote(0)) != y || l.of(remote(max(1, 1+i-maxArrivals/2+2))) != x {
			t.Fatalf("a new one is forgotten at %d", i)
		}
	}
	if l.of(remote(1)).IsValid() {
		t.Error("the oldest is still there")
	}
	last := remote(5 * maxArrivals)
	l.note(last, y)
	if l.of(last) != y {
		t.Error("the newer address does not replace the older")
	}
	if l.forget(last); l.of(last).IsValid() {
		t.Error("a forgotten one is remembered")
	}
}
