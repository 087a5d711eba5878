package fastpath

import (
	"net/netip"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// maxSegments is how many segments of one train decap carries: twice what UDP_GRO gathers
// (UDP_GRO_CNT_MAX is 64, net/ipv4/udp_offload.c) and as many as a local sender can put in one
// train (UDP_MAX_SEGMENTS is 128 since Linux 6.9). More are dropped and counted.
const maxSegments = 128

// Decap carries packets from clients to resources. One goroutine at a time.
type Decap struct {
	table  *fib.Table
	lane   int
	punts  rings
	counts Counters

	// The data messages of one train, and what became of each; reused for every train.
	msgs     [][]byte
	counters []uint64
	ok       []bool
	scratch  wireguard.Scratch
	info     packet.Info

	admitted   admission
	join       coalescer
	flows      flowCache
	headers    headerRoom
	ident      uint16 // identification of the next packet translated to IPv4
	innerBytes int    // of this batch
}

// rings are the two ways to control: inner packets cannot keep handshakes out.
type rings struct {
	signals *Punts // outer datagrams
	inner   *Punts // inner packets and wishes
	rang    bool   // something was pushed since the bell was last rung
}

// admission is the last decision about an inner source, kept for the packets that follow.
type admission struct {
	peer   *fib.Peer
	policy *fib.Policy
	src    netip.Addr
}

// NewDecap returns the decap loop's steps for batches of up to trains trains. lane is the
// worker's number among the writers of a peer's counters.
func NewDecap(table *fib.Table, lane, trains int, signals, inner *Punts, o Offloads) *Decap {
	return &Decap{
		table:    table,
		lane:     lane,
		punts:    rings{signals: signals, inner: inner},
		msgs:     make([][]byte, 0, maxSegments),
		counters: make([]uint64, maxSegments),
		ok:       make([]bool, maxSegments),
		join:     newCoalescer(trains*maxSegments, o),
		headers:  newHeaderRoom(trains * maxSegments),
	}
}

// Counters returns the loop's counters.
func (d *Decap) Counters() *Counters { return &d.counts }

// Batch takes received trains, decrypts them in place, and returns the superpackets to write to
// the tunnel, in order. They are lent until b is reset, or the next call.
func (d *Decap) Batch(b *batch.Batch, now int64) []batch.Super {
	d.join.reset()
	d.flows.reset()
	d.headers.reset()
	d.admitted = admission{}
	d.innerBytes = 0
	for i := range b.Trains {
		t := &b.Trains[i]
		d.count(t)
		d.classify(t)
		for from := 0; from < len(d.msgs); {
			to := d.runEnd(from)
			d.run(t, from, to, now)
			from = to
		}
	}
	d.admitAll(now)
	supers := d.join.finish()
	if len(supers) > 0 {
		d.counts.add(Turns, 1)
		d.counts.add(Supers, len(supers))
		d.counts.add(InnerBytes, d.innerBytes)
	}
	return supers
}

func (d *Decap) count(t *batch.Train) {
	d.counts.add(Trains, 1)
	d.counts.add(Segments, t.Len())
	d.counts.add(Bytes, len(t.Buf))
}

// classify sorts a train's segments by their first bytes: data messages join d.msgs, signals go
// to control, the rest is dropped.
func (d *Decap) classify(t *batch.Train) {
	d.msgs = d.msgs[:0]
	n := t.Len()
	if n > maxSegments {
		d.counts.drop(fib.DropOversized, n-maxSegments)
		n = maxSegments
	}
	for i := range n {
		seg := t.Segment(i)
		switch classify(seg) {
		case classData:
			d.msgs = append(d.msgs, seg)
		case classSignal:
			d.signal(t, seg)
		default:
			d.counts.drop(fib.DropUnknown, 1)
		}
	}
}

// runEnd returns where the run of messages of one session that starts at from ends.
func (d *Decap) runEnd(from int) int {
	index := wireguard.ReceiverIndex(d.msgs[from])
	to := from + 1
	for to < len(d.msgs) && wireguard.ReceiverIndex(d.msgs[to]) == index {
		to++
	}
	return to
}

// run carries messages [from, to) of one session through the steps: match, open, accept, touch,
// admit, coalesce.
func (d *Decap) run(t *batch.Train, from, to int, now int64) {
	msgs, counters, ok := d.msgs[from:to], d.counters[from:to], d.ok[from:to]
	s := d.match(msgs, now)
	if s == nil {
		return
	}
	for i, m := range msgs {
		counters[i] = wireguard.Counter(m)
	}
	s.Keys.Open(&d.scratch, msgs, counters, ok)
	authentic := countTrue(ok)
	d.counts.drop(fib.DropForged, len(msgs)-authentic)
	if authentic == 0 {
		return
	}
	s.Accept(counters, ok)
	fresh := countTrue(ok)
	d.counts.drop(fib.DropReplay, authentic-fresh)
	if fresh == 0 {
		return
	}
	msgs, counters = kept(msgs, counters, ok)
	d.order(msgs, counters)
	d.touch(s, t, msgs, now)
	policy := s.Peer.Policy()
	for _, m := range msgs {
		if len(m) > wireguard.DataMinSize {
			d.deliver(s.Peer, policy, t.ECN, m, now)
		}
	}
}

// kept moves the messages that are ok to the front, in order, and returns them.
func kept(msgs [][]byte, counters []uint64, ok []bool) ([][]byte, []uint64) {
	n := 0
	for i := range msgs {
		if ok[i] {
			msgs[n], counters[n] = msgs[i], counters[i]
			n++
		}
	}
	return msgs[:n], counters[:n]
}

// match finds the session of a run and refuses what is past its time.
func (d *Decap) match(msgs [][]byte, now int64) *fib.Session {
	s := d.table.Session(wireguard.ReceiverIndex(msgs[0]))
	if s == nil {
		d.counts.drop(fib.DropNoSession, len(msgs))
		return nil
	}
	if s.Expired(now) {
		d.counts.drop(fib.DropExpired, len(msgs))
		return nil
	}
	return s
}

// order sorts a run by counter: what was swapped within one train is put right. In order already,
// as nearly always, it costs one comparison a message.
func (d *Decap) order(msgs [][]byte, counters []uint64) {
	inversions := 0
	for i := 1; i < len(counters); i++ {
		if counters[i] > counters[i-1] {
			continue
		}
		inversions++
		for j := i; j > 0 && counters[j] < counters[j-1]; j-- {
			counters[j], counters[j-1] = counters[j-1], counters[j]
			msgs[j], msgs[j-1] = msgs[j-1], msgs[j]
		}
	}
	if inversions > 0 {
		d.counts.add(Inversions, inversions)
	}
}

// touch tells the session what arrived, and control what follows from it.
func (d *Decap) touch(s *fib.Session, t *batch.Train, msgs [][]byte, now int64) {
	packets, bytes := 0, 0
	for _, m := range msgs {
		bytes += len(m)
		if len(m) > wireguard.DataMinSize {
			packets++
		}
	}
	wish := s.Touch(d.lane, packets, bytes, now) | s.Peer.ArrivedFrom(t.Remote, t.Local.Addr())
	if wish != 0 {
		d.wish(s, t, wish)
	}
}

// deliver parses and checks one decrypted message and adds its packet to the batch's
// superpackets. m is the whole message, opened in place; ecn is the outer header's.
func (d *Decap) deliver(p *fib.Peer, policy *fib.Policy, ecn uint8, m []byte, now int64) {
	ip := m[wireguard.HeaderSize : len(m)-wireguard.TagSize]
	if !packet.Parse(ip, &d.info) {
		d.counts.drop(fib.DropMalformed, 1)
		return
	}
	ip = ip[:d.info.Len]
	if !d.owned(p, policy) {
		d.refuseForeign(p, policy, ip, now)
		return
	}
	if ecn == packet.ECNCongested && !packet.SetCongested(ip, &d.info) {
		d.counts.drop(fib.DropCongested, 1)
		return
	}
	d.innerBytes += len(ip)
	d.join.add(m[wireguard.HeaderSize-batch.SuperHeadroom:wireguard.HeaderSize+d.info.Len], &d.info, p, policy)
}

// owned reports whether the packet's source is the peer's own: one of its tunnel addresses if it
// has a policy, else of its allowed IPs.
func (d *Decap) owned(p *fib.Peer, policy *fib.Policy) bool {
	a := &d.admitted
	if a.peer == p && a.policy == policy && a.src == d.info.Src {
		return true
	}
	own := false
	if policy != nil {
		own = policy.Owns(d.info.Src)
	} else {
		own = d.table.PeerByAddr(d.info.Src) == p
	}
	if own {
		d.admitted = admission{peer: p, policy: policy, src: d.info.Src}
	}
	return own
}

// refuseForeign drops a packet whose source is not the peer's own. A client is told so, as of any
// packet that its policy refuses.
func (d *Decap) refuseForeign(p *fib.Peer, policy *fib.Policy, ip []byte, now int64) {
	v := fib.DropForeignSource
	if policy != nil {
		if _, why := policy.Admit(&d.info); why != fib.Pass {
			v = why
		}
	}
	d.refuse(p, v, ip, 1, now)
}

// signal hands a handshake or STUN message to control.
func (d *Decap) signal(t *batch.Train, seg []byte) {
	p := Punted{Kind: PuntOuter, Local: t.Local, Remote: t.Remote}
	if !d.punts.signals.Push(&p, seg) {
		d.counts.drop(fib.DropPuntFull, 1)
		return
	}
	d.punts.rang = true
}

// wish tells control what the loop noticed; a full ring leaves it to be noticed again.
func (d *Decap) wish(s *fib.Session, t *batch.Train, w fib.Wish) {
	p := Punted{Kind: PuntWish, Wish: w, Peer: s.Peer, Session: s, Local: t.Local, Remote: t.Remote}
	if !d.punts.inner.Push(&p, nil) {
		s.Unheard(w)
		return
	}
	d.punts.rang = true
}

func countTrue(ok []bool) (n int) {
	for _, o := range ok {
		if o {
			n++
		}
	}
	return n
}
