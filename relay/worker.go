package relay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/internal/poll"
	"github.com/firelane/firelane/internal/udp"
)

// Batch sizes. Full trains are taken few at a time, half a megabyte, which stays in a core's
// second-level cache from the receive call to the send call; single datagrams are taken many at a
// time, so that system calls and trains are shared by more of them.
const (
	fewMessages  = 8
	manyMessages = 64
	// batchSlabs is how many messages a batch holds, from any number of sockets.
	batchSlabs = 64
	// fullBytes is how much a batch holds when it is carried out at the latest.
	fullBytes = 512 << 10
)

// maxRounds bounds how often one socket is read before the others have their turn.
const maxRounds = 4

// stallPause is how long, in nanoseconds, a worker leaves its input alone that it cannot read:
// the pool is empty. Readiness stays, so it would spin otherwise.
const stallPause = 1_000_000

// briskGap is the time in nanoseconds between two wake-ups below which they count as brisk: at more
// than 5,000 packets a second a relay, which is one hop of several on a long way, rather costs the
// half millisecond of an interval than a wake-up for each packet.
const briskGap = 200_000

// Tags of a worker's listening sockets in its poll set; those of its ports come behind.
const (
	tagListen4 = iota
	tagListen6
	firstPortTag
)

// workerConfig is what a worker is made of.
type workerConfig struct {
	table *Table
	// listen4 and listen6 are its sockets of the listening port's groups; one may be nil.
	listen4, listen6 *udp.Socket
	// cache is its own stock of slabs, for batchSlabs of them.
	cache *bufpool.Cache
	// segments is how many segments one message may carry.
	segments int
	// clock reads monotonic nanoseconds.
	clock func() int64
	// bell tells control that there are punts.
	bell func()
	// bindings answers Binding requests.
	bindings *Bindings
	// pause is the longest interval at which the worker, when busy, looks for packets instead of
	// being woken for them; 0 for never.
	pause time.Duration
}

// Worker is one core's share of the data path: a listening socket per family, the sockets of the
// allocations whose clients the kernel sends to these, and the memory for all their calls. It
// carries a batch to completion before it looks at the next.
type Worker struct {
	workerConfig
	set     *poll.Crowd
	scratch *udp.Scratch
	in      *batch.Batch
	bytes   int // in the batch
	out     egress
	listen  [firstPortTag]listener
	slots   []slot // by tag
	free    []int32
	looked  int // the slot that was looked at last
	ready   []int32
	pace    batch.Pacer
	counts  workerCounters
	punts   *punts
	held    held
	answer  []byte         // of a Binding request
	reply   [1]batch.Train // with answer
	rang    bool           // there are new punts
	stalled bool           // an input could not be read in this turn, though ready
	now     int64          // of the turn

	stopped atomic.Bool
	orders  orders
}

// listener is a listening socket: a way in and a way out.
type listener struct {
	exit
	limit uint8 // messages of the next receive call
}

// newWorker returns a worker that does nothing until run.
func newWorker(c workerConfig) (*Worker, error) {
	set, err := poll.NewCrowd()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		workerConfig: c,
		set:          set,
		scratch:      udp.NewScratch(),
		in:           batch.NewBatch(batchSlabs, c.cache),
		slots:        make([]slot, firstPortTag),
		ready:        make([]int32, 0, 512),
		pace:         batch.Pacer{Longest: int64(c.pause), Brisk: briskGap, First: int64(c.pause)},
		punts:        new(punts),
		answer:       make([]byte, 0, maxBindingAnswer),
	}
	w.out.init(c.segments, &w.counts)
	w.held.init()
	for tag, s := range []*udp.Socket{tagListen4: c.listen4, tagListen6: c.listen6} {
		if s == nil {
			continue
		}
		s.Share(w.scratch)
		w.listen[tag] = listener{exit: exit{socket: s, shared: true}, limit: fewMessages}
		if err := set.Add(s.Fd(), tag); err != nil {
			_ = set.Close()
			return nil, err
		}
	}
	return w, nil
}

// stop makes run return after its turn. Any goroutine.
func (w *Worker) stop() {
	w.stopped.Store(true)
	w.set.Ring()
}

// close frees what newWorker made and closes the ports. After run has ended.
func (w *Worker) close() {
	w.obey()
	for _, s := range w.slots {
		if s.port != nil {
			w.abandon(s.port)
		}
	}
	_ = w.set.Close()
}

// run carries packets until stop, or until waiting fails. It gives every slab back.
func (w *Worker) run() error {
	defer func() {
		w.in.Release()
		w.cache.Flush()
	}()
	for !w.stopped.Load() {
		if err := w.wait(w.restTime()); err != nil {
			return fmt.Errorf("wait for packets: %w", err)
		}
		w.counts.add(Wakeups, 1)
		if len(w.ready) == 0 && w.held.n == 0 {
			continue // the bell
		}
		if err := w.busy(); err != nil {
			return err
		}
	}
	return nil
}

// wait fills ready and carries out orders.
func (w *Worker) wait(d time.Duration) (err error) {
	w.ready, _, err = w.set.Wait(w.ready[:0], d)
	if w.orders.waiting.Load() {
		w.obey()
	}
	return err
}

// busy works from one wake-up until everything is drained, sleeping between turns while packets
// come so fast that more will have gathered.
func (w *Worker) busy() error {
	w.now = w.clock()
	w.pace.Woken(w.now)
	for !w.stopped.Load() {
		got, more := w.turn()
		sleep := w.pace.Rest(got, more, w.now, w.clock())
		if w.stalled {
			w.stalled, sleep = false, stallPause
			w.counts.add(Stalls, 1)
		}
		if sleep > 0 {
			w.counts.add(Pauses, 1)
			w.set.Sleep(time.Duration(sleep))
		}
		if err := w.wait(0); err != nil {
			return fmt.Errorf("look for packets: %w", err)
		}
		if len(w.ready) == 0 && sleep == 0 {
			return nil
		}
		w.now = w.clock()
	}
	return nil
}

// turn carries what was held, reads every ready socket within its budget, sends what comes of it, and rings the bell
// once. It returns how many datagrams it carried, and whether a socket ended at its budget.
func (w *Worker) turn() (datagrams int, more bool) {
	before := w.carried()
	if w.held.n > 0 {
		w.resume(nil, 0)
	}
	for _, tag := range w.ready {
		if tag < firstPortTag {
			more = w.fromClients(&w.listen[tag]) || more
		} else if s := w.slots[tag]; s.port != nil {
			more = w.fromPeers(s) || more
		}
	}
	w.flush()
	if w.rang {
		w.rang = false
		w.bell()
	}
	return int(w.carried() - before), more
}

func (w *Worker) carried() uint64 {
	m := &w.counts.measures
	return m[ToPeers].Load() + m[ToClients].Load()
}

// read appends what s holds to the batch, limit messages at most, after carrying the batch out if
// it is full. The trains are lent until the next read. drained means that s has, as far as one can
// know without asking again, no more.
func (w *Worker) read(s *udp.Socket, limit *uint8) (trains []batch.Train, drained bool) {
	if w.bytes >= fullBytes || len(w.in.Free()) == 0 {
		w.flush()
	}
	from, asked := len(w.in.Trains), min(int(*limit), len(w.in.Free()))
	n, err := s.RecvMore(w.in, int(*limit))
	if err != nil {
		w.stalled = true
		return nil, true
	}
	trains = w.in.Trains[from:]
	bytes := 0
	for i := range trains {
		bytes += len(trains[i].Buf)
	}
	w.bytes += bytes
	w.counts.add(Trains, len(trains))
	full := n == asked
	*limit = nextLimit(n, bytes, full)
	return trains, !full
}

// nextLimit returns how many messages the next call takes, after one of n, of bytes bytes.
func nextLimit(n, bytes int, full bool) uint8 {
	if bytes < fullBytes/2 && (full || n > fewMessages) {
		return manyMessages
	}
	return fewMessages
}

// flush sends what the batch came to, and empties it.
func (w *Worker) flush() {
	w.out.flush()
	w.held.settle()
	w.in.Reset()
	w.bytes = 0
}

// orders is what control wants of a worker: to adopt and abandon ports, and to look after them. Few,
// and none on the path of a packet, which looks at waiting once per wait.
type orders struct {
	waiting atomic.Bool
	refused atomic.Bool // there are lost ones
	mu      sync.Mutex
	list    []order
	lost    []*port // which the kernel does not let the worker poll
}

type order struct {
	port    *port // to adopt, or to abandon
	abandon bool
	from    *sources // to pin on all ports from now on
	look    bool     // what ports have lost
}

// give hands an order to the worker. Any goroutine.
func (w *Worker) give(o order) {
	w.orders.mu.Lock()
	w.orders.list = append(w.orders.list, o)
	w.orders.waiting.Store(true)
	w.orders.mu.Unlock()
	w.set.Ring()
}

// obey carries the orders out. No port is in use between two turns.
func (w *Worker) obey() {
	w.orders.mu.Lock()
	defer w.orders.mu.Unlock()
	for _, o := range w.orders.list {
		switch {
		case o.look:
			w.look()
		case o.from != nil:
			w.repin(*o.from)
		case o.abandon:
			w.abandon(o.port)
		default:
			if err := w.adopt(o.port); err != nil {
				w.counts.add(PortsRefused, 1)
				w.orders.lost = append(w.orders.lost, o.port)
				w.orders.refused.Store(true)
				w.bell()
			}
		}
	}
	clear(w.orders.list)
	w.orders.list = w.orders.list[:0]
	w.orders.waiting.Store(false)
	w.ready = w.ready[:0] // tags may stand for other sockets now; what is ready is reported again
}

// lost returns the ports whose adoption failed since it was asked last: their allocations carry nothing
// from peers. Any goroutine.
func (w *Worker) lost() (ports []*port) {
	if !w.orders.refused.Load() {
		return nil
	}
	w.orders.mu.Lock()
	defer w.orders.mu.Unlock()
	ports, w.orders.lost = w.orders.lost, nil
	w.orders.refused.Store(false)
	return ports
}
