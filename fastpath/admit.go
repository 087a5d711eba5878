package fastpath

import (
	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// admitAll takes the batch's superpackets of clients with a policy through the steps admit and
// translate: a superpacket is one flow's, so its one header is all there is to look at.
func (d *Decap) admitAll(now int64) {
	for i := range d.join.opens {
		if o := &d.join.opens[i]; o.policy != nil {
			d.admitSuper(o, now)
		}
	}
}

func (d *Decap) admitSuper(o *open, now int64) {
	ip := o.head[batch.SuperHeadroom:]
	packet.Parse(ip, &d.info) // it was well-formed a moment ago
	flow := d.decide(o.peer, o.policy, &d.info, now)
	if flow.verdict != fib.Pass {
		d.refuse(o.peer, flow.verdict, ip, o.count, now)
		d.withdraw(o)
		return
	}
	switch flow.change {
	case changeRewrite:
		flow.rewrite.Apply(ip, &d.info, false)
	case changeTranslate:
		if !d.translate(o, &flow.rewrite) {
			d.counts.drop(fib.DropUntranslatable, o.count)
			d.withdraw(o)
		}
	}
}

// withdraw keeps o from the tunnel.
func (d *Decap) withdraw(o *open) {
	o.refused = true
	d.innerBytes -= o.bytes
}

// decide returns what policy and NAT make of a client's packet: remembered within the batch, else
// looked up.
func (d *Decap) decide(p *fib.Peer, policy *fib.Policy, info *packet.Info, now int64) *decision {
	flow, decided := d.flows.find(p, info)
	if decided {
		return flow
	}
	target, v := policy.Admit(info)
	if v == fib.Pass && (target.Kind == fib.TargetName || target.Kind == fib.TargetPrefix64) {
		v = d.mapFlow(flow, p, policy, &target, info, now)
	}
	flow.verdict = v
	return flow
}

// mapFlow finds the outside tuple of a flow towards a target that is not what the client calls it.
func (d *Decap) mapFlow(flow *decision, p *fib.Peer, policy *fib.Policy, target *fib.Target, info *packet.Info, now int64) fib.Verdict {
	real, srcPort, dstPort := target.Real, info.SrcPort, info.DstPort
	if target.Kind == fib.TargetName || !policy.Stateless() {
		proto, ok := natProto(info)
		if !ok {
			return fib.DropUntranslatable
		}
		var v fib.Verdict
		srcPort, real, v = p.Flows().OutgoingUnder(policy.Epoch(), proto, info.SrcPort, info.Dst, target.Real, info.TCPFlags, now)
		if v != fib.Pass {
			return v
		}
		if proto == packet.ProtoICMP {
			dstPort = srcPort
		}
	}
	src := policy.Addr(real.Is6())
	if !src.IsValid() {
		return fib.ReplyUnreachable
	}
	flow.rewrite = packet.NewRewrite(info, src, real, srcPort, dstPort)
	flow.change = changeRewrite
	if src.Is6() != info.Src.Is6() {
		flow.change = changeTranslate
	}
	return fib.Pass
}

// translate writes the headers of o anew in the other family, beside the packet: they may be
// longer. Payloads stay where they are.
func (d *Decap) translate(o *open, r *packet.Rewrite) bool {
	ip := o.head[batch.SuperHeadroom:]
	if d.info.TCPFlags&packet.FlagSYN != 0 {
		packet.ClampMSS(ip, &d.info, translatedMSS(d.table.MTU()), false)
	}
	head := d.headers.next()
	n, payload, ok := r.Translate(head[batch.SuperHeadroom:], ip, &d.info, false, 0, d.ident)
	if !ok {
		return false
	}
	d.ident += uint16(o.count)
	first := ip[payload:d.info.Len]
	o.head, o.moved = head[:batch.SuperHeadroom+n], first
	o.bytes += n - payload
	o.l4 += n - payload
	o.payload = n
	o.version = 10 - o.version // 4 and 6
	return true
}

// translatedMSS returns the TCP segment size with which a packet of either family fits mtu when it
// is IPv6: 40 bytes of IPv6 header and 20 of TCP.
func translatedMSS(mtu int) uint16 { return uint16(min(max(mtu, minMTU)-60, 0xffff)) }

// minMTU is what every IPv4 host can take (RFC 1122, 3.3.3): no MTU makes MSS smaller than this one.
const minMTU = 576

// refuse drops n packets of a peer, and offers the first to control if it is to be answered.
func (d *Decap) refuse(p *fib.Peer, v fib.Verdict, ip []byte, n int, now int64) {
	d.counts.drop(v, n)
	if v.Answered() {
		d.punts.refused(&d.counts, p, v, ip, now)
	}
}

// refused hands a packet that is to be answered to control, if its client's allowance and the ring
// permit. The packet is counted already, as refused.
func (r *rings) refused(counts *Counters, p *fib.Peer, v fib.Verdict, ip []byte, now int64) {
	punted := Punted{Kind: PuntRefused, Verdict: v, Peer: p}
	if r.inner.Full() || !p.MayAnswer(now) || !r.inner.Push(&punted, ip[:min(len(ip), puntBytes)]) {
		counts.add(Unanswered, 1)
		return
	}
	r.rang = true
}

// headerRoom is memory for headers that do not fit where the old ones stood: one piece a packet
// of a batch.
type headerRoom struct {
	memory []byte
	used   int
}

const headerPiece = batch.SuperHeadroom + packet.MaxTranslatedHeaders

func newHeaderRoom(packets int) headerRoom {
	return headerRoom{memory: make([]byte, packets*headerPiece)}
}

// next lends the next piece, until reset.
func (h *headerRoom) next() []byte {
	at := h.used
	h.used += headerPiece
	return h.memory[at:h.used:h.used]
}

func (h *headerRoom) reset() { h.used = 0 }
