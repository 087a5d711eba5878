package fastpath

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// The harness is two sides of tunnels in memory, client and gateway, joined by links. A link is a
// peer on each side with one real session between them. No socket, no kernel, no clock.

const (
	client  = 0
	gateway = 1

	testMTU = 1280
	// start is the instant at which tests begin; far from 0, which means never.
	start int64 = 1_000_000_000_000
	// testSegments is what a kernel before 6.9 takes per train.
	testSegments = 63
)

// fataler is what tests, benchmarks and properties have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// inner4 and inner6 are the tunnel addresses of a link on one side, outer its UDP address.
func inner4(side, link int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(side), byte(link), 1})
}

func inner6(side, link int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(side), 15: byte(link)})
}

func outer(side, link int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + side)}), uint16(1000+link))
}

// side is one end of all links: a table, a loop in each direction, and what they put out.
type side struct {
	n              int
	table          *fib.Table
	pool           *bufpool.Pool
	cache          *bufpool.Cache
	signals, inner *Punts
	decap          *Decap
	encap          *Encap
	out            *capture
	in             *batch.Batch
	read           *batch.SuperBatch
	ends           []*end
}

// end is one side of a link.
type end struct {
	peer    *fib.Peer
	session *fib.Session
	conn    uint32
	path    *fib.Path
}

// pair is both sides.
type pair [2]*side

// linkOptions is how a link differs from the usual one, on both sides.
type linkOptions struct {
	roaming fib.Roaming
	pad     bool
	life    func(*fib.Lifetime)
}

const (
	testLanes = 16 // workers a test may have, and control
	testSlabs = 512
)

func newPair(t testing.TB, links int) *pair {
	p := &pair{newSide(t, client, Offloads{TSO: true, USO: true}), newSide(t, gateway, Offloads{TSO: true, USO: true})}
	for range links {
		p.link(t, linkOptions{})
	}
	return p
}

func newSide(t testing.TB, n int, o Offloads) *side {
	pool, err := bufpool.New(testSlabs)
	if err != nil {
		t.Fatal(err)
	}
	s := &side{n: n, table: fib.NewTable(testMTU), pool: pool, cache: pool.NewCache(160), out: new(capture)}
	s.signals, s.inner = NewPunts(8), NewPunts(8)
	s.decap = NewDecap(s.table, 0, manyTrains, s.signals, s.inner, o)
	s.encap = NewEncap(s.table, 0, testSegments, s.cache, s.inner, s.out)
	s.in = batch.NewBatch(manyTrains, s.cache)
	s.read = batch.NewSuperBatch(manySupers, s.cache)
	t.Cleanup(func() {
		s.encap.Release()
		s.in.Release()
		s.read.Release()
		s.cache.Flush()
		if err := pool.Close(); err != nil {
			t.Errorf("slabs leaked: %v", err)
		}
	})
	return s
}

// link adds a link; its session works in both directions at once.
func (p *pair) link(t testing.TB, o linkOptions) {
	t.Helper()
	n := len(p[client].ends)
	var ends [2]*end
	for i, s := range p {
		e := &end{peer: fib.NewPeer(uint64(n), o.roaming, testLanes), path: &fib.Path{Remote: outer(1-i, n)}}
		e.peer.Pad = o.pad
		e.conn, _ = s.table.TakeConnectionID(func() uint32 { return rand.Uint32N(1<<24-1) + 1 })
		s.ends = append(s.ends, e)
		ends[i] = e
		far := 1 - i
		routes := s.table.Routes().With(netip.PrefixFrom(inner4(far, n), 32), e.peer).With(netip.PrefixFrom(inner6(far, n), 128), e.peer)
		s.table.Apply([]fib.Change{fib.SetRoutes{Routes: routes}, fib.SetPath{Peer: e.peer, Path: e.path}})
	}
	keys := handshake(t, ends[0].conn, ends[1].conn)
	for i, s := range p {
		life := fib.Lifetime{RejectAt: fib.Never, SendUntil: fib.Never, RekeyOnSendAt: fib.Never, RekeyOnReceiveAt: fib.Never}
		if o.life != nil {
			o.life(&life)
		}
		ends[i].session = fib.NewSession(ends[i].peer, keys[i], true, life)
		s.table.Apply([]fib.Change{fib.PutSession{Session: ends[i].session}, fib.SetCurrent{Session: ends[i].session}})
	}
}

// handshake runs a WireGuard handshake between two devices inline and returns both keypairs.
func handshake(t testing.TB, conns ...uint32) [2]*wireguard.Keypair {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	private := [2]wireguard.PrivateKey{{8}, {16}}
	var devices [2]*wireguard.Device
	var peers [2]*wireguard.Peer
	for i := range devices {
		devices[i] = wireguard.NewDevice(private[i], wireguard.PlainPolicy(), rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(i)}), now)
		peer, err := devices[i].AddPeer(private[1-i].Public(), wireguard.PresharedKey{}, wireguard.PeerConfig{ConnectionID: conns[i]}, now)
		if err != nil {
			t.Fatal(err)
		}
		peers[i] = peer
	}
	peers[0].Initiate(wireguard.WhyData, now)
	var keys [2]*wireguard.Keypair
	var out wireguard.Output
	for round := 0; keys[0] == nil || keys[1] == nil; round++ {
		if round > 20 {
			t.Fatal("the handshake never ends")
		}
		for i, d := range devices {
			d.Drain(&out)
			for _, s := range out.NewSessions {
				keys[i] = s.Keypair
			}
			jobs := append([]wireguard.Job(nil), out.Jobs...)
			for _, m := range out.Datagrams {
				devices[1-i].HandleMessage(m.Bytes, outer(i, 0), now)
			}
			for _, j := range jobs {
				d.HandleJob(j.Run(), now)
			}
		}
	}
	return keys
}

// capture is a sender that keeps copies.
type capture struct {
	trains []batch.Train
	calls  int
}

func (c *capture) Send(trains []batch.Train) {
	c.calls++
	for _, tr := range trains {
		tr.Buf = append([]byte(nil), tr.Buf...)
		c.trains = append(c.trains, tr)
	}
}

// take returns what was sent since the last take.
func (c *capture) take() []batch.Train {
	t := c.trains
	c.trains, c.calls = nil, 0
	return t
}

// message seals one inner packet from the other side of link n, so that s can open it.
func (p *pair) message(to, link int, inner []byte) []byte {
	return seal(p[1-to].ends[link].session.Keys, inner)
}

func seal(k *wireguard.Keypair, inner []byte) []byte {
	m := make([]byte, wireguard.HeaderSize+len(inner)+wireguard.TagSize)
	copy(m[wireguard.HeaderSize:], inner)
	first, _ := k.Take(1)
	k.Seal(new(wireguard.Scratch), [][]byte{m}, first)
	return m
}

// arrive is a train from the other side of link n.
func (s *side) arrive(link int, stride int, segments ...[]byte) batch.Train {
	var buf []byte
	for _, g := range segments {
		buf = append(buf, g...)
	}
	if stride == 0 {
		stride = len(buf)
	}
	return batch.Train{Buf: buf, Stride: stride, Remote: outer(1-s.n, link), Local: outer(s.n, link)}
}

// receive runs trains through decap and returns copies of what it would write to the tunnel.
func (s *side) receive(trains ...batch.Train) []batch.Super {
	s.in.Trains = append(s.in.Trains[:0], trains...)
	defer s.in.Reset()
	return copied(s.decap.Batch(s.in, start))
}

// each returns messages as trains of one datagram each.
func (s *side) each(link int, msgs ...[]byte) (trains []batch.Train) {
	for _, m := range msgs {
		trains = append(trains, s.arrive(link, 0, append([]byte(nil), m...)))
	}
	return trains
}

// transmit runs packets from the tunnel through encap and returns the trains sent.
func (s *side) transmit(packets ...batch.Packet) []batch.Train {
	s.read.Packets = append(s.read.Packets[:0], packets...)
	defer s.read.Reset()
	s.encap.Batch(s.read, start)
	return s.out.take()
}

func copied(supers []batch.Super) []batch.Super {
	out := make([]batch.Super, len(supers))
	for i, s := range supers {
		out[i] = batch.Super{Head: append([]byte(nil), s.Head...), Offload: s.Offload}
		for _, p := range s.Payloads {
			out[i].Payloads = append(out[i].Payloads, append([]byte(nil), p...))
		}
	}
	return out
}

// flat returns a superpacket's bytes in one piece.
func flat(s batch.Super) []byte {
	b := append([]byte(nil), s.Head[batch.SuperHeadroom:]...)
	for _, p := range s.Payloads {
		b = append(b, p...)
	}
	return b
}

// kernel does with a super what the kernel does: takes it as it is, or cuts it. What comes out is
// judged by an independent decoder.
func kernel(t fataler, s batch.Super) (packets [][]byte) {
	t.Helper()
	b := flat(s)
	if s.Offload.Kind == batch.OffloadNone {
		if s.Offload != (batch.Offload{}) || s.Payloads != nil {
			t.Fatalf("a single packet with offload %+v and %d payloads", s.Offload, len(s.Payloads))
		}
		return [][]byte{b}
	}
	checkOffload(t, s, b)
	o := &s.Offload
	plan, ok := packet.PlanCut(b, packet.Kind(o.Kind), o.SegmentSize, o.CsumStart, o.CsumOffset)
	if !ok || plan.Count() < 2 {
		t.Fatalf("superpacket that cannot be cut: %+v of %d bytes", o, len(b))
	}
	for i := range plan.Count() {
		cut := make([]byte, plan.Size(i))
		plan.Cut(cut, b, i)
		judge(t, cut)
		packets = append(packets, cut)
	}
	return packets
}

// checkOffload checks what the kernel relies on: lengths, and the bare pseudo-header sum.
func checkOffload(t fataler, s batch.Super, b []byte) {
	t.Helper()
	o := &s.Offload
	if !o.NeedsCsum || int(o.SegmentSize) == 0 || len(s.Payloads) == 0 || len(b) > maxSuperBytes {
		t.Fatalf("offload %+v with %d payloads, %d bytes", o, len(s.Payloads), len(b))
	}
	if o.Kind == batch.OffloadUDP && len(s.Payloads)+1 > maxDatagrams {
		t.Fatalf("%d datagrams in one superpacket", len(s.Payloads)+1)
	}
	field := binary.BigEndian.Uint16(b[o.CsumStart+o.CsumOffset:])
	if want := pseudo(b, int(o.CsumStart)); field != want {
		t.Fatalf("partial checksum %04x, want %04x", field, want)
	}
	if b[0]>>4 == 4 && slowSum(b[:20], 0) != 0xffff {
		t.Fatalf("IPv4 header checksum of the superpacket is wrong")
	}
	for i, p := range s.Payloads {
		if len(p) == 0 || len(p) > int(o.SegmentSize) || i < len(s.Payloads)-1 && len(p) != int(o.SegmentSize) {
			t.Fatalf("payload %d of %d has %d bytes, segments have %d", i, len(s.Payloads), len(p), o.SegmentSize)
		}
	}
}
