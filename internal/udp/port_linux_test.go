package udp

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
)

func openPort(t testing.TB, v6 bool, port uint16, o Options, x *Scratch) *Socket {
	t.Helper()
	s, err := OpenPort(v6, port, o, Probe(), x)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestPortsShareAScratchAndABatch(t *testing.T) {
	enterNetns(t)
	x := NewScratch()
	const n = 5
	var ports [n]*Socket
	b := newBatch(t, n+1)
	from, _, _ := pair(t, both, false)
	for i := range ports {
		ports[i] = openPort(t, false, 0, both, x)
		for range 2 {
			sendAll(t, from, batch.Train{Buf: pattern(100+i, i), Stride: 100 + i, Remote: netip.AddrPortFrom(loop4, ports[i].Port())})
		}
	}
	b.Reset()
	for i, p := range ports {
		if got, err := p.RecvMore(b, 1); got != 1 || err != nil {
			t.Fatalf("port %d: %d messages, %v", i, got, err)
		}
	}
	if got, err := ports[0].RecvMore(b, 9); got != 1 || err != nil {
		t.Errorf("%d messages, %v, into one slab", got, err)
	}
	if _, err := ports[1].RecvMore(b, 9); !errors.Is(err, ErrNoSlabs) {
		t.Errorf("a full batch gives %v", err)
	}
	for i, tr := range b.Trains {
		if want := i % n; len(tr.Buf) != 100+want || tr.Buf[99] != pattern(100, want)[99] || tr.Local.Port() != ports[want].Port() {
			t.Errorf("train %d has %d bytes for port %d", i, len(tr.Buf), tr.Local.Port())
		}
	}
	if st := ports[0].Stats(); st.RecvTrains != 2 || st.RecvDatagrams != 2 {
		t.Errorf("stats %+v", st)
	}
}

func TestAPortThatIsTakenIsNoticed(t *testing.T) {
	enterNetns(t)
	x := NewScratch()
	p := openPort(t, true, 0, both, x)
	if _, err := OpenPort(true, p.Port(), both, Probe(), x); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("opening the port again gives %v, want EADDRINUSE", err)
	}
	openPort(t, false, p.Port(), both, x) // the other family is free
}

func TestAPortIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Socket{}); n > 512 {
		t.Errorf("%d bytes", n)
	}
	enterNetns(t)
	x, caps := NewScratch(), Probe()
	const many = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range many {
		s, err := OpenPort(false, 0, both, caps, x)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / many; each > 1024 {
		t.Errorf("%d bytes allocated per port", each)
	}
}

func TestAGroupIsBoundWhereItsOptionsSay(t *testing.T) {
	enterNetns(t)
	addDummyAddrs(t, "10.9.9.9/32", "fd00::9/128")
	o := both
	o.Bind4, o.Bind6 = netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd00::9")
	g := open(t, 2, o)
	for i := range g.Len() {
		v4, v6 := g.Worker(i)
		if a, err := unix.Getsockname(v4.Fd()); err != nil || a.(*unix.SockaddrInet4).Addr != o.Bind4.As4() {
			t.Errorf("bound to %v, %v", a, err)
		}
		if a, err := unix.Getsockname(v6.Fd()); err != nil || a.(*unix.SockaddrInet6).Addr != o.Bind6.As16() {
			t.Errorf("bound to %v, %v", a, err)
		}
	}
	o.Bind6 = netip.MustParseAddr("fd00::10") // not ours
	if _, err := OpenGroup(0, 1, o); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("a foreign address gives %v", err)
	}
	o.Bind6 = o.Bind4
	if _, err := OpenGroup(0, 1, o); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("an address of the other family gives %v", err)
	}
}

func TestAGroupHasTheFamiliesItsOptionsSay(t *testing.T) {
	enterNetns(t)
	for _, f := range []Family{OnlyIPv4, OnlyIPv6} {
		o := both
		o.Family = f
		g := open(t, 2, o)
		v4, v6 := g.Worker(1)
		if (v4 != nil) != (f == OnlyIPv4) || (v6 != nil) != (f == OnlyIPv6) || g.Len() != 2 || g.Port() == 0 {
			t.Errorf("family %d: %v, %v, %d workers", f, v4 != nil, v6 != nil, g.Len())
		}
	}
}
