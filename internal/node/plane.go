package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/control"
	"github.com/firelane/firelane/fastpath"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/internal/poll"
	"github.com/firelane/firelane/internal/tun"
	"github.com/firelane/firelane/internal/udp"
)

// Sizes per worker.
const (
	// slabsPerWorker are a worker's receive, read and send batches (64 + 64 + 32 slabs) and some
	// slack; 10 MiB of address space, of which only what is used becomes memory.
	slabsPerWorker = 168
	// cacheSlabs is the worker's own stock: all it needs at a time, so that the shared ring is
	// out of the picture in steady state.
	cacheSlabs = 160
	// signalSlots bounds the handshake messages that wait for control: four times the limit on
	// handshakes in the works, for bursts. 0.8 MiB.
	signalSlots = 512
	// innerSlots bounds inner packets and wishes that wait for control: a few peers' worth of
	// first packets.
	innerSlots = 256
	// socketBuffer is asked of the kernel for each socket and direction: 20 ms of 3 Gbit/s.
	socketBuffer = 7 << 20
)

// planeConfig is what all data planes of one node have in common.
type planeConfig struct {
	table   *fib.Table
	tun     *tun.Device
	tunnel  *tun.Queue // control's own way into it
	pool    *bufpool.Pool
	workers int
	crew    []*worker // made with the first plane
	socket  udp.Options
	pin     bool
	pause   time.Duration
	clock   func() int64
	bell    func()
	log     *slog.Logger
}

// plane is a running data plane: sockets on one port, and the workers on them. When the port
// changes a new plane takes the place of the old one; table, tunnel, pool and workers stay.
type plane struct {
	group   *udp.Group
	out4    *udp.Socket // control's own way out
	out6    *udp.Socket
	workers []*worker
	wg      sync.WaitGroup
	failed  chan error
	// noSocket counts control's datagrams of a family that the host lacks.
	noSocket uint64
}

// worker is a fastpath worker and what belongs to its thread. It outlives the plane: its buffers
// and rings are some 2 MiB, which the collector would let pile up as often as sockets come and go.
type worker struct {
	*fastpath.Worker
	set     *poll.Set // of the plane it works for
	signals *fastpath.Punts
	inner   *fastpath.Punts
}

// openGroup binds the sockets of a plane.
func (c *planeConfig) openGroup(port uint16, mark uint32) (*udp.Group, error) {
	o := c.socket
	o.Mark = mark
	return udp.OpenGroup(port, c.workers, o)
}

// startPlane starts workers on the sockets of g, which belongs to the plane from then on.
func startPlane(c *planeConfig, g *udp.Group) (*plane, error) {
	p := &plane{group: g, failed: make(chan error, c.workers)}
	v4, v6 := g.Worker(0)
	p.out4 = v4.Twin()
	if v6 != nil {
		p.out6 = v6.Twin()
	}
	for i := range c.workers {
		if i == len(c.crew) {
			c.crew = append(c.crew, c.newWorker(i))
		}
		w := c.crew[i]
		if err := p.engage(w, c.tun.Queue(i), i); err != nil {
			p.closeSets()
			return nil, fmt.Errorf("start worker %d: %w", i, err)
		}
	}
	for i, w := range p.workers {
		cpu := -1
		if c.pin {
			cpu = i
		}
		p.wg.Go(func() { p.run(w, cpu) })
	}
	return p, nil
}

// newWorker makes worker i, which has no sockets yet.
func (c *planeConfig) newWorker(i int) *worker {
	w := &worker{
		signals: fastpath.NewPunts(signalSlots),
		inner:   fastpath.NewPunts(innerSlots),
	}
	caps := c.tun.Caps()
	w.Worker = fastpath.NewWorker(fastpath.Config{
		Table:    c.table,
		Lane:     i,
		Cache:    c.pool.NewCache(cacheSlabs),
		Queue:    c.tun.Queue(i),
		Clock:    c.clock,
		Bell:     c.bell,
		Signals:  w.signals,
		Inner:    w.inner,
		Offloads: fastpath.Offloads{TSO: caps.VnetHdr && caps.TSO, USO: caps.VnetHdr && caps.USO},
		Pause:    c.pause,
	})
	return w
}

// engage gives w, which is not running, the i-th sockets of the plane.
func (p *plane) engage(w *worker, queue *tun.Queue, i int) error {
	set, err := poll.New()
	if err != nil {
		return err
	}
	v4, v6 := p.group.Worker(i)
	errs := []error{set.Add(v4.Fd(), fastpath.TagSocket4), set.Add(queue.Fd(), fastpath.TagQueue)}
	var socket6 fastpath.Socket // a nil *udp.Socket would not be nil in it
	if v6 != nil {
		socket6 = v6
		errs = append(errs, set.Add(v6.Fd(), fastpath.TagSocket6))
	}
	if err := errors.Join(errs...); err != nil {
		_ = set.Close()
		return err
	}
	w.set = set
	w.Rebind(v4, socket6, set, v4.MaxSegments())
	p.workers = append(p.workers, w)
	return nil
}

// run is a worker's thread.
func (p *plane) run(w *worker, cpu int) {
	if err := poll.PinThread(cpu); err != nil && cpu >= 0 {
		_ = poll.PinThread(-1) // a core that is not ours to use: better unpinned than not at all
	}
	if err := w.Run(); err != nil {
		p.failed <- err
	}
}

// stop ends the workers and closes the sockets.
func (p *plane) stop() error {
	for _, w := range p.workers {
		w.Stop()
		w.set.Ring()
	}
	p.wg.Wait()
	p.closeSets()
	return p.group.Close()
}

func (p *plane) closeSets() {
	for _, w := range p.workers {
		_ = w.set.Close()
	}
}

// send sends control's datagrams. What the kernel does not take is lost, as any datagram may be;
// the sockets count it.
func (p *plane) send(out []control.Datagram) {
	for i := range out {
		d := &out[i]
		socket := p.out6
		if d.Remote.Addr().Is4() {
			socket = p.out4
		}
		if socket == nil {
			p.noSocket++ // no IPv6 on this host; the peer's path says so in its state
			continue
		}
		local := d.Local
		if !local.Addr().IsValid() {
			local = netip.AddrPort{}
		}
		trains := [1]batch.Train{{Buf: d.Bytes, Stride: len(d.Bytes), Remote: d.Remote, Local: local}}
		_, _ = socket.Send(trains[:])
	}
}

// write writes control's packets to the tunnel. What it does not take is lost, as any packet may
// be; the queue counts it.
func (c *planeConfig) write(packets [][]byte) {
	for _, b := range packets {
		supers := [1]batch.Super{{Head: append(make([]byte, batch.SuperHeadroom, batch.SuperHeadroom+len(b)), b...)}}
		_, _ = c.tunnel.Write(supers[:])
	}
}
