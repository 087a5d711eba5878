package fastpath

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/fib"
)

// Socket is a worker's UDP socket of one address family. Methods are called once per batch.
type Socket interface {
	// Recv fills b with what has arrived, without waiting.
	Recv(b *batch.Batch) error
	// Send sends trains of the socket's family in order; sent < len(trains) with a nil error
	// means that the send buffer is full.
	Send(trains []batch.Train) (sent int, err error)
	// WaitWritable waits up to d for room in the send buffer.
	WaitWritable(d time.Duration) bool
}

// Queue is a worker's tunnel queue. Methods are called once per batch.
type Queue interface {
	// Read fills b with what is queued, without waiting.
	Read(b *batch.SuperBatch) error
	// Write writes supers in order; written < len(supers) with a nil error means that the queue
	// is full.
	Write(supers []batch.Super) (written int, err error)
}

// Poller waits for the worker's socket pair, queue and bell.
type Poller interface {
	// Wait waits until something is ready, or d has passed (forever if negative), and returns
	// the set of tags that are.
	Wait(d time.Duration) (ready uint64, err error)
	// Sleep waits for d whatever becomes ready; the bell ends it.
	Sleep(d time.Duration) (bell bool)
}

// Tags of a worker's file descriptors in its poll set: bit numbers of Poller.Wait's result.
const (
	TagSocket4 = iota
	TagSocket6
	TagQueue
	tagsMask = 1<<TagSocket4 | 1<<TagSocket6 | 1<<TagQueue
)

// Batch sizes. Full trains and superpackets are taken few at a time, half a megabyte, which stays
// in a core's second-level cache from decryption to the write into the tunnel; single packets are
// taken many at a time, so that system calls and trains are shared by more of them.
const (
	fewTrains  = 8
	manyTrains = 64
	fewSupers  = 8
	manySupers = 64
	// fullBytes is the batch size in bytes from which on the next batch is one of few.
	fullBytes = 256 << 10
)

// maxRounds bounds how many batches one direction handles before the worker looks at its poll set
// again: neither direction starves, and neither does a stop.
const maxRounds = 4

// stallPause is how long, in nanoseconds, a worker leaves an input alone that it cannot read: the
// pool is empty, or the tunnel is being removed. Readiness stays, so it would spin otherwise.
const stallPause = 1_000_000

// Config is what a worker is made of. Interfaces and functions are called once per batch.
type Config struct {
	Table *fib.Table
	// Lane is the worker's number among the writers of a peer's counters.
	Lane int
	// Cache is the worker's own stock of slabs.
	Cache *bufpool.Cache
	// Socket4 and Socket6 are its sockets; nil for a family that the host lacks.
	Socket4, Socket6 Socket
	Queue            Queue
	Poller           Poller
	// Clock reads monotonic nanoseconds.
	Clock func() int64
	// Bell tells control that a punt ring holds something.
	Bell func()
	// Signals and Inner are the rings towards control.
	Signals, Inner *Punts
	// Segments is how many segments one train may carry.
	Segments int
	Offloads Offloads
	// Pause is the longest interval at which a busy worker looks for packets instead of being
	// woken for them; 0 for never.
	Pause time.Duration
}

// Worker is one core's share of the data plane: a socket per family, a tunnel queue, two loops
// that take turns, one slab cache. It runs a batch to completion before it looks at the next.
type Worker struct {
	c       Config
	decap   *Decap
	encap   *Encap
	in      *batch.Batch
	read    *batch.SuperBatch
	pace    batch.Pacer
	counts  Counters
	stalled bool // an input could not be read in this turn, though ready
	stopped atomic.Bool
}

// NewWorker returns a worker that does nothing until Run.
func NewWorker(c Config) *Worker {
	w := &Worker{
		c:     c,
		decap: NewDecap(c.Table, c.Lane, manyTrains, c.Signals, c.Inner, c.Offloads),
		in:    batch.NewBatch(manyTrains, c.Cache),
		read:  batch.NewSuperBatch(manySupers, c.Cache),
		pace:  batch.Pacer{Longest: int64(c.Pause)},
	}
	w.in.SetCap(fewTrains)
	w.read.SetCap(fewSupers)
	w.encap = NewEncap(c.Table, c.Lane, c.Segments, c.Cache, c.Inner, (*sender)(w))
	return w
}

// AddTo adds the worker's counters to s. Any goroutine.
func (w *Worker) AddTo(s *Snapshot) {
	s.Add(w.decap.Counters())
	s.Add(w.encap.Counters())
	s.Add(&w.counts)
}

// Rebind gives a worker other sockets and another poller, which has them and the queue, and lets
// it run again: its memory and its counters outlive the sockets. Run is not running meanwhile, and
// comes after it.
func (w *Worker) Rebind(socket4, socket6 Socket, poller Poller, segments int) {
	w.c.Socket4, w.c.Socket6, w.c.Poller, w.c.Segments = socket4, socket6, poller, segments
	w.encap.setSegments(segments)
	w.stopped.Store(false)
}

// Stop makes Run return after its batch; ring the poller's bell afterwards. Any goroutine.
func (w *Worker) Stop() { w.stopped.Store(true) }

// Run carries packets until Stop, or until waiting fails. It gives every slab back.
func (w *Worker) Run() error {
	defer w.release()
	for !w.stopped.Load() {
		ready, err := w.c.Poller.Wait(-1)
		if err != nil {
			return fmt.Errorf("wait for packets: %w", err)
		}
		w.counts.add(Wakeups, 1)
		if ready &= tagsMask; ready == 0 {
			continue // the bell
		}
		if err := w.busy(ready); err != nil {
			return err
		}
	}
	return nil
}

// busy works from one wake-up until everything is drained, sleeping between turns while packets
// come so fast that more will have gathered.
func (w *Worker) busy(ready uint64) error {
	now := w.c.Clock()
	w.pace.Woken(now)
	for !w.stopped.Load() {
		got, more := w.turn(ready, now)
		sleep := w.pace.Rest(got, more, now, w.c.Clock())
		if w.stalled {
			w.stalled, sleep = false, stallPause
			w.counts.add(Stalls, 1)
		}
		if sleep > 0 {
			w.counts.add(Pauses, 1)
			w.c.Poller.Sleep(time.Duration(sleep))
		}
		var err error
		if ready, err = w.c.Poller.Wait(0); err != nil {
			return fmt.Errorf("look for packets: %w", err)
		}
		if ready &= tagsMask; ready == 0 && sleep == 0 {
			return nil
		}
		now = w.c.Clock()
	}
	return nil
}

// turn gives every ready descriptor a bounded number of batches, and rings the bell once. It
// returns how many packets it carried, and whether a direction ended at its budget.
func (w *Worker) turn(ready uint64, now int64) (packets int, more bool) {
	before := w.carried()
	if ready&(1<<TagSocket4) != 0 {
		more = w.receive(w.c.Socket4, now)
	}
	if ready&(1<<TagSocket6) != 0 {
		more = w.receive(w.c.Socket6, now) || more
	}
	if ready&(1<<TagQueue) != 0 {
		more = w.transmit(now) || more
	}
	if w.decap.punts.rang || w.encap.punts.rang {
		w.decap.punts.rang, w.encap.punts.rang = false, false
		w.c.Bell()
	}
	return int(w.carried() - before), more
}

// carried returns how many packets both loops have carried so far.
func (w *Worker) carried() uint64 {
	return w.decap.counts.Figure(Segments) + w.encap.counts.Figure(Segments)
}

// receive carries what has arrived on a socket into the tunnel, and reports whether more may be
// waiting.
func (w *Worker) receive(s Socket, now int64) (more bool) {
	for range maxRounds {
		w.in.Reset()
		if s.Recv(w.in) != nil {
			w.stalled = true
			return false
		}
		n := len(w.in.Trains)
		if n == 0 {
			return false
		}
		w.write(w.decap.Batch(w.in, now))
		bytes := 0
		for i := range w.in.Trains {
			bytes += len(w.in.Trains[i].Buf)
		}
		full := n == w.in.Cap()
		w.in.SetCap(nextCap(n, bytes, full, fewTrains, manyTrains))
		if !full {
			return false // drained, as far as one can know without asking again
		}
	}
	return true
}

// write hands supers to the tunnel. What it does not take is dropped: a full tunnel queue means
// that the host cannot keep up, an error that the interface is going away.
func (w *Worker) write(supers []batch.Super) {
	n, err := w.c.Queue.Write(supers)
	switch lost := len(supers) - n; {
	case lost == 0:
	case err != nil:
		w.counts.drop(fib.DropTunnelRefused, lost)
	default:
		w.counts.drop(fib.DropTunnelFull, lost)
	}
}

// transmit carries what is queued in the tunnel to the clients, and reports whether more may be
// waiting.
func (w *Worker) transmit(now int64) (more bool) {
	for range maxRounds {
		w.read.Reset()
		if w.c.Queue.Read(w.read) != nil {
			w.stalled = true
			return false
		}
		n := len(w.read.Packets)
		if n == 0 {
			return false
		}
		w.encap.Batch(w.read, now)
		bytes := 0
		for i := range w.read.Packets {
			bytes += len(w.read.Packets[i].Buf)
		}
		full := n == w.read.Cap()
		w.read.SetCap(nextCap(n, bytes, full, fewSupers, manySupers))
		if !full {
			return false
		}
	}
	return true
}

// nextCap returns how many trains or packets the next batch takes, after one of n, of bytes bytes.
func nextCap(n, bytes int, full bool, few, many int) int {
	if bytes < fullBytes && (full || n > few) {
		return many
	}
	return few
}

func (w *Worker) release() {
	w.in.Release()
	w.read.Release()
	w.encap.Release()
	w.c.Cache.Flush()
}
