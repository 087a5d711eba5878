package fastpath

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/packet"
)

// shapes of what coalescing makes of a list of packets: how many packets each super stands for.
func shapesOf(supers []batch.Super) (n []int) {
	for _, s := range supers {
		n = append(n, 1+len(s.Payloads))
	}
	return n
}

// coalesced seals flows, one message each, and decapsulates them in trains of up to 100.
func coalesced(p *pair, flows ...flow) []batch.Super {
	g := p[gateway]
	var trains []batch.Train
	for _, f := range flows {
		trains = append(trains, g.each(f.link, p.message(gateway, f.link, f.build()))...)
	}
	return g.receive(trains...)
}

// chain returns n consecutive packets of a flow with payloads of size bytes.
func chain(f flow, n, size int) (flows []flow) {
	for range n {
		f.payload = fill(size, f.seq+uint32(f.id))
		flows = append(flows, f)
		f.seq += uint32(size)
		f.id++
	}
	return flows
}

func with(flows []flow, i int, change func(f *flow)) []flow {
	change(&flows[i])
	return flows
}

// What joins and what does not, by the number of packets in each superpacket. Four packets of 100
// bytes, one of them changed; whatever happens, the payloads come out in order.
func TestCoalesceRules(t *testing.T) {
	tcp, udp := flow{seq: 1000, ack: 5}, flow{udp: true}
	for _, c := range []struct {
		name   string
		base   flow
		change func(f *flow) // of the third packet
		want   []int
	}{
		{"consecutive segments join", tcp, func(*flow) {}, []int{4}},
		{"consecutive datagrams join", udp, func(*flow) {}, []int{4}},
		{"another acknowledgement ends a superpacket", tcp, func(f *flow) { f.ack++ }, []int{2, 1, 1}},
		{"another window ends a superpacket", tcp, func(f *flow) { f.window++ }, []int{2, 1, 1}},
		{"options end a superpacket", tcp, func(f *flow) { f.options = []byte{1, 1, 1, 1} }, []int{2, 1, 1}},
		{"another urgent pointer ends a superpacket", tcp, func(f *flow) { f.urgent = 1 }, []int{2, 1, 1}},
		{"ECE ends a superpacket of others", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagECE }, []int{2, 1, 1}},
		{"CWR stands alone", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagCWR }, []int{2, 1, 1}},
		{"FIN stands alone", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagFIN }, []int{2, 1, 1}},
		{"SYN stands alone", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagSYN }, []int{2, 1, 1}},
		{"RST stands alone", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagRST }, []int{2, 1, 1}},
		{"URG stands alone", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagURG }, []int{2, 1, 1}},
		{"no ACK stands alone", tcp, func(f *flow) { f.flags = packet.FlagPSH }, []int{2, 1, 1}},
		{"PSH joins and ends", tcp, func(f *flow) { f.flags = packet.FlagACK | packet.FlagPSH }, []int{3, 1}},
		{"a gap in sequence numbers ends a superpacket", tcp, func(f *flow) { f.seq += 1000 }, []int{2, 1, 1}},
		{"a segment sent again ends a superpacket", tcp, func(f *flow) { f.seq -= 100 }, []int{2, 1, 1}},
		{"a shorter segment joins and ends", tcp, func(f *flow) { f.payload = f.payload[:99] }, []int{3, 1}},
		{"a shorter datagram joins and ends", udp, func(f *flow) { f.payload = f.payload[:1] }, []int{3, 1}},
		{"a longer segment starts anew", tcp, func(f *flow) { f.payload = fill(101, 3) }, []int{2, 1, 1}},
		{"a longer datagram starts anew, and the next ends it", udp, func(f *flow) { f.payload = fill(101, 3) }, []int{2, 2}},
		{"a pure acknowledgement stands alone", tcp, func(f *flow) { f.payload = nil }, []int{2, 1, 1}},
		{"an empty datagram stands alone", udp, func(f *flow) { f.payload = nil }, []int{2, 1, 1}},
		{"a datagram without checksum stands alone", udp, func(f *flow) { f.zeroSum = true }, []int{2, 1, 1}},
		{"a datagram shorter than its packet stands alone", udp, func(f *flow) { f.claimed = 5 }, []int{2, 1, 1}},
		{"a wrong checksum passes alone", tcp, func(f *flow) { f.badSum = true }, []int{2, 1, 1}},
		{"a wrong UDP checksum passes alone", udp, func(f *flow) { f.badSum = true }, []int{2, 1, 1}},
		{"another type of service ends a superpacket", tcp, func(f *flow) { f.tos = 2 }, []int{2, 1, 1}},
		{"another hop limit ends a superpacket", tcp, func(f *flow) { f.ttl++ }, []int{2, 1, 1}},
		{"another source port is another flow", tcp, func(f *flow) { f.sport++ }, []int{2, 1, 1}},
		{"another protocol keeps everything behind it", tcp, func(f *flow) { f.proto = 47 }, []int{2, 1, 1}},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/v6=%v", c.name, v6), func(t *testing.T) {
				c.base.v6 = v6
				flows := with(chain(c.base, 4, 100), 2, c.change)
				if v6 && flows[2].zeroSum {
					flows[2].tos = 0 // a packet that is not valid over IPv6: it passes alone as well
				}
				checkCoalesced(t, newPair(t, 1), c.want, flows)
			})
		}
	}
}

// The same for what only IPv4 or only IPv6 has.
func TestCoalesceRulesOfOneFamily(t *testing.T) {
	for _, c := range []struct {
		name   string
		base   flow
		change func(f *flow)
		want   []int
	}{
		{"identification is free where DF is set", flow{id: 65534}, func(f *flow) { f.id = 7 }, []int{4}},
		{"identification counts up without DF", flow{id: 65534, mayFragment: true}, func(*flow) {}, []int{4}},
		{"another identification without DF ends a superpacket", flow{mayFragment: true}, func(f *flow) { f.id = 77 }, []int{2, 1, 1}},
		{"datagrams without DF count up too", flow{udp: true, mayFragment: true}, func(f *flow) { f.id = 77 }, []int{2, 1, 1}},
		{"another DF ends a superpacket", flow{}, func(f *flow) { f.mayFragment = true }, []int{2, 1, 1}},
		{"a fragment keeps everything behind it", flow{udp: true}, func(f *flow) { f.fragment = 0x2000 }, []int{2, 1, 1}},
		{"a later fragment keeps everything behind it", flow{udp: true}, func(f *flow) { f.fragment = 0x0010 }, []int{2, 1, 1}},
		{"IPv4 options keep everything behind them", flow{}, func(f *flow) { f.ipOptions = []byte{1, 1, 1, 0} }, []int{2, 1, 1}},
		{"a wrong header checksum passes alone", flow{}, func(f *flow) { f.badHeader = true }, []int{2, 1, 1}},
		{"another flow label ends a superpacket", flow{v6: true}, func(f *flow) { f.label = 5 }, []int{2, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkCoalesced(t, newPair(t, 1), c.want, with(chain(c.base, 4, 100), 2, c.change))
		})
	}
}

// checkCoalesced compares shapes, and that every packet comes out as it went in, in order.
func checkCoalesced(t *testing.T, p *pair, want []int, flows []flow) {
	t.Helper()
	var before [][]byte
	for _, f := range flows {
		before = append(before, f.build())
	}
	supers := coalesced(p, flows...)
	if got := shapesOf(supers); !slices.Equal(got, want) {
		t.Errorf("superpackets of %v packets, want %v", got, want)
	}
	i := 0
	for _, s := range supers {
		for _, b := range kernel(t, s) {
			if i == len(before) {
				t.Fatal("more packets than went in")
			}
			if !samePacket(b, before[i]) {
				t.Errorf("packet %d is %x, was %x", i, b, before[i])
			}
			i++
		}
	}
	if i != len(before) {
		t.Errorf("%d packets, want %d", i, len(before))
	}
}

// samePacket compares two packets in everything but the identification of an IPv4 packet that may
// not be fragmented, which means nothing (RFC 6864), and the checksum over it.
func samePacket(a, b []byte) bool {
	if len(a) >= 20 && len(b) >= 20 && a[0] == 0x45 && a[6]&0x40 != 0 && slowSum(b[:20], 0) == 0xffff {
		a, b = bytes.Clone(a), bytes.Clone(b)
		copy(a[4:6], b[4:6])
		copy(a[10:12], b[10:12])
	}
	return bytes.Equal(a, b)
}

// A first packet with a wrong checksum must not have its checksum replaced by a right one.
func TestWrongChecksumOfFirstPacketIsKept(t *testing.T) {
	for _, udp := range []bool{false, true} {
		flows := with(chain(flow{udp: udp}, 3, 100), 0, func(f *flow) { f.badSum = true })
		want := flows[0].build()
		supers := coalesced(newPair(t, 1), flows...)
		if got := shapesOf(supers); !slices.Equal(got, []int{1, 2}) && !slices.Equal(got, []int{1, 1, 1}) {
			t.Errorf("superpackets of %v packets", got)
		}
		if !bytes.Equal(flat(supers[0]), want) {
			t.Error("the packet with the wrong checksum was changed")
		}
	}
}

func TestPushStandsOnlyOnTheLastSegment(t *testing.T) {
	flows := with(chain(flow{}, 3, 100), 2, func(f *flow) { f.flags = packet.FlagACK | packet.FlagPSH })
	supers := coalesced(newPair(t, 1), flows...)
	if len(supers) != 1 {
		t.Fatalf("%d superpackets", len(supers))
	}
	for i, b := range kernel(t, supers[0]) {
		if got := judge(t, b).flags&packet.FlagPSH != 0; got != (i == 2) {
			t.Errorf("segment %d has PSH %v", i, got)
		}
	}
}

func TestDatagramsJoinUpToTheKernelsLimit(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		supers := coalescedInTrain(newPair(t, 1), chain(flow{udp: true, v6: v6}, 70, 50)...)
		if got := shapesOf(supers); !slices.Equal(got, []int{64, 6}) {
			t.Errorf("superpackets of %v datagrams", got)
		}
	}
}

func TestSegmentsJoinUpTo64KiB(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		supers := coalescedInTrain(newPair(t, 1), chain(flow{v6: v6}, 60, 1200)...)
		header := 40
		if v6 {
			header = 60
		}
		fit := (maxSuperBytes - header) / 1200
		if got := shapesOf(supers); !slices.Equal(got, []int{fit, 60 - fit}) {
			t.Errorf("superpackets of %v segments, want %d first", got, fit)
		}
		for _, s := range supers {
			kernel(t, s)
		}
	}
}

// coalescedInTrain is coalesced with all messages in one train.
func coalescedInTrain(p *pair, flows ...flow) []batch.Super {
	var msgs [][]byte
	for _, f := range flows {
		msgs = append(msgs, p.message(gateway, 0, f.build()))
	}
	return p[gateway].receive(p[gateway].arrive(0, len(msgs[0]), msgs...))
}

// Packets of several flows that alternate join per flow; superpackets stand in the order of their
// first packets.
func TestInterleavedFlowsJoinApart(t *testing.T) {
	var flows []flow
	a, b, c := chain(flow{}, 5, 100), chain(flow{sport: 1, v6: true}, 5, 80), chain(flow{sport: 2, udp: true}, 5, 60)
	for i := range 5 {
		flows = append(flows, a[i], b[i], c[i])
	}
	supers := coalesced(newPair(t, 1), flows...)
	if got := shapesOf(supers); !slices.Equal(got, []int{5, 5, 5}) {
		t.Fatalf("superpackets of %v packets", got)
	}
	for i, s := range supers {
		for _, b := range kernel(t, s) {
			if got := judge(t, b); got.sport != 4000+uint16(i) {
				t.Errorf("superpacket %d has a packet from port %d", i, got.sport)
			}
		}
	}
}

// More flows than slots: flows that meet in a slot end each other's superpackets, no more.
func TestManyFlowsKeepTheirOrder(t *testing.T) {
	p := newPair(t, 1)
	const many = 200
	next := map[uint16]uint32{}
	for range 3 {
		var msgs [][]byte
		for i := range 120 {
			f := flow{sport: uint16(i*7%many) % 97, seq: next[uint16(i*7%many)%97]}
			f.payload = fill(40, 1)
			next[f.sport] += 40
			msgs = append(msgs, p.message(gateway, 0, f.build()))
		}
		got := map[uint16]uint32{}
		for _, s := range p[gateway].receive(p[gateway].arrive(0, len(msgs[0]), msgs...)) {
			for _, b := range kernel(t, s) {
				j := judge(t, b)
				if last, ok := got[j.sport]; ok && j.seq != last+40 {
					t.Fatalf("port %d: %d after %d", j.sport, j.seq, last)
				}
				got[j.sport] = j.seq
			}
		}
	}
}

// A tunnel that takes no superpackets gets every packet alone, untouched.
func TestOffloadsThatAreOffJoinNothing(t *testing.T) {
	for _, o := range []Offloads{{}, {TSO: true}, {USO: true}} {
		p := &pair{newSide(t, client, o), newSide(t, gateway, o)}
		p.link(t, linkOptions{})
		tcp, udp := []int{1, 1, 1}, []int{1, 1, 1}
		if o.TSO {
			tcp = []int{3}
		}
		if o.USO {
			udp = []int{3}
		}
		checkCoalesced(t, p, tcp, chain(flow{}, 3, 100))
		checkCoalesced(t, p, udp, chain(flow{udp: true}, 3, 100))
	}
}

// IPv6 extension headers are opaque: such packets pass alone and nothing overtakes them.
func TestExtensionHeadersPassAlone(t *testing.T) {
	p := newPair(t, 1)
	plain := flow{v6: true, udp: true, payload: fill(100, 2)}
	b := plain.build()
	extended := slices.Concat(b[:40], []byte{packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}, b[40:])
	extended[6] = 60 // destination options
	extended[4], extended[5] = 0, byte(len(extended)-40)
	g := p[gateway]
	supers := g.receive(g.each(0, p.message(gateway, 0, b), p.message(gateway, 0, b), p.message(gateway, 0, extended), p.message(gateway, 0, b))...)
	if got := shapesOf(supers); !slices.Equal(got, []int{2, 1, 1}) || !bytes.Equal(flat(supers[1]), extended) {
		t.Errorf("superpackets of %v packets", got)
	}
}

// A vectored write takes so many pieces: more would be refused as a whole.
func TestAFlowOfTinySegmentsStaysWithinOneWrite(t *testing.T) {
	const segments = 2500
	p := newPair(t, 1)
	supers := coalesced(p, chain(flow{seq: 1000, ack: 5}, segments, 20)...)
	total := 0
	for _, s := range supers {
		if len(s.Payloads) >= maxSegmentsTCP {
			t.Errorf("%d payloads in one superpacket", len(s.Payloads))
		}
		total += 1 + len(s.Payloads)
	}
	if total != segments {
		t.Errorf("%d segments came out of %d", total, segments)
	}
}
