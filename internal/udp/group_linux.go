package udp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxWorkers bounds a group; it is far above any number of cores we have met.
const maxWorkers = 1024

// portTries is how often a port picked by the kernel for IPv4 may turn out to be taken for IPv6
// before OpenGroup gives up. With half of all ports taken, 16 tries fail once in 65,536.
const portTries = 16

// Group is n sockets per address family that share one port (SO_REUSEPORT): the kernel spreads
// flows over them by a hash of the addresses and ports, so a flow stays with one socket.
type Group struct {
	v4, v6 []*Socket
	port   uint16
	caps   Caps
}

// OpenGroup binds n sockets per family to one port, or to one free port of both families when
// port is 0. A host without IPv6 gets a group without it, unless the options ask for it.
//
// The first socket of a family is bound without SO_REUSEPORT and given it afterwards: a port
// that another program holds, even one that shares it, is an error that wraps EADDRINUSE.
func OpenGroup(port uint16, n int, o Options) (*Group, error) {
	if n < 1 || n > maxWorkers {
		return nil, fmt.Errorf("open %d UDP sockets: want 1 to %d", n, maxWorkers)
	}
	caps := Probe()
	for try := 1; ; try++ {
		g, err := openGroup(port, n, o, caps)
		if err == nil {
			return g, nil
		}
		if port != 0 || try == portTries || !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
	}
}

func openGroup(port uint16, n int, o Options, caps Caps) (*Group, error) {
	g := &Group{port: port, caps: caps}
	if err := g.openFirst(o); err != nil {
		_ = g.Close()
		return nil, err
	}
	for i := 1; i < n; i++ {
		if err := g.openNext(o); err != nil {
			_ = g.Close()
			return nil, err
		}
	}
	return g, nil
}

// openFirst binds the sockets that notice a taken port, then lets others join them.
func (g *Group) openFirst(o Options) error {
	for _, v6 := range []bool{false, true} {
		if v6 && o.Family == OnlyIPv4 || !v6 && o.Family == OnlyIPv6 {
			continue
		}
		optional := v6 && o.Family == AnyFamily && !o.Bind6.IsValid()
		s, err := newSocket(v6, o, g.caps, newScratch())
		if optional && errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.bind(g.port, &o); err != nil {
			_ = s.close()
			if optional && errors.Is(err, unix.EADDRNOTAVAIL) { // IPv6 is compiled in but disabled
				continue
			}
			return err
		}
		g.add(s)
		g.port = s.port
	}
	for _, s := range g.all() {
		if err := share(s); err != nil {
			return err
		}
	}
	return nil
}

// openNext adds one socket per family to the group.
func (g *Group) openNext(o Options) error {
	for _, v6 := range []bool{false, true} {
		if v6 && g.v6 == nil || !v6 && g.v4 == nil {
			continue
		}
		s, err := newSocket(v6, o, g.caps, newScratch())
		if err != nil {
			return err
		}
		g.add(s)
		if err := share(s); err != nil {
			return err
		}
		if err := s.bind(g.port, &o); err != nil {
			return err
		}
	}
	return nil
}

// add makes s one of the group's sockets.
func (g *Group) add(s *Socket) {
	if s.v6 {
		g.v6 = append(g.v6, s)
	} else {
		g.v4 = append(g.v4, s)
	}
}

func share(s *Socket) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}

// Worker returns the sockets of worker i, 0 ≤ i < Len. One is nil where the host or the options
// lack its family.
func (g *Group) Worker(i int) (v4, v6 *Socket) {
	if g.v4 != nil {
		v4 = g.v4[i]
	}
	if g.v6 != nil {
		v6 = g.v6[i]
	}
	return v4, v6
}

// Len returns the number of workers the group was opened for.
func (g *Group) Len() int { return max(len(g.v4), len(g.v6)) }

// Port returns the port all sockets are bound to.
func (g *Group) Port() uint16 { return g.port }

// Caps returns what the kernel could do when the group was opened.
func (g *Group) Caps() Caps { return g.caps }

// SetMark changes the firewall mark of everything sent from now on; 0 removes it.
func (g *Group) SetMark(mark uint32) error {
	for _, s := range g.all() {
		if err := s.setMark(mark); err != nil {
			return err
		}
	}
	return nil
}

// Close closes all sockets. The loops that use them must have ended.
func (g *Group) Close() error {
	var errs []error
	for _, s := range g.all() {
		errs = append(errs, s.close())
	}
	g.v4, g.v6 = nil, nil
	return errors.Join(errs...)
}

func (g *Group) all() []*Socket {
	return append(append([]*Socket(nil), g.v4...), g.v6...)
}
