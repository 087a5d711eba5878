package fastpath

import (
	"fmt"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

// bench holds the packets of one batch in all the forms that the stages want.
type bench struct {
	p        *pair
	n        int
	plain    [][]byte // inner packets, behind SuperHeadroom
	msgs     [][]byte // the same, sealed at first counter 0 of a far session
	open     [][]byte // room to open them in
	infos    []packet.Info
	counters []uint64
	ok       []bool
	super    batch.Packet
	keys     *wireguard.Keypair
	scratch  wireguard.Scratch
	next     uint64
}

const benchPacket = 1280

func newBench(b *testing.B, n int) *bench {
	s := &bench{p: newPair(b, 1), n: n, infos: make([]packet.Info, n), counters: make([]uint64, n), ok: make([]bool, n)}
	s.keys = s.p[client].ends[0].session.Keys
	for _, f := range chain(flow{}, n, benchPacket-40) {
		ip := f.build()
		s.plain = append(s.plain, append(make([]byte, batch.SuperHeadroom), ip...))
		m := make([]byte, wireguard.HeaderSize+len(ip)+wireguard.TagSize)
		copy(m[wireguard.HeaderSize:], ip)
		s.msgs = append(s.msgs, m)
		s.open = append(s.open, make([]byte, len(m)))
	}
	for i := range s.plain {
		packet.Parse(s.plain[i][batch.SuperHeadroom:], &s.infos[i])
	}
	s.super = flow{from: client, payload: fill(min(n, 51)*(benchPacket-40), 1)}.asRead(benchPacket - 40)
	s.seal()
	return s
}

// seal seals the messages anew, under counters that no one has seen.
func (s *bench) seal() {
	first, _ := s.keys.Take(s.n)
	s.keys.Seal(&s.scratch, s.msgs, first)
	for i := range s.counters {
		s.counters[i] = first + uint64(i)
	}
}

// BenchmarkStages times each step of both pipelines at 1, 8 and 64 packets of 1280 bytes a batch.
// What a step needs to be able to run again (messages to open, trains to fill) is part of it where
// the step destroys its input: "open" holds a copy of 1,312 bytes a packet, and "decap" the
// sealing too, which "seal" gives the price of.
func BenchmarkStages(b *testing.B) {
	for _, stage := range []struct {
		name string
		run  func(s *bench) func()
	}{
		{"classify", func(s *bench) func() {
			return func() {
				for _, m := range s.msgs {
					if classify(m) != classData {
						panic("misread")
					}
				}
			}
		}},
		{"copy", func(s *bench) func() { return s.fresh }},
		{"open", func(s *bench) func() {
			k := s.p[gateway].ends[0].session.Keys
			return func() {
				s.fresh()
				k.Open(&s.scratch, s.open, s.counters, s.ok)
			}
		}},
		{"accept", func(s *bench) func() {
			session := s.p[gateway].ends[0].session
			return func() {
				for i := range s.ok {
					s.next++
					s.ok[i], s.counters[i] = true, s.next
				}
				session.Accept(s.counters, s.ok)
			}
		}},
		{"admit", func(s *bench) func() {
			d, peer := s.p[gateway].decap, s.p[gateway].ends[0].peer
			return func() {
				for _, ip := range s.plain {
					if !packet.Parse(ip[batch.SuperHeadroom:], &d.info) || !d.owned(peer, nil) {
						panic("refused")
					}
				}
			}
		}},
		{"coalesce", func(s *bench) func() {
			c := newCoalescer(s.n, Offloads{TSO: true})
			heads := make([][]byte, s.n)
			for i := range heads {
				heads[i] = append([]byte(nil), s.plain[i][:64]...)
			}
			return func() {
				c.reset()
				for i, ip := range s.plain {
					copy(ip, heads[i]) // joining rewrites the first packet's headers
					c.add(ip, &s.infos[i], nil, nil)
				}
				c.finish()
			}
		}},
		{"cut", func(s *bench) func() {
			return func() {
				plan, _ := packet.PlanCut(s.super.Buf, packet.KindTCP4, benchPacket-40, 20, 16)
				for i := range plan.Count() {
					plan.Cut(s.open[i][wireguard.HeaderSize:], s.super.Buf, i)
				}
			}
		}},
		{"seal", func(s *bench) func() { return s.seal }},
		{"decap", func(s *bench) func() {
			d, in := s.p[gateway].decap, s.p[gateway].in
			buf := make([]byte, 0, s.n*len(s.msgs[0]))
			return func() {
				s.seal()
				in.Reset()
				all := buf
				for from := 0; from < s.n; from += 48 { // as many as one receive holds
					at := len(all)
					for _, m := range s.msgs[from:min(from+48, s.n)] {
						all = append(all, m...)
					}
					in.Trains = append(in.Trains, batch.Train{Buf: all[at:], Stride: len(s.msgs[0]), Remote: outer(client, 0)})
				}
				d.Batch(in, start)
				s.replant()
			}
		}},
		{"encap", func(s *bench) func() {
			c := s.p[client]
			e := NewEncap(c.table, 0, testSegments, c.cache, c.inner, nowhere{})
			s.p[client].encap.Release()
			c.encap = e // released by the harness
			return func() {
				c.read.Packets = append(c.read.Packets[:0], s.super)
				e.Batch(c.read, start)
			}
		}},
	} {
		for _, n := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/packets=%d", stage.name, n), func(b *testing.B) {
				s := newBench(b, n)
				run := stage.run(s)
				packets := n
				if stage.name == "cut" || stage.name == "encap" {
					packets = min(n, 51) // what 64 KiB hold
				}
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
				per := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(packets)
				b.ReportMetric(per, "ns/packet")
				b.ReportMetric(benchPacket/per, "B/ns")
			})
		}
	}
}

func (s *bench) fresh() {
	for i, m := range s.msgs {
		copy(s.open[i], m)
	}
}

// replant puts the inner packets back into the messages that sealing has encrypted.
func (s *bench) replant() {
	for i, m := range s.msgs {
		copy(m[wireguard.HeaderSize:], s.plain[i][batch.SuperHeadroom:])
	}
}

// nowhere is a sender that forgets.
type nowhere struct{}

func (nowhere) Send([]batch.Train) {}
