package relay

import (
	"bytes"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// Ten thousand allocations, half of them with both families, cost at most 32 KiB of the process's
// memory each, and all of them carry data.
func TestMemoryOfTenThousandAllocations(t *testing.T) {
	enterNetns(t)
	const many = 10_000
	r := start(t, func(s *Settings) {
		s.Server.Limits = DefaultLimits()
		s.Server.Limits.AllocationsPerSource, s.Server.Limits.RefusalsPerSecond = 0, 0
	})
	peer := newTurner(t, relayAt(loop4, r), "")
	c := &crowd{turner: newTurner(t, relayAt(loop4, r), "")}
	before := resident(t)
	for i := range many {
		c.ask(i, stun.Allocate, func(b *stun.Builder) {
			b.Transport(stun.UDP)
			if i%2 == 0 {
				b.Family(stun.AdditionalAddressFamily, stun.IPv6)
			}
		})
		c.ask(i, stun.ChannelBind, func(b *stun.Builder) {
			b.Channel(0x4000)
			b.Address(stun.XORPeerAddress, peer.addr)
		})
	}
	if n := r.Counters().ActiveAllocations.Load(); n != many {
		t.Fatalf("%d allocations", n)
	}
	message := wrapped(0x4000, pattern(100, 1), 100)
	for i := range many {
		c.sendAs(i, message)
		got := peer.recv()
		if !bytes.Equal(got[0].Buf, message[stun.ChannelHeader:]) {
			t.Fatalf("the peer got %d bytes", len(got[0].Buf))
		}
		peer.send(got[0].Buf, len(got[0].Buf), got[0].Remote)
		if got := c.recv(); !bytes.Equal(got[0].Buf, message) || got[0].Local != c.address(i) {
			t.Fatalf("client %d got %d bytes at %v", i, len(got[0].Buf), got[0].Local)
		}
	}
	runtime.GC()
	each := (resident(t) - before) / many
	t.Logf("%d bytes per allocation", each)
	if each > 32<<10 {
		t.Errorf("%d bytes per allocation, want at most 32 KiB", each)
	}
}

// crowd is many clients on one socket, each with an address of its own.
type crowd struct{ *turner }

func (c *crowd) address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), c.addr.Port())
}

func (c *crowd) sendAs(i int, b []byte) {
	c.t.Helper()
	trains := []batch.Train{{Buf: b, Stride: len(b), Remote: c.server, Local: c.address(i)}}
	if n, err := c.socket.Send(trains); n != 1 || err != nil {
		c.t.Fatal(n, err)
	}
}

// ask sends client i's request, with a fresh nonce, and wants success.
func (c *crowd) ask(i int, method stun.Method, fill func(*stun.Builder)) {
	c.t.Helper()
	salt := strconv.Itoa(i)
	user := strconv.Itoa(testExpiry) + ":" + salt
	key := stun.LongTermKey([]byte(user), []byte(PortalRealm), []byte(Password(testExpiry, testSecret, salt)))
	var nonce []byte
	for try := range byte(2) {
		b := stun.Start(nil, stun.Request, method, stun.TransactionID{try, byte(method), byte(i), byte(i >> 8)})
		fill(&b)
		if nonce != nil {
			b.Text(stun.Username, []byte(user))
			b.Text(stun.Realm, []byte(PortalRealm))
			b.Text(stun.Nonce, nonce)
			b.Sign(key[:])
		}
		c.sendAs(i, b.Bytes())
		var m stun.Message
		if err := m.Parse(c.recv()[0].Buf); err != nil {
			c.t.Fatal(err)
		}
		if m.Class == stun.Success {
			return
		}
		if m.Code != 401 || try > 0 {
			c.t.Fatalf("client %d: %v is answered %d", i, method, m.Code)
		}
		nonce = bytes.Clone(m.Nonce)
	}
}

// resident returns the resident memory of the process in bytes.
func resident(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}
