package server

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	// DefaultPerAddress is how many websockets one address may have if nobody says: half of all there
	// may be, so that the largest office behind one address is let in, and nobody takes all.
	DefaultPerAddress = 10_000
	// MaxPerAddress is how many websockets there may be at all.
	MaxPerAddress = 20_000
	// plainPerAddress is how many TCP connections an address may have beyond its websockets: for
	// people, the API, and for devices that are to hear why they are refused.
	plainPerAddress = 500
)

// shares counts what addresses have: an IPv4 address, or the 64 bits of IPv6 that one customer has. It
// is bounded by what there may be at all.
type shares struct {
	most    int
	refused atomic.Uint64

	mu  sync.Mutex
	has map[netip.Prefix]int
}

func newShares(most int) *shares { return &shares{most: most, has: map[netip.Prefix]int{}} }

// take reports whether an address may have one more; then give is due.
func (s *shares) take(from netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[from] >= s.most {
		s.refused.Add(1)
		return false
	}
	s.has[from]++
	return true
}

func (s *shares) give(from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[from]--; s.has[from] <= 0 {
		delete(s.has, from)
	}
}

// sharedListener closes connections of addresses that have their share. Those of our proxies, which
// speak for many, are not counted.
type sharedListener struct {
	net.Listener
	shares *shares
	trusts func(netip.Addr) bool
}

func (l *sharedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
		from := peer.Addr().Unmap().WithZone("")
		if err != nil || l.trusts(from) {
			return c, nil
		}
		if key := subnet(from); l.shares.take(key) {
			return &sharedConn{Conn: c, give: sync.OnceFunc(func() { l.shares.give(key) })}, nil
		}
		_ = c.Close() // nothing has been said yet
	}
}

// sharedConn gives its place back when it is closed.
type sharedConn struct {
	net.Conn
	give func()
}

func (c *sharedConn) Close() error {
	c.give()
	return c.Conn.Close()
}
