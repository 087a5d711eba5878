package fastpath

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/packet"
	"pgregory.net/rapid"
)

// Random superpackets of several flows go through encap, a network that splits trains, swaps
// neighbours within a train and duplicates, and decap. Each flow's bytes come back as they were,
// nothing twice, every packet with right lengths and checksums, datagrams in their order.
func TestWhatEncapSendsDecapDelivers(t *testing.T) {
	p := newPair(t, 3)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "network"), 1))
		type key struct {
			link int
			port uint16
		}
		want, got := map[key][]byte{}, map[key][]byte{}
		var in []batch.Packet
		for range rapid.IntRange(1, 12).Draw(t, "packets") {
			f := flow{from: client, link: rng.IntN(3), sport: uint16(rng.IntN(3)), v6: rng.IntN(2) == 0, tos: uint8(rng.IntN(3))}
			f.udp = f.sport == 0
			size := 1 + rng.IntN(1200)
			f.payload = fill(1+rng.IntN(20*size), rng.Uint32())
			k := key{f.link, f.sport*2 + uint16(len(f.addressesKey()))}
			f.seq = uint32(len(want[k]))
			if rng.IntN(2) == 0 {
				f.flags = packet.FlagACK | packet.FlagPSH
			}
			want[k] = append(want[k], f.payload...)
			in = append(in, f.asRead(size))
		}
		for _, s := range p[gateway].receive(network(rng, p[client].transmit(in...))...) {
			for _, b := range kernel(t, s) {
				j := judge(t, b)
				link := int(j.src.As16()[15])
				if j.src.Is4() {
					link = int(j.src.As4()[2])
				}
				k := key{link, (j.sport-4000)*2 + uint16(len(j.src.AsSlice()))}
				if j.udp {
					got[k] = append(got[k], j.payload...)
					continue
				}
				for len(got[k]) < int(j.seq)+len(j.payload) {
					got[k] = append(got[k], make([]byte, int(j.seq)+len(j.payload)-len(got[k]))...)
				}
				copy(got[k][j.seq:], j.payload)
			}
		}
		for k := range want {
			if !bytes.Equal(got[k], want[k]) {
				t.Fatalf("flow %+v: %d bytes arrive, want %d", k, len(got[k]), len(want[k]))
			}
		}
	})
}

// addressesKey tells the families of a flow apart.
func (f flow) addressesKey() []byte {
	src, _ := f.addresses()
	return src.AsSlice()
}

// network splits trains, swaps neighbours that are of full length within a train, and sends
// some segments twice.
func network(rng *rand.Rand, trains []batch.Train) (out []batch.Train) {
	for _, tr := range trains {
		for from := 0; from < tr.Len(); {
			to := from + 1 + rng.IntN(tr.Len()-from)
			part := tr
			part.Buf = append([]byte(nil), tr.Buf[from*tr.Stride:min(to*tr.Stride, len(tr.Buf))]...)
			full := len(part.Buf) / tr.Stride
			for i := 1; i < full; i++ {
				if rng.IntN(4) == 0 {
					a, b := part.Segment(i-1), part.Segment(i)
					for k := range a {
						a[k], b[k] = b[k], a[k]
					}
				}
			}
			out = append(out, part)
			if rng.IntN(3) == 0 {
				again := part
				again.Buf = append([]byte(nil), part.Buf...)
				out = append(out, again)
			}
			from = to
		}
	}
	if len(out) > manyTrains {
		return trains
	}
	return out
}
