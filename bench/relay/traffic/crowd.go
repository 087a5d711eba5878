package traffic

import (
	"errors"
	"fmt"
	"net/netip"
)

// Crowd makes n idle allocations with one channel each and leaves them. Their clients' sockets
// are closed again, so that what they cost is the server's alone.
func Crowd(at Place, peer netip.AddrPort, s Server, n int) (err error) {
	side, err := newSide(at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, side.close()) }()
	for i := range n {
		if err := side.member(crowdPort+uint16(i), peer, s); err != nil {
			return fmt.Errorf("allocation %d: %w", i, err)
		}
	}
	return nil
}

func (s *side) member(port uint16, peer netip.AddrPort, to Server) error {
	socket, err := s.socket(port)
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	c := client{socket: socket, in: s.in, server: to}
	if _, err := c.allocate(); err != nil {
		return err
	}
	return c.bind(firstChannel, peer)
}

// crowdPort is the first port of clients in a crowd: below those that the kernel picks, which would
// be of an earlier member.
const crowdPort = 16000
