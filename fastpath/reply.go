package fastpath

import (
	"net/netip"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// admitReply takes a packet to a client with a policy through the steps untranslate and admit, and
// returns it as the client is to see it: where it lay, or in memory lent until the next call.
// What is left of p.Offload describes the result.
func (e *Encap) admitReply(peer *fib.Peer, policy *fib.Policy, p *batch.Packet, super []byte, now int64) ([]byte, fib.Verdict) {
	if packet.IsError(&e.info) {
		if b, v := e.admitError(peer, policy, super, now); b != nil || v != fib.Pass {
			p.Offload = batch.Offload{}
			return b, v
		}
	}
	flow := e.decide(peer, policy, &e.info, now)
	if flow.verdict != fib.Pass {
		return nil, flow.verdict
	}
	switch flow.change {
	case changeRewrite:
		flow.rewrite.Apply(super, &e.info, p.Offload.NeedsCsum)
	case changeTranslate:
		return e.translate(p, super, &flow.rewrite)
	}
	return super, fib.Pass
}

// decide returns what policy and NAT make of a packet to a client: remembered within the batch,
// else looked up.
func (e *Encap) decide(p *fib.Peer, policy *fib.Policy, info *packet.Info, now int64) *decision {
	flow, decided := e.flows.find(p, info)
	if decided {
		return flow
	}
	if policy.FromGateway(info.Src) {
		flow.verdict = policy.AdmitReply(info)
		return flow
	}
	src, port, hit := e.mapBack(p, policy, info, now)
	switch hit {
	case fib.FlowExpired:
		flow.verdict = fib.DropExpiredFlow
		return flow
	case fib.FlowMiss:
		flow.verdict = policy.AdmitReply(info)
		return flow
	}
	seen := seenInside(info, src, policy.Addr(src.Is6()), port)
	if flow.verdict = policy.AdmitReply(&seen); flow.verdict != fib.Pass {
		return flow
	}
	flow.rewrite = packet.NewRewrite(info, seen.Src, seen.Dst, seen.SrcPort, seen.DstPort)
	flow.change = changeRewrite
	if seen.Src.Is6() != info.Src.Is6() {
		flow.change = changeTranslate
	}
	return flow
}

// mapBack finds what the client calls the source of a packet, and its own port.
func (e *Encap) mapBack(p *fib.Peer, policy *fib.Policy, info *packet.Info, now int64) (src netip.Addr, port uint16, hit fib.Hit) {
	if proto, ok := natProto(info); ok {
		port, src, hit = p.Flows().Incoming(proto, info.DstPort, info.Src, info.TCPFlags, now)
		if hit != fib.FlowMiss {
			return src, port, hit
		}
	}
	if src, ok := embedded(policy, info.Src); ok {
		return src, info.DstPort, fib.FlowFound
	}
	return netip.Addr{}, 0, fib.FlowMiss
}

// embedded returns how a client with stateless NAT64 sees an IPv4 address. It sees the gateway's own
// as it is.
func embedded(policy *fib.Policy, a netip.Addr) (netip.Addr, bool) {
	prefix, ok := policy.Prefix64()
	if !ok || !policy.Stateless() || !a.Is4() || !policy.Addr(true).IsValid() || policy.FromGateway(a) {
		return netip.Addr{}, false
	}
	return prefix.Embed(a), true
}

// seenInside is info as it will be behind the client's NAT.
func seenInside(info *packet.Info, src, dst netip.Addr, port uint16) packet.Info {
	seen := *info
	seen.Src, seen.Dst, seen.DstPort = src, dst, port
	echo := packet.IsEcho(info)
	if echo {
		seen.SrcPort = port
	}
	if dst.Is6() == info.Dst.Is6() {
		return seen
	}
	seen.Version = 10 - info.Version // 4 and 6
	if echo {
		seen.Proto = packet.ProtoICMP + packet.ProtoICMPv6 - info.Proto
	} else if packet.IsError(info) {
		seen.Proto = packet.ProtoICMP + packet.ProtoICMPv6 - info.Proto
		seen.ICMPType = anyError(seen.Version)
	}
	return seen
}

// anyError returns the type of one kind of ICMP error: policy does not distinguish them.
func anyError(version uint8) uint8 {
	if version == 6 {
		return 1 // destination unreachable, RFC 4443
	}
	return 3 // destination unreachable, RFC 792
}

// admitError takes an ICMP error that quotes a packet of one of the client's flows, and returns it
// as an error about what the client has sent; also one of the gateway's own kernel, the first router
// on the way. It returns neither bytes nor a verdict for any other.
func (e *Encap) admitError(p *fib.Peer, policy *fib.Policy, b []byte, now int64) ([]byte, fib.Verdict) {
	q := &e.quoted
	if !packet.ParseQuote(b, &e.info, q) {
		return nil, fib.Pass
	}
	proxy, port, hit := e.quotedFlow(p, policy, q, now)
	switch hit {
	case fib.FlowExpired:
		return nil, fib.DropExpiredFlow
	case fib.FlowMiss:
		return nil, fib.Pass
	}
	if !packet.ReportsLoss(&e.info) {
		return nil, fib.DropUntranslatable
	}
	if len(b) > len(e.errors) {
		return nil, fib.DropOversized
	}
	src, dst := e.errorSource(policy, proxy), policy.Addr(proxy.Is6())
	seen := seenInside(&e.info, src, dst, 0)
	if v := policy.AdmitReply(&seen); v != fib.Pass {
		return nil, v
	}
	dstPort := q.DstPort
	if packet.IsEcho(q) {
		dstPort = port
	}
	inner := packet.NewRewrite(q, dst, proxy, port, dstPort)
	var n int
	var ok bool
	if dst.Is6() == e.info.Dst.Is6() {
		n, ok = packet.RewriteError(e.errors, b, &e.info, q, src, dst, &inner, packet.ErrorHopLimit)
	} else {
		header := packet.ErrorHeader{Src: src, Dst: dst, ID: e.ident}
		e.ident++
		if dst.Is6() {
			header.MTU6 = e.table.MTU()
		} else {
			header.MTU4 = e.table.MTU()
		}
		n, ok = inner.TranslateError(e.errors, b, &e.info, q, &header)
	}
	if !ok {
		return nil, fib.DropUntranslatable
	}
	return e.errors[:n], fib.Pass
}

// quotedFlow finds what the client calls the destination of the packet that q describes, one that
// went out by the client's NAT, and the port or identifier that the client sent it from.
func (e *Encap) quotedFlow(p *fib.Peer, policy *fib.Policy, q *packet.Info, now int64) (proxy netip.Addr, port uint16, hit fib.Hit) {
	if q.Src != policy.Addr(q.Src.Is6()) {
		return netip.Addr{}, 0, fib.FlowMiss
	}
	whole := *q
	whole.Fragment = false // the client's packet was whole, a router has quoted its first fragment
	if proto, ok := natProto(&whole); ok {
		if port, proxy, hit = p.Flows().Quoted(proto, q.SrcPort, q.Dst, now); hit != fib.FlowMiss {
			return proxy, port, hit
		}
	}
	if proxy, ok := embedded(policy, q.Dst); ok {
		return proxy, q.SrcPort, fib.FlowFound
	}
	return netip.Addr{}, 0, fib.FlowMiss
}

// errorSource returns the source of an ICMP error about a packet to proxy, as the client sees it:
// behind the NAT64 prefix the node that has sent it, by its embedded address; else proxy itself,
// since the client has no name for anything behind it, nor one of that family for the gateway.
func (e *Encap) errorSource(policy *fib.Policy, proxy netip.Addr) netip.Addr {
	if prefix, ok := policy.Prefix64(); ok && prefix.Contains(proxy) && e.info.Src.Is4() && !policy.FromGateway(e.info.Src) {
		return prefix.Embed(e.info.Src)
	}
	return proxy
}

// translate puts the headers of the other family in front of a superpacket's payload. A packet that
// outgrows the tunnel by that is refused; a TCP superpacket is cut into shorter segments instead.
func (e *Encap) translate(p *batch.Packet, super []byte, r *packet.Rewrite) ([]byte, fib.Verdict) {
	e.rewrite = r
	mtu := e.table.MTU()
	o := &p.Offload
	segment := int(o.SegmentSize)
	if o.Kind == batch.OffloadNone {
		segment = 0
	}
	if r.Dst.Is6() && !e.fitsTranslated(o, &segment, mtu) {
		return super, fib.ReplyTooBig
	}
	if e.info.TCPFlags&packet.FlagSYN != 0 {
		packet.ClampMSS(super, &e.info, translatedMSS(mtu), o.NeedsCsum)
	}
	n, payload, ok := r.Translate(e.headers[:], super, &e.info, o.NeedsCsum, segment, e.ident)
	if !ok || len(p.Room) < batch.PacketRoom {
		return nil, fib.DropUntranslatable
	}
	from := batch.PacketRoom + payload - n
	super = p.Room[from : batch.PacketRoom+len(super)]
	copy(super, e.headers[:n])
	e.ident++
	if segment > 0 {
		e.ident += uint16((len(super) - n) / segment)
	}
	if o.NeedsCsum {
		o.CsumStart += uint16(n - payload)
		o.HdrLen += uint16(n - payload)
	}
	switch o.Kind {
	case batch.OffloadTCP4:
		o.Kind = batch.OffloadTCP6
	case batch.OffloadTCP6:
		o.Kind = batch.OffloadTCP4
	}
	return super, fib.Pass
}

// fitsTranslated reports whether packets of segment bytes of payload, 0 for all there is, fit the
// tunnel with an IPv6 header; it makes the segments of a TCP superpacket fit.
func (e *Encap) fitsTranslated(o *batch.Offload, segment *int, mtu int) bool {
	headers := packet.IPv6Header + e.info.Payload - e.info.L4
	if e.info.Fragment {
		headers += packet.FragmentHeader
	}
	switch {
	case *segment == 0:
		return headers+e.info.Len-e.info.Payload <= mtu
	case headers+*segment <= mtu:
		return true
	case o.Kind == batch.OffloadUDP || headers >= mtu:
		return false
	}
	*segment = mtu - headers
	o.SegmentSize = uint16(*segment)
	return true
}

// mayCut reports whether a packet that outgrows the tunnel by translation may be cut into fragments:
// its sender leaves that to routers, and the client takes fragments.
func (e *Encap) mayCut(policy *fib.Policy, p *batch.Packet, super []byte) bool {
	return policy.Fragments() && p.Offload.Kind == batch.OffloadNone && packet.MayFragment(super, &e.info)
}

// cutFragments carries a packet to the client in fragments (RFC 7915, section 4).
func (e *Encap) cutFragments(peer *fib.Peer, p *batch.Packet, super []byte, now int64) {
	if p.Offload.NeedsCsum {
		packet.FinishChecksum(super, p.Offload.CsumStart, p.Offload.CsumOffset)
	}
	id := packet.Identification(super)
	n, payload, ok := e.rewrite.Translate(e.headers[:], super, &e.info, false, 0, id)
	limit := min(e.table.MTU(), len(e.errors))
	for from := 0; ; {
		size, next := 0, 0
		if ok {
			size, next = packet.CutFragment(e.errors, e.headers[:n], super[payload:e.info.Len], from, limit, id)
		}
		if size == 0 {
			e.counts.drop(fib.DropUntranslatable, 1)
			return
		}
		e.carry(peer, &batch.Packet{}, e.errors[:size], now)
		if next == 0 {
			return
		}
		from = next
	}
}

// refuseReply drops a packet to a client, and offers it to control if its sender is to be told.
func (e *Encap) refuseReply(v fib.Verdict, peer *fib.Peer, p *batch.Packet, super []byte, now int64) {
	e.counts.drop(v, 1)
	if !v.Answered() {
		return
	}
	if p.Offload.Kind != batch.OffloadNone {
		// The first datagram of those that the superpacket stands for.
		if !e.planCut(super, &p.Offload) || e.plan.Size(0) > len(e.errors) {
			return
		}
		super = e.errors[:e.plan.Cut(e.errors, super, 0)]
	} else if p.Offload.NeedsCsum {
		packet.FinishChecksum(super, p.Offload.CsumStart, p.Offload.CsumOffset)
	}
	e.punts.refused(&e.counts, peer, v, super, now)
}
