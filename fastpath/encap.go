package fastpath

import (
	"net/netip"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// sendTrains is how many trains one send call carries at most. Thirty-two cost 2 MiB of slabs a
// worker when every packet has another destination, and one is the common case.
const sendTrains = 32

// Sender sends trains. One call per batch.
type Sender interface {
	// Send sends the trains in order and returns when all are sent, or dropped and counted by
	// the sender.
	Send(trains []batch.Train)
}

// Encap carries packets from resources to clients. One goroutine at a time.
type Encap struct {
	table  *fib.Table
	lane   int
	out    Sender
	punts  rings
	counts Counters

	trains  trains
	msgs    [][]byte
	scratch wireguard.Scratch
	info    packet.Info
	plan    packet.Segmentation
	flows   flowCache
	ident   uint16      // identification of the next packet translated to IPv4
	quoted  packet.Info // what an ICMP error quotes
	errors  []byte      // room for an ICMP error made anew
	headers [packet.MaxTranslatedHeaders]byte
	rewrite *packet.Rewrite // of the packet that is translated

	routed route
}

// route is the last look-up of an inner destination, kept for the packets that follow.
type route struct {
	dst  netip.Addr
	peer *fib.Peer
}

// NewEncap returns the encap loop's steps. It sends through out, in trains of up to segments
// segments, from slabs of cache.
func NewEncap(table *fib.Table, lane, segments int, cache *bufpool.Cache, inner *Punts, out Sender) *Encap {
	return &Encap{
		table:  table,
		lane:   lane,
		out:    out,
		punts:  rings{inner: inner},
		trains: newTrains(sendTrains, segments, cache),
		msgs:   make([][]byte, segments),
		errors: make([]byte, puntBytes),
	}
}

// setSegments makes the trains from the next batch on carry up to segments segments.
func (e *Encap) setSegments(segments int) {
	e.trains.maxSegments = segments
	if segments > len(e.msgs) {
		e.msgs = make([][]byte, segments)
	}
}

// Counters returns the loop's counters.
func (e *Encap) Counters() *Counters { return &e.counts }

// Release gives the send slabs back to the cache.
func (e *Encap) Release() { e.trains.release() }

// Batch takes packets and superpackets read from the tunnel, cuts and seals them, and sends the
// trains. in may be reset when it returns.
func (e *Encap) Batch(in *batch.SuperBatch, now int64) {
	e.routed = route{}
	e.flows.reset()
	for i := range in.Packets {
		e.packet(&in.Packets[i], now)
	}
	e.flush()
	if n := len(in.Packets); n > 0 {
		e.counts.add(Turns, 1)
		e.counts.add(Supers, n)
	}
}

// packet carries one packet or superpacket through the steps: parse, route, untranslate and admit,
// next hop, plan, number, and then cut and seal in runs.
func (e *Encap) packet(p *batch.Packet, now int64) {
	if !packet.Parse(p.Buf, &e.info) {
		e.counts.drop(fib.DropMalformed, 1)
		return
	}
	super := p.Buf[:e.info.Len]
	peer := e.route()
	if peer == nil {
		e.counts.drop(fib.DropNotAClient, 1)
		return
	}
	if policy := peer.Policy(); policy != nil {
		var v fib.Verdict
		super, v = e.admitReply(peer, policy, p, super, now)
		if v == fib.ReplyTooBig && e.mayCut(policy, p, super) {
			e.cutFragments(peer, p, super, now)
			return
		}
		if v != fib.Pass {
			e.refuseReply(v, peer, p, super, now)
			return
		}
	}
	e.carry(peer, p, super, now)
}

// carry takes an admitted packet or superpacket through the steps from next hop on.
func (e *Encap) carry(peer *fib.Peer, p *batch.Packet, super []byte, now int64) {
	path, s, v := peer.NextHop(now)
	if v != fib.Pass {
		e.refuse(v, peer, p, super)
		return
	}
	if !e.planCut(super, &p.Offload) {
		e.counts.drop(fib.DropBadOffload, 1)
		return
	}
	if messageSize(e.plan.Size(0), e.padTo(s)) > maxTrainBytes {
		e.counts.drop(fib.DropOversized, 1)
		return
	}
	n := e.plan.Count()
	first, ok := s.Keys.Take(n)
	if !ok {
		e.counts.drop(fib.DropKeyExhausted, n)
		e.wish(s, s.Peer.Want())
		return
	}
	bytes := e.seal(path, s, super, first, n)
	e.counts.add(InnerBytes, len(super))
	if wish := s.Sent(e.lane, bytes, now); wish != 0 {
		e.wish(s, wish)
	}
}

// route finds the peer of the packet's destination.
func (e *Encap) route() *fib.Peer {
	if e.routed.peer == nil || e.routed.dst != e.info.Dst {
		e.routed = route{dst: e.info.Dst, peer: e.table.PeerByAddr(e.info.Dst)}
	}
	return e.routed.peer
}

// planCut checks the superpacket against what the tunnel queue said of it.
func (e *Encap) planCut(super []byte, o *batch.Offload) (ok bool) {
	start := o.CsumStart
	if !o.NeedsCsum {
		start = 0
	}
	e.plan, ok = packet.PlanCut(super, packet.Kind(o.Kind), o.SegmentSize, start, o.CsumOffset)
	return ok
}

// seal cuts the superpacket into the tails of trains and seals each train's share in one call.
// It returns the bytes of all messages.
func (e *Encap) seal(path *fib.Path, s *fib.Session, super []byte, first uint64, n int) (bytes int) {
	ecn := e.info.TOS & packet.ECNMask
	padTo := e.padTo(s)
	for i := 0; i < n; {
		size := messageSize(e.plan.Size(i), padTo)
		at, room, fit := e.trains.reserve(path, ecn, size, n-i)
		if fit == 0 {
			if len(e.trains.list) == 0 {
				e.counts.drop(fib.DropNoBuffer, n-i)
				return bytes
			}
			e.flush()
			continue
		}
		used := e.cut(room, super, i, fit, padTo)
		s.Keys.Seal(&e.scratch, e.msgs[:fit], first+uint64(i))
		e.trains.commit(at, fit, used)
		bytes += used
		i += fit
	}
	return bytes
}

// padTo returns up to which length packets are padded under s, 0 for no padding.
func (e *Encap) padTo(s *fib.Session) int {
	if s.Peer.Pad {
		return e.table.MTU()
	}
	return 0
}

// cut writes packets [i, i+n) of the superpacket to their places in room and notes the messages
// around them in e.msgs. It returns how many bytes of room they take.
func (e *Encap) cut(room, super []byte, i, n, padTo int) (used int) {
	for k := range n {
		size := messageSize(e.plan.Size(i+k), padTo)
		msg := room[used : used+size : used+size]
		inner := msg[wireguard.HeaderSize : size-wireguard.TagSize]
		clear(inner[e.plan.Cut(inner, super, i+k):])
		e.msgs[k] = msg
		used += size
	}
	return used
}

// messageSize returns the length of the data message around an inner packet of n bytes: padded
// to 16 bytes, but not beyond padTo, the tunnel's MTU, or not at all where padTo is 0 (WireGuard
// paper, section 5.4.6).
func messageSize(n, padTo int) int {
	if padded := (n + 15) &^ 15; n < padTo {
		n = min(padded, padTo)
	}
	return wireguard.HeaderSize + n + wireguard.TagSize
}

// refuse counts a packet that has no next hop. One that lacks only a session is offered to
// control, which keeps the first few until there is one.
func (e *Encap) refuse(v fib.Verdict, peer *fib.Peer, p *batch.Packet, super []byte) {
	if v == fib.DropNoSession && e.keep(peer, p, super) {
		return
	}
	e.counts.drop(v, 1)
}

// keep hands a packet to control; a superpacket is not kept, only its peer reported.
func (e *Encap) keep(peer *fib.Peer, p *batch.Packet, super []byte) bool {
	punted := Punted{Kind: PuntInner, Wish: fib.WishSession, Peer: peer}
	single := p.Offload.Kind == batch.OffloadNone && len(super) <= puntBytes
	if !single {
		punted.Kind, super = PuntWish, nil
		if peer.Want() == 0 {
			return false
		}
	} else if p.Offload.NeedsCsum {
		packet.FinishChecksum(super, p.Offload.CsumStart, p.Offload.CsumOffset)
	}
	if !e.punts.inner.Push(&punted, super) {
		peer.Unheard(fib.WishSession)
		return false
	}
	e.punts.rang = true
	return single
}

// wish tells control what the loop noticed; a full ring leaves it to be noticed again.
func (e *Encap) wish(s *fib.Session, w fib.Wish) {
	if w == 0 {
		return
	}
	p := Punted{Kind: PuntWish, Wish: w, Peer: s.Peer, Session: s}
	if !e.punts.inner.Push(&p, nil) {
		s.Unheard(w)
		return
	}
	e.punts.rang = true
}

// flush sends what is built.
func (e *Encap) flush() {
	if len(e.trains.list) == 0 {
		return
	}
	for i := range e.trains.list {
		e.counts.add(Segments, e.trains.tails[i].segments)
		e.counts.add(Bytes, len(e.trains.list[i].Buf))
	}
	e.counts.add(Trains, len(e.trains.list))
	e.out.Send(e.trains.list)
	e.trains.reset()
}
