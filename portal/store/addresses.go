package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// address picks a free tunnel address of the pool: a random one and, while that is taken, the next
// one, around the end. The pool's first and last address are never used. column is ipv4 or ipv6.
//
// Starting at random keeps an address that was given back from being given out again soon, while
// somebody may still hold on to it.
func (s *Store) address(t *tx, account, column string, pool netip.Prefix) (netip.Addr, error) {
	b, err := s.random(8)
	if err != nil {
		return netip.Addr{}, err
	}
	usable := hosts(pool)
	query := "SELECT EXISTS (SELECT 1 FROM devices WHERE account = ? AND " + column + " = ?)"
	start := binary.LittleEndian.Uint64(b)
	for i := range usable {
		a := host(pool, 1+(start%usable+i)%usable)
		var used bool
		if err := t.row(query, account, a.String()).Scan(&used); err != nil {
			return netip.Addr{}, err
		}
		if !used {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: no free address in %v", ErrFull, pool)
}

// hosts is how many addresses of a pool can be used: all but the first and the last.
func hosts(pool netip.Prefix) uint64 {
	bits := pool.Addr().BitLen() - pool.Bits()
	if bits < 2 {
		return 0
	}
	return 1<<min(bits, 62) - 2
}

// host returns the pool's address number n, for n below 1<<62.
func host(pool netip.Prefix, n uint64) netip.Addr {
	base := pool.Masked().Addr()
	if base.Is4() {
		b := base.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := base.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+n)
	return netip.AddrFrom16(b)
}
