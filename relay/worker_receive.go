package relay

import (
	"encoding/binary"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// fromClients reads a listening socket: ChannelData goes to peers, STUN to the machine. It reports
// whether more may be waiting.
func (w *Worker) fromClients(l *listener) (more bool) {
	for range maxRounds {
		trains, drained := w.read(l.socket, &l.limit)
		for i := range trains {
			t := &trains[i]
			switch first := t.Buf[0]; {
			case t.Remote.Port() == 0:
				w.counts.drop(DropSourcePort, t.Len())
			case t.Len() == 1 && stun.Is(first):
				w.signal(l, t, t.Buf)
			default:
				w.unwrap(l, t)
			}
		}
		if drained {
			return false
		}
	}
	return true
}

// unwrap sends the payloads of a train of ChannelData messages to the peers of their channels,
// in runs of equal headers: one look-up, one gather a run.
func (w *Worker) unwrap(l *listener, t *batch.Train) {
	a := w.table.Client(t.Remote, t.Local)
	// Segments without room for a header pay nothing, and give nothing back either.
	if a != nil && !a.Take(max(0, len(t.Buf)-t.Len()*stun.ChannelHeader), w.now) {
		w.overspent(l, t)
		return
	}
	w.forward(l, t, a)
}

// forward does so for a train of the client that has allocation a, or none, within its bandwidth.
func (w *Worker) forward(l *listener, t *batch.Train, a *Allocation) {
	var r run
	for at := 0; at < len(t.Buf); at += t.Stride {
		segment := t.Buf[at:min(at+t.Stride, len(t.Buf))]
		if len(segment) < stun.ChannelHeader || binary.BigEndian.Uint32(segment) != r.head || r.channel == nil {
			if !w.open(&r, l, t, a, at) {
				continue
			}
		} else if stun.ChannelHeader+r.n > len(segment) {
			w.counts.drop(DropMalformed, 1)
			continue
		}
		if r.overspent {
			w.counts.drop(DropBandwidth, 1)
			continue
		}
		payload := segment[stun.ChannelHeader : stun.ChannelHeader+r.n : stun.ChannelHeader+r.n]
		if r.gather == nil || !r.gather.takes(r.wire, t.ECN, w.out.segments) {
			r.gather = w.gather(&r, t.ECN)
		}
		r.gather.add(payload)
	}
}

// overspent drops a train beyond its client's bandwidth, but for the requests in it: those the
// client needs to keep its allocation.
func (w *Worker) overspent(l *listener, t *batch.Train) {
	for at := 0; at < len(t.Buf); at += t.Stride {
		if stun.Is(t.Buf[at]) {
			w.signal(l, t, t.Buf[at:min(at+t.Stride, len(t.Buf))])
		} else {
			w.counts.drop(DropBandwidth, 1)
		}
	}
}

// run is a run of equal ChannelData headers in a train.
type run struct {
	head    uint32 // the header
	channel *Channel
	exit    *exit // towards the channel's peer, or towards the client of its far side
	far     bool  // channel is the far side's: see Table.Hairpin
	n, wire int   // payload bytes of a segment, bytes of it as it leaves
	gather  *outgoing
	// overspent: beyond the bandwidth of the allocation at the far side.
	overspent bool
}

// open starts the run that the segment at byte at begins, or handles what is no data on a bound
// channel and reports false.
func (w *Worker) open(r *run, l *listener, t *batch.Train, a *Allocation, at int) bool {
	r.channel, r.gather, r.overspent = nil, nil, false
	segment := t.Buf[at:min(at+t.Stride, len(t.Buf))]
	if stun.Is(segment[0]) {
		w.signal(l, t, segment)
		return false
	}
	number, payload, ok := stun.ChannelData(segment)
	switch {
	case segment[0]>>4 != MinChannel>>12:
		return w.refuse(DropUnknown)
	case !ok:
		return w.refuse(DropMalformed)
	case a == nil:
		return w.refuse(DropNoAllocation)
	}
	c := a.Channel(number)
	if c == nil || w.held.n > 0 {
		if c = w.early(l, t, segment, a, number, c); c == nil {
			return false
		}
	}
	r.head, r.n, r.wire = binary.BigEndian.Uint32(segment), len(payload), len(payload)
	far, own := w.table.Hairpin(c)
	if own {
		return w.openFar(r, far, t, at)
	}
	p, ok := a.Handle.(*port)
	if !ok || p.worker != w {
		return w.refuse(DropForeignWorker)
	}
	if r.exit = p.exit(c.Peer.Addr().Is4()); r.exit == nil {
		return w.refuse(DropNoFamily)
	}
	r.channel, r.far = c, false
	return true
}

// openFar starts a run whose peer is another allocation of this relay, on channel far of it, and
// whose bandwidth it therefore uses too.
func (w *Worker) openFar(r *run, far *Channel, t *batch.Train, at int) bool {
	if far == nil {
		return w.refuse(DropFarUnbound)
	}
	if r.exit = w.toClient(far.Allocation); r.exit == nil {
		return w.refuse(DropNoFamily)
	}
	r.channel, r.far, r.wire = far, true, r.n+stun.ChannelHeader
	r.overspent = !far.Allocation.Take(r.n*segmentsOf(r.head, t, at), w.now)
	return true
}

// segmentsOf returns how many segments from byte at on have the same header.
func segmentsOf(head uint32, t *batch.Train, at int) (n int) {
	for ; at+stun.ChannelHeader <= len(t.Buf) && binary.BigEndian.Uint32(t.Buf[at:]) == head; at += t.Stride {
		n++
	}
	return n
}

// refuse counts one segment that goes nowhere.
func (w *Worker) refuse(d Drop) bool {
	w.counts.drop(d, 1)
	return false
}

// gather returns a gather for the next segment of a run.
func (w *Worker) gather(r *run, ecn uint8) *outgoing {
	if r.far {
		return w.out.toClient(r.exit, r.channel, r.n, ecn)
	}
	return w.out.toPeer(r.exit, r.channel, r.n, ecn)
}

// toClient returns the way to an allocation's client, or nil.
func (w *Worker) toClient(a *Allocation) *exit {
	l := &w.listen[tagListen6]
	if a.Client.Remote.Addr().Is4() {
		l = &w.listen[tagListen4]
	}
	if l.socket == nil {
		return nil
	}
	return &l.exit
}

// fromPeers reads a socket of a relayed port: what comes from a peer with a channel goes to the
// client. It reports whether more may be waiting.
func (w *Worker) fromPeers(s slot) (more bool) {
	for range maxRounds {
		trains, drained := w.read(s.socket, &s.port.limit)
		a := w.table.Port(s.port.number)
		if a != nil && a.Handle != any(s.port) {
			a = nil // the port's next owner, while this one is being closed
		}
		for i := range trains {
			w.wrap(&trains[i], a)
		}
		if drained {
			return false
		}
	}
	return true
}

// wrap sends the segments of a peer's train to the client of allocation a as ChannelData.
func (w *Worker) wrap(t *batch.Train, a *Allocation) {
	segments := t.Len()
	if a == nil {
		w.counts.drop(DropNoAllocation, segments)
		return
	}
	c := a.Peer(t.Remote)
	if c == nil {
		w.counts.drop(DropUnboundPeer, segments)
		return
	}
	x := w.toClient(a)
	if x == nil {
		w.counts.drop(DropNoFamily, segments)
		return
	}
	if !a.Take(len(t.Buf), w.now) {
		w.counts.drop(DropBandwidth, segments)
		return
	}
	var g *outgoing
	for at := 0; at < len(t.Buf); at += t.Stride {
		payload := t.Buf[at:min(at+t.Stride, len(t.Buf))]
		if g == nil || !g.takes(len(payload)+stun.ChannelHeader, t.ECN, w.out.segments) {
			g = w.out.toClient(x, c, len(payload), t.ECN)
		}
		g.add(payload)
	}
}

// signal handles a STUN message from a client: a Binding request is answered at once, all else is
// the machine's.
func (w *Worker) signal(l *listener, t *batch.Train, message []byte) {
	answer, verdict := w.bindings.Answer(w.answer[:0], message, Tuple{Remote: t.Remote, Local: t.Local}, w.now)
	switch verdict {
	case Answered:
		w.reply[0] = batch.Train{Buf: answer, Stride: len(answer), Remote: t.Remote, Local: t.Local}
		switch n, err := l.socket.Send(w.reply[:]); {
		case err != nil:
			w.counts.drop(DropSendRefused, 1)
		case n == 0:
			w.counts.drop(DropSendFull, 1)
		default:
			w.counts.add(BindingsAnswered, 1)
		}
		return
	case Dropped:
		return
	}
	cell := sourceCell(t.Remote.Addr(), w.table.seed)
	if a := w.table.Client(t.Remote, t.Local); a != nil {
		cell = allocationCell(a)
	}
	if !w.punts.push(Tuple{Remote: t.Remote, Local: t.Local}, message, cell) {
		w.counts.drop(DropPuntFull, 1)
		return
	}
	w.counts.add(Punts, 1)
	w.rang = true
}
