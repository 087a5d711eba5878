package relay

import (
	"testing"

	"github.com/firelane/firelane/batch"
)

// One operation is one turn for 50 segments of 1,280 bytes, as one train or as single datagrams,
// in one direction over loopback: their sending and the kernel's part in it are included.
func BenchmarkTurn(b *testing.B) {
	const segments = 50
	for _, c := range []struct {
		name   string
		up     bool
		single bool
	}{{"train to peer", true, false}, {"train to client", false, false}, {"datagrams to peer", true, true}, {"datagrams to client", false, true}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b)
			client, peer := r.end(false), r.end(false)
			a := r.allocate(client)
			bind(a, 0x4000, peer.addr)
			r.turn()
			payload := pattern(segments*1280, 1)
			from, to, buf, stride, dst := peer, client, payload, 1280, relayed(a, peer)
			if c.up {
				from, to, buf, stride, dst = client, peer, wrapped(0x4000, payload, 1280), 1284, r.listens(client)
			}
			var trains []batch.Train
			for at := 0; at < len(buf); at += stride {
				trains = append(trains, batch.Train{Buf: buf[at:][:stride], Stride: stride, Remote: dst})
			}
			if !c.single {
				trains = []batch.Train{{Buf: buf, Stride: stride, Remote: dst}}
			}
			sent := make([]batch.Train, len(trains))
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				copy(sent, trains)
				if n, err := from.Send(sent); n != len(sent) || err != nil {
					b.Fatal(n, err)
				}
				r.turn()
				if err := to.Recv(r.in); err != nil || len(r.in.Trains) != 1 {
					b.Fatal(len(r.in.Trains), err)
				}
			}
		})
	}
}
