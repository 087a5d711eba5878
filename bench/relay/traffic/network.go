package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/internal/udp"
)

// Place is a namespace and the address that sockets in it are bound to.
type Place struct {
	Namespace netns.NsHandle
	Addr      netip.Addr
}

// Server is the TURN server and a user of it.
type Server struct {
	Addr           netip.AddrPort
	User, Password string
}

// Network is lines through a server.
type Network struct {
	lines []*line
	sides [directions]*side // by the direction in which they send
	run   uint32
}

// line is an allocation with its client and its peer.
type line struct {
	client, peer *udp.Socket
	relayed      netip.AddrPort
	number       uint16
	sent, next   [directions]uint64 // sequence numbers: next to send, lowest yet to come
}

// side is the memory that sockets on one side share.
type side struct {
	place   Place
	scratch *udp.Scratch
	pool    *bufpool.Pool
	cache   *bufpool.Cache
	in      *batch.Batch
	caps    udp.Caps
}

// Open makes n lines. The caller closes the network.
func Open(client, peer Place, s Server, n int) (*Network, error) {
	w := &Network{}
	for d, p := range []Place{Up: client, Down: peer} {
		side, err := newSide(p)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.sides[d] = side
	}
	for i := range n {
		l, err := w.open(s)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open line %d: %w", i, err), w.Close())
		}
		w.lines = append(w.lines, l)
	}
	return w, nil
}

func newSide(p Place) (s *side, err error) {
	s = &side{place: p, scratch: udp.NewScratch()}
	if s.pool, err = bufpool.New(2 * batchSlabs); err != nil {
		return nil, err
	}
	s.cache = s.pool.NewCache(2 * batchSlabs)
	s.in = batch.NewBatch(batchSlabs, s.cache)
	s.caps = udp.Probe()
	return s, nil
}

func (s *side) close() error {
	s.in.Release()
	s.cache.Flush()
	return s.pool.Close()
}

// open makes one line.
func (w *Network) open(s Server) (l *line, err error) {
	l = &line{number: firstChannel}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	up, down := w.sides[Up], w.sides[Down]
	if l.client, err = up.socket(0); err != nil {
		return nil, err
	}
	if l.peer, err = down.socket(0); err != nil {
		return nil, err
	}
	c := client{socket: l.client, in: up.in, server: s}
	if l.relayed, err = c.allocate(); err != nil {
		return nil, err
	}
	return l, c.bind(l.number, netip.AddrPortFrom(down.place.Addr, l.peer.Port()))
}

// socket opens a socket in the side's namespace; port 0 is any free one.
func (s *side) socket(port uint16) (u *udp.Socket, err error) {
	err = inside(s.place.Namespace, func() error {
		u, err = udp.OpenPort(false, port, udp.Options{GSO: true, GRO: true, Bind4: s.place.Addr}, s.caps, s.scratch)
		if err != nil {
			return err
		}
		// What is lost is to be lost in the relay.
		return errors.Join(unix.SetsockoptInt(u.Fd(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, sinkBuffer),
			unix.SetsockoptInt(u.Fd(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sinkBuffer))
	})
	return u, err
}

// inside runs f on a thread in the namespace: sockets stay in the one they are made in.
func inside(ns netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer own.Close()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer func() {
		if err := netns.Set(own); err != nil {
			panic(fmt.Sprintf("traffic: cannot return to own namespace: %v", err))
		}
	}()
	return f()
}

func (l *line) close() {
	for _, s := range []*udp.Socket{l.client, l.peer} {
		if s != nil {
			_ = s.Close()
		}
	}
}

// Close closes everything. Allocations are left to the server.
func (w *Network) Close() error {
	for _, l := range w.lines {
		l.close()
	}
	w.lines = nil
	var errs []error
	for d, s := range w.sides {
		if s != nil {
			errs = append(errs, s.close())
			w.sides[d] = nil
		}
	}
	return errors.Join(errs...)
}

const (
	// batchSlabs is how many messages a sink takes in one call at most.
	batchSlabs = 32
	// sinkBuffer holds some 4,000 single datagrams of any length below an Ethernet frame's.
	sinkBuffer = 8 << 20
	// firstChannel is the number of every line's channel.
	firstChannel = 0x4000
)
