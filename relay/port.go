package relay

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/firelane/firelane/internal/udp"
)

// port is the sockets of one allocation: what an Open is answered with, and what the table's
// Allocation holds as its Handle. It belongs to one worker, the one whose listening socket the
// client's packets reach: the kernel's choice by the hash of the addresses, which stays the same
// while the allocation lives, so that both directions meet on one core without a lock.
type port struct {
	// Set before the worker gets it, never written again.
	number uint16
	id     AllocationID // whose port it is
	worker *Worker

	// closed is made by control with the order to abandon the port, and closed by the worker.
	closed chan struct{}

	// The worker's own.
	exit4, exit6 exit
	tag4, tag6   int32
	limit        uint8 // messages of the next receive call
}

// exit is one socket to send through, with what waits for it in the flush under way.
type exit struct {
	socket *udp.Socket
	// source is the address that peers see, on the sockets of ports; zero for the kernel's choice.
	source netip.AddrPort
	// shared: the socket is a listening one, which serves all allocations of the worker.
	shared bool

	first, last int32 // in egress.out
	busy        bool
}

// sources are the addresses to pin on what leaves relayed ports, one for each family; the zero
// Addr leaves the choice to the kernel.
type sources struct{ v4, v6 netip.Addr }

// openPort binds a socket for each of the families on number, for worker w.
func openPort(number uint16, families Families, w *Worker, o udp.Options, from sources, caps udp.Caps) (*port, error) {
	p := &port{number: number, worker: w, tag4: noTag, tag6: noTag, limit: fewMessages}
	p.exit4.source, p.exit6.source = pin(from.v4, number), pin(from.v6, number)
	for _, f := range []struct {
		family Families
		v6     bool
		to     *exit
	}{{IPv4, false, &p.exit4}, {IPv6, true, &p.exit6}} {
		if families&f.family == 0 {
			continue
		}
		s, err := udp.OpenPort(f.v6, number, o, caps, w.scratch)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open relayed port %d: %w", number, err), p.close())
		}
		f.to.socket = s
	}
	return p, nil
}

// pin returns the source of a port, or zero where there is no address to pin.
func pin(a netip.Addr, number uint16) netip.AddrPort {
	if !a.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, number)
}

// exit returns the way out to a family, or nil where the port has none.
func (p *port) exit(is4 bool) *exit {
	x := &p.exit6
	if is4 {
		x = &p.exit4
	}
	if x.socket == nil {
		return nil
	}
	return x
}

// close closes the sockets, which no worker uses any more.
func (p *port) close() error {
	var errs []error
	for _, x := range []*exit{&p.exit4, &p.exit6} {
		if x.socket != nil {
			errs = append(errs, x.socket.Close())
			x.socket = nil
		}
	}
	return errors.Join(errs...)
}

// noTag is the tag of a socket that is not polled.
const noTag = -1

// slot is a socket that a worker polls, by tag.
type slot struct {
	port    *port
	socket  *udp.Socket
	settled losses // what the worker has counted of the socket's
}

// adopt makes the worker poll the sockets of p: all of them, or none when it fails.
func (w *Worker) adopt(p *port) error {
	for _, f := range []struct {
		socket *udp.Socket
		tag    *int32
	}{{p.exit4.socket, &p.tag4}, {p.exit6.socket, &p.tag6}} {
		if f.socket == nil {
			continue
		}
		tag := w.freeTag()
		if err := w.set.Add(f.socket.Fd(), int(tag)); err != nil {
			w.free = append(w.free, tag)
			w.ignore(p)
			return err
		}
		w.slots[tag] = slot{port: p, socket: f.socket}
		*f.tag = tag
	}
	return nil
}

// freeTag returns the tag of a free slot.
func (w *Worker) freeTag() int32 {
	if n := len(w.free); n > 0 {
		tag := w.free[n-1]
		w.free = w.free[:n-1]
		return tag
	}
	w.slots = append(w.slots, slot{})
	return int32(len(w.slots) - 1)
}

// abandon stops polling the sockets of p and closes them.
func (w *Worker) abandon(p *port) {
	w.ignore(p)
	_ = p.close()
	if p.closed != nil {
		close(p.closed)
	}
}

// ignore stops polling those sockets of p that are polled.
func (w *Worker) ignore(p *port) {
	for _, f := range []struct {
		socket *udp.Socket
		tag    *int32
	}{{p.exit4.socket, &p.tag4}, {p.exit6.socket, &p.tag6}} {
		if *f.tag == noTag {
			continue
		}
		w.settle(&w.slots[*f.tag])
		_ = w.set.Remove(f.socket.Fd()) // closing it does the same
		w.slots[*f.tag] = slot{}
		w.free = append(w.free, *f.tag)
		*f.tag = noTag
	}
}

// isClosed reports whether the worker has closed the port, after the order to do so.
func (p *port) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}
